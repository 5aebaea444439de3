"""Vectors: parts of a mask that read a table along one side alone (documents, lengths, places).

What an analysis needs of one is its least and greatest value on a stretch of the side (a Summary), and, where its
values are assumed not to decrease, the positions at which it reaches a value (a Search).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from irc.codegen.expr import Axis, Expr, Index, Kind, Load, Local, Op, flat, is_lookup, walk
from irc.codegen.kernel import Search, Side, Summary
from irc.graph.ir import Fact


@dataclass
class Vectors:
    """Those of one mask. `summaries` and `searches` are what was asked for so far."""

    axes: dict[Side, tuple[Axis, ...]]
    sorted: frozenset[tuple[str, int]]  # (table, dimension along which its elements do not decrease)
    summaries: dict[tuple[Side, Expr], Summary] = field(default_factory=dict)
    searches: dict[tuple[str, bool, Expr], Search] = field(default_factory=dict)

    def side(self, expr: Expr) -> Side | None:
        """The side along which the expression reads a table, if it reads the other nowhere."""
        sides: list[Side] = [s for s, axes in self.axes.items() if _reads(expr, axes)]
        if len(sides) != 1:
            return None
        axes = self.axes[sides[0]]
        return sides[0] if any(is_lookup(e) and _reads(e, axes) for e in walk(expr)) else None

    def only(self, expr: Expr, side: Side) -> bool:
        """Whether the expression varies along this side and not along the other."""
        return all(_reads(expr, axes) == (s == side) for s, axes in self.axes.items())

    def ends(self, expr: Expr, side: Side) -> tuple[Local, Local]:
        """Least and greatest value (of a truth: 0 or 1) on the rectangle's stretch of the side."""
        summary = self._summary(expr, side)
        return Local(f"{summary.name} low", Kind.INT), Local(f"{summary.name} high", Kind.INT)

    def _summary(self, expr: Expr, side: Side) -> Summary:
        name = f"{side} values {len(self.summaries)}"
        return self.summaries.setdefault((side, expr), Summary(name, side, expr))

    def nondecreasing(self, expr: Expr, side: Side) -> bool:
        """Whether the values are sure not to decrease along the side: its own position, the segment of what does not,
        and a table that is assumed to be ordered, read where that does not."""
        if expr == flat(tuple((a.index, a.size) for a in self.axes[side])):
            return True
        match expr:
            case Op("add" | "sub", (x, y), _):
                return not _reads(y, self.axes[side]) and self.nondecreasing(x, side)
            case Op("segment", (row, _, x), _):
                return not _reads(row, self.axes[side]) and self.nondecreasing(x, side)
            case Load(tensor, indices, _):
                along = [n for n, index in enumerate(indices) if _reads(index, self.axes[side])]
                ordered = len(along) == 1 and (tensor, along[0]) in self.sorted
                return ordered and self.nondecreasing(indices[along[0]], side)
        return False

    def search(self, expr: Expr, side: Side, up_to: bool, value: Expr) -> Local:
        """The last position whose value is at most `value` (`up_to`), or the first that reaches it."""
        summary = self._summary(expr, side)
        name = f"search {len(self.searches)}"
        made = self.searches.setdefault((summary.name, up_to, value), Search(name, summary.name, up_to, value))
        return Local(made.name, Kind.INT)


def vectors(rows: tuple[Axis, ...], columns: tuple[Axis, ...], facts: Iterable[Fact]) -> Vectors:
    """No vector yet, of a mask under these assumptions."""
    return Vectors({"row": rows, "column": columns}, frozenset(_sorted(facts)))


def _sorted(facts: Iterable[Fact]) -> Iterable[tuple[str, int]]:
    """Tables that an assumption calls nondecreasing for all values of its other indices."""
    for fact in facts:
        match fact.predicate:
            case Load(tensor, indices, Kind.INT) if fact.nondecreasing is not None:
                names = [e.name for e in indices if isinstance(e, Index)]
                if len(names) == len(set(names)) == len(indices):
                    yield tensor, names.index(fact.nondecreasing)


def _reads(expr: Expr, axes: tuple[Axis, ...]) -> bool:
    names = {a.name for a in axes}
    return any(isinstance(e, Index) and e.name in names for e in walk(expr))
