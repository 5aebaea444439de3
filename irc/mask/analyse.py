"""All that a kernel's loops need of a mask: verdicts on rectangles, what a tile can touch, and what both read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from irc.codegen.expr import Axis, Expr, Op, flat, indices, integer, op, walk
from irc.codegen.kernel import Cut, Search, Side, Span, Summary, Verdict
from irc.graph.ir import Fact
from irc.mask.bounds import Walk
from irc.mask.interval import Rectangle
from irc.mask.vectors import Vectors, vectors


@dataclass(frozen=True, slots=True)
class Analysis:
    """See the fields of the same names in `TileKernel`."""

    verdict: Verdict
    spans: tuple[Span, ...] | None
    across: tuple[tuple[Span, ...], tuple[Search, ...]] | None
    summaries: tuple[Summary, ...]
    searches: tuple[Search, ...]
    cuts: tuple[Cut, ...]


def analyse(
    support: Expr, rows: tuple[Axis, ...], columns: tuple[Axis, ...], walked: Side, facts: Iterable[Fact] = ()
) -> Analysis:
    """The analysis of a support for a kernel that walks one side; `facts` are assumptions that each call checks."""
    found = vectors(rows, columns, facts)
    rectangle = Rectangle(found)
    verdict = rectangle.truth(support)
    spans = Walk(rectangle, walked).spans(support)
    across = _across(support, found, walked)
    pair = {a.name for a in (*rows, *columns)}
    moduli = [e for e in walk(support) if isinstance(e, Op) and e.name == "mod" and not indices(e.args[1]) & pair]
    cuts = tuple(dict.fromkeys((*_cuts("row", rows, moduli), *_cuts("column", columns, moduli))))
    return Analysis(verdict, spans, across, tuple(found.summaries.values()), tuple(found.searches.values()), cuts)


def _across(support: Expr, found: Vectors, walked: Side) -> tuple[tuple[Span, ...], tuple[Search, ...]] | None:
    """What a tile of the walked side can touch, where that reads no other summaries."""
    own = Vectors(found.axes, found.sorted, dict(found.summaries))
    spans = Walk(Rectangle(own), "row" if walked == "column" else "column").spans(support)
    return (spans, tuple(own.searches.values())) if spans is not None and own.summaries == found.summaries else None


def _cuts(side: Side, axes: tuple[Axis, ...], moduli: Iterable[Op]) -> Iterator[Cut]:
    """The period of each inner axis of a product, and of those `x % m` that are of a position."""
    below: Expr = integer(1)
    for axis in reversed(axes[1:]):
        below = op("mul", axis.size, below)
        yield Cut(side, below)
    position = flat(tuple((a.index, a.size) for a in axes))
    yield from (Cut(side, m) for x, m in (e.args for e in moduli) if x == position)
