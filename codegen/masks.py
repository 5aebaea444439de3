"""What the loops of a tile kernel need of its mask, printed: spans, verdicts, summaries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from irc.codegen.expr import (
    FALSE,
    TRUE,
    Expr,
    Kind,
    Load,
    Local,
    Op,
    children,
    flat,
    indices,
    integer,
    op,
    rebuild,
    walk,
)
from irc.codegen.kernel import Side, Span, Summary, TileKernel, Verdict
from irc.codegen.names import identifier
from irc.codegen.positions import extent, size, unflatten
from irc.codegen.printer import print_scalar
from irc.codegen.repeated import Repeated

SIDES: tuple[Side, ...] = ("row", "column")
UNITS: dict[Side, tuple[str, str]] = {"row": ("PANEL", "ROWS"), "column": ("BLOCK", "COLUMNS")}
"""The shortest stretch of a side that a verdict is asked of, and the longest."""


@dataclass(frozen=True, slots=True)
class SpanText:
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class SummaryText:
    """`points`: how many vectors there are, one for each point of the batch axes that the value reads; `point`: which
    is the task's; `batch` and `indices`: what names the value reads, from `point_at` and `position_at`."""

    name: str
    side: Side
    unit: str
    tile: str
    points: str
    point: str
    batch: tuple[tuple[str, str], ...]
    indices: tuple[tuple[str, str], ...]
    value: str


@dataclass(frozen=True, slots=True)
class SearchText:
    name: str
    summary: str
    up_to: bool
    point: str
    value: str


@dataclass(frozen=True, slots=True)
class PartText:
    """A number or truth with a name: what verdicts read of a part of one side beside its ends, or several spans."""

    type: str
    name: str
    text: str


def mask_context(kernel: TileKernel) -> dict[str, object]:
    """The names that the macros of mask.j2 read, of a kernel that walks its columns."""
    verdict = kernel.verdict or Verdict(TRUE, FALSE if kernel.support else TRUE)
    parts = {side: _parts(side, kernel.summaries) for side in SIDES}
    verdict = Verdict(_hoist(verdict.may, parts), _hoist(verdict.must, parts))
    summaries = tuple(_summary(s, kernel) for s in kernel.summaries)
    points = {s.name: text.point for s, text in zip(kernel.summaries, summaries, strict=True)}
    everything = Span(integer(0), op("sub", size(kernel.columns), integer(1)))  # where the mask bounds nothing
    spans, span_parts = span_texts(kernel.spans if kernel.spans is not None else (everything,))
    return {
        "may": print_scalar(verdict.may),
        "must": print_scalar(verdict.must),
        "spans": spans,
        "span_parts": span_parts,
        "summaries": summaries,
        "searches": tuple(
            SearchText(identifier(s.name), identifier(s.summary), s.up_to, points[s.summary], print_scalar(s.value))
            for s in kernel.searches
        ),
        **{f"{s}_cuts": tuple(print_scalar(c.every) for c in kernel.cuts if c.side == s) for s in SIDES},
        **{f"{s}_values": tuple(identifier(name.name) for name in parts[s].values()) for s in SIDES},
        **{f"{s}_parts": _part_texts(f"{s} shared", parts[s]) for s in SIDES},
    }


def _parts(side: Side, summaries: Sequence[Summary]) -> dict[Expr, Local]:
    """Values of a part of the side, and their names: at first the ends of its summaries, under the names they have."""
    ends = [Local(f"{s.name} {end}", Kind.INT) for s in summaries if s.side == side for end in ("low", "high")]
    return {end: end for end in ends}


def _part_texts(name: str, parts: dict[Expr, Local]) -> tuple[PartText, ...]:
    """The parts that have no names yet, each after what it shares with others."""
    shared = _shared(name, list(parts))
    texts = [(local, shared.replaced(value)) for value, local in parts.items() if local is not value]
    return _texts((*shared.parts.items(), *texts))


def _shared(name: str, exprs: Sequence[Expr]) -> Repeated:
    return Repeated(exprs, name, eager=lambda e: not _reads_elements(e))


def _texts(parts: Iterable[tuple[Local, Expr]]) -> tuple[PartText, ...]:
    types = {Kind.INT: "int64_t", Kind.BOOL: "bool"}
    return tuple(PartText(types[name.kind], identifier(name.name), print_scalar(value)) for name, value in parts)


def _hoist(verdict: Expr, parts: dict[Side, dict[Expr, Local]]) -> Expr:
    """The verdict with divisions and segments of one side alone as values of its parts, of which there are fewer than
    rectangles."""
    corners = {s: {f"{s} first", f"{s} last", *(e.name for e in parts[s].values())} for s in SIDES}

    def place(expr: Expr) -> Expr | None:
        if not isinstance(expr, Op) or expr.kind is not Kind.INT:
            return None
        below = list(walk(expr))
        locals_ = {e.name for e in below if isinstance(e, Local)}
        takes_long = any(isinstance(e, Op) and e.name in ("floordiv", "mod", "segment") for e in below)
        if not takes_long or _reads_elements(expr):  # which may be read under a condition alone
            return None
        for side in SIDES:
            if locals_ and locals_ <= corners[side]:
                return parts[side].setdefault(expr, Local(f"{side} part {len(parts[side])}", Kind.INT))
        return None

    return rebuild(verdict, place)


def _reads_elements(expr: Expr) -> bool:
    """Whether the value depends on an element at a place of its own: a segment is told from its whole table."""
    match expr:
        case Load():
            return bool(expr.indices)
        case Op("segment", (_, *others), _):
            return any(_reads_elements(e) for e in others)
        case _:
            return any(_reads_elements(e) for e in children(expr))


def span_texts(spans: Sequence[Span]) -> tuple[tuple[SpanText, ...], tuple[PartText, ...]]:
    """Spans, and before them what their ends have in common."""
    shared = _shared("span part", [end for span in spans for end in (span.first, span.last)])
    texts = [SpanText(*(print_scalar(shared.replaced(end)) for end in (s.first, s.last))) for s in spans]
    return tuple(texts), _texts(shared.parts.items())


def _summary(summary: Summary, kernel: TileKernel) -> SummaryText:
    axes = kernel.rows if summary.side == "row" else kernel.columns
    read = indices(summary.value)
    batch = tuple(a for a in (*kernel.batch, *kernel.serial) if a.name in read)
    value = print_scalar(summary.value)
    return SummaryText(
        identifier(summary.name),
        summary.side,
        *UNITS[summary.side],
        points=extent(batch) if batch else "1",
        point=print_scalar(flat(tuple((a.index, a.size) for a in batch)) if batch else integer(0)),
        batch=unflatten(batch, "point_at") if batch else (),
        indices=unflatten(axes, "position_at"),
        value=value,
    )
