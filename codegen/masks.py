"""What the loops of a tile kernel need of its mask, printed: spans, verdicts, summaries."""

from __future__ import annotations

from dataclasses import dataclass

from irc.codegen.expr import flat, indices, integer
from irc.codegen.kernel import Side, Summary, TileKernel
from irc.codegen.positions import extent, unflatten
from irc.codegen.printer import identifier, print_scalar

UNITS: dict[str, dict[Side, tuple[str, str]]] = {
    "rows": {"row": ("PANEL", "ROWS"), "column": ("BLOCK", "COLUMNS")},
    "elements": {"row": ("row_tile", "row_tile"), "column": ("column_tile", "column_tile")},
}
"""By a kernel's order: the shortest stretch of a side that a verdict is asked of, and the longest."""


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


def mask_context(kernel: TileKernel) -> dict[str, object]:
    """The names that the macros of mask.j2 read, of a kernel that walks its columns."""
    verdict = kernel.verdict
    summaries = tuple(_summary(s, kernel) for s in kernel.summaries)
    points = {s.name: s.point for s in summaries}
    return {
        "may": "true" if verdict is None else print_scalar(verdict.may),
        "must": str(kernel.support is None).lower() if verdict is None else print_scalar(verdict.must),
        "spans": _spans(kernel),
        "summaries": summaries,
        "searches": tuple(
            SearchText(s.name, identifier(s.summary), s.up_to, points[s.summary], print_scalar(s.value))
            for s in kernel.searches
        ),
        "row_cuts": tuple(print_scalar(c.every) for c in kernel.cuts if c.side == "row"),
        "column_cuts": tuple(print_scalar(c.every) for c in kernel.cuts if c.side == "column"),
    }


def _spans(kernel: TileKernel) -> tuple[SpanText, ...]:
    """The spans of the walked side; one around everything where the mask bounds nothing."""
    if kernel.spans is None:
        return (SpanText("0", f"{extent(kernel.columns)} - 1"),)
    return tuple(SpanText(print_scalar(s.first), print_scalar(s.last)) for s in kernel.spans)


def _summary(summary: Summary, kernel: TileKernel) -> SummaryText:
    axes = kernel.rows if summary.side == "row" else kernel.columns
    read = indices(summary.value)
    batch = tuple(a for a in (*kernel.batch, *kernel.serial) if a.name in read)
    value = print_scalar(summary.value)
    return SummaryText(
        identifier(summary.name),
        summary.side,
        *UNITS[kernel.order][summary.side],
        points=extent(batch) if batch else "1",
        point=print_scalar(flat(tuple((a.index, a.size) for a in batch)) if batch else integer(0)),
        batch=unflatten(batch, "point_at") if batch else (),
        indices=unflatten(axes, "position_at"),
        value=value,
    )
