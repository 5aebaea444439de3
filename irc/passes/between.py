"""Sums of what lies between two places of a pair, as of the gates of a forgetting transformer (Lin, Nikishin and others
2025), `sum(t: where(j < t and t <= i, f[b,h,t], 0))`: differences of two running sums, where pairs would add up theirs.

Of what both have in common, its rounding is left, and where it is infinite all of it. So terms are added up in double,
and sums are kept as two floats; those that are large, as of a mask that is added, with others as large, so that nothing
is left of them where they are in both; infinities and NaN are counted. Where all numbers are doubles, no sum is as much
more exact than they: there pairs add up their own terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from irc.codegen.expr import Axis, Expr, Kind, Load, Op, conjuncts, indices, integer, joined, loads, number, op, rebuild
from irc.codegen.kernel import Arithmetic, Storage
from irc.fusion.tile import tile_operands
from irc.graph.ir import Graph, Map, Node, Reduce, is_tile, own_element
from irc.graph.size import equal
from irc.passes.differentiate import counted
from irc.passes.distances import all_of
from irc.passes.simplify import drop_dead

BANDS = 0.0, 1e8, 1e18, 1e28, float("inf")  # of sizes: a smaller term loses digits to others in the same sum of doubles
SCALE = 2.0**32  # of sums of the largest terms, which overflow no sooner than one does
ZERO, ONE, INFINITY = number(0.0), number(1.0), number(float("inf"))
UNTIL = ".until"


@dataclass(frozen=True, slots=True)
class Between:
    """The sum of `term` over the points of `over` after `first` up to `last`, where `asked` holds."""

    over: Axis
    first: Expr
    last: Expr
    term: Expr
    asked: tuple[Expr, ...]


def with_differences(graph: Graph, arithmetic: Arithmetic) -> Graph:
    """The graph in which such sums are differences, if they are as exact."""
    if arithmetic == "f64":
        return graph
    nodes: list[Node] = []
    for node in graph:
        found = between(node, graph)
        if found is None:
            nodes.append(node)
            continue
        assert isinstance(node, Reduce)
        end, over = Axis(f"{found.over.name}.end", found.over.size), replace(found.over, role="")
        own = tuple(replace(a, role="") for a in node.axes if a.name in indices(found.term))
        body = op("where", op("le", over.index, end.index), found.term, ZERO)
        total = Reduce(f"{node.name}{UNTIL}", (*own, end), (over,), "sum", body, span=node.span)

        def until(place: Expr, axes: tuple[Axis, ...] = node.axes, total: Reduce = total, end: Axis = end) -> Expr:
            return _until(place, axes, total, end.size)

        there_are = all_of((*found.asked, op("lt", found.first, found.last)))
        assert there_are is not None
        value = op("where", there_are, op("sub", until(found.last), until(found.first)), ZERO)
        nodes += (total, Map(node.name, node.axes, value, node.where, node.groups, node.span))
    return replace(graph, nodes=tuple(nodes))


def _until(place: Expr, axes: tuple[Axis, ...], total: Reduce, size: Expr) -> Expr:
    """The sum up to a place and with it, which may lie beyond either end."""
    at = tuple(a.index for a in total.axes[:-1])
    if any(place == a.index and equal(a.size, size, {}) for a in axes):
        return Load(total.name, (*at, place))
    held = op("min", place, op("sub", size, integer(1)))
    read = Load(total.name, (*at, op("max", held, integer(0))))
    return op("where", op("le", integer(0), held), read, ZERO)


def between(node: Node, graph: Graph) -> Between | None:
    """The node as such a sum, of terms that do not depend on its pair, if it is that."""
    if not isinstance(node, Reduce) or node.op != "sum" or not is_tile(node) or len(node.over) != 1:
        return None
    (over,), pair = node.over, {a.name for a in node.axes if a.role}
    term, where = counted(node.body, None)
    firsts, lasts, own, asked = list[Expr](), list[Expr](), list[Expr](), list[Expr]()
    for condition in conjuncts(where) if where is not None else ():
        bound = _bound(condition, over)
        if over.name not in indices(condition):
            asked.append(condition)
        elif bound is not None and indices(condition) & pair:
            (firsts if bound[0] else lasts).append(bound[1])
        else:
            own.append(condition)
    if not firsts or not lasts:
        return None
    if (there := all_of(own)) is not None:
        term = op("where", there, term, ZERO)
    if indices(term) & pair or tile_operands((term,), graph):
        return None
    return Between(over, joined("max", firsts), joined("min", lasts), term, tuple(asked))


def _bound(condition: Expr, over: Axis) -> tuple[bool, Expr] | None:
    """Of a comparison with a point: whether it bounds it from below; and the last place before it, or the last one."""
    match condition:
        case Op("lt" | "le" as sign, (x, y)) if x.kind is Kind.INT:
            if y == over.index and over.name not in indices(x):
                return True, x if sign == "lt" else op("sub", x, integer(1))
            if x == over.index and over.name not in indices(y):
                return False, op("sub", y, integer(1)) if sign == "lt" else y
    return None


def exactly(graph: Graph) -> tuple[Graph, dict[str, Storage]]:
    """The graph in which such differences are made of sums that are exact enough; and the element types of these."""
    totals = [n for n in graph if isinstance(n, Reduce) and n.name.endswith(UNTIL)]
    if not totals:
        return graph, {}
    sums = {n.name: _Sums(n) for n in totals}
    nodes: list[Node] = []
    for node in graph:
        if node.name in sums:
            nodes += (node, *sums[node.name].nodes)
        elif isinstance(node, Map) and is_tile(node):
            nodes.append(replace(node, body=rebuild(node.body, lambda e: _exact(e, sums))))
        else:
            nodes.append(node)
    wide: dict[str, Storage] = {band.wide: "f64" for made in sums.values() for band in made.bands}
    return drop_dead(replace(graph, nodes=tuple(nodes))), wide


def _exact(expr: Expr, sums: Mapping[str, _Sums]) -> Expr | None:
    match expr:
        case Op("sub", (last, first)) if expr.kind is Kind.FLOAT:
            read, others = ({load.tensor for load in loads(e) if load.kind is Kind.FLOAT} for e in (last, first))
            if len(read) == 1 and read == others and (name := next(iter(read))) in sums:
                return sums[name].difference(name, last, first)
    return None


@dataclass(frozen=True, slots=True)
class _Band:
    """The sum of the terms of a band: `wide` in double, and the floats whose sum it nearly is, over a scale."""

    wide: str
    parts: tuple[str, str]
    scale: float


class _Sums:
    """What stands for a running sum: those of each band of sizes, whose differences are added up; and how many terms
    are infinite or NaN, of either sign."""

    def __init__(self, total: Reduce) -> None:
        self.total, self.nodes = total, list[Node]()
        term, where = counted(total.body, None)
        assert where is not None
        self.where = where
        if not isinstance(term, Load):
            axes = (*total.axes[:-1], *total.over)
            term = self._made(Map(f"{total.name}.terms", axes, term, span=total.span))
        self.bands = [self._band(term, n) for n in range(len(BANDS) - 1)]
        self.above = self._sum("above", op("where", op("lt", term, INFINITY), ZERO, ONE))
        self.below = self._sum("below", op("where", op("lt", op("neg", term), INFINITY), ZERO, ONE))

    def _band(self, term: Expr, n: int) -> _Band:
        size, scale = op("abs", term), 1.0 if BANDS[n + 1] < BANDS[-1] else SCALE
        inside = op("and", op("le", number(BANDS[n]), size), op("lt", size, number(BANDS[n + 1])))
        wide = self._sum(f"band{n}", op("where", inside, term, ZERO)).tensor
        whole = op("mul", Load(wide, tuple(a.index for a in self.total.axes)), number(1 / scale))
        near = self._made(Map(f"{wide}.near", self.total.axes, whole))
        rest = self._made(Map(f"{wide}.rest", self.total.axes, op("sub", whole, near)))
        return _Band(wide, (near.tensor, rest.tensor), scale)

    def _made(self, node: Map | Reduce) -> Load:
        self.nodes.append(node)
        return own_element(node)

    def _sum(self, name: str, term: Expr) -> Load:
        body = op("where", self.where, term, ZERO)
        return self._made(replace(self.total, name=f"{self.total.name}.{name}", body=body))

    def difference(self, name: str, last: Expr, first: Expr) -> Expr:
        """The sum between two places, of those up to each."""

        def of(made: str) -> tuple[Expr, Expr]:
            ends = (rebuild(e, lambda part: _other(part, name, made)) for e in (last, first))
            return next(ends), next(ends)

        whole: Expr = ZERO
        for band in reversed(self.bands):
            for part in band.parts:
                whole = op("add", whole, op("mul", op("sub", *of(part)), number(band.scale)))
        whole = op("add", whole, op("where", op("ne", *of(self.above.tensor)), INFINITY, ZERO))
        return op("add", whole, op("where", op("ne", *of(self.below.tensor)), op("neg", INFINITY), ZERO))


def _other(part: Expr, name: str, made: str) -> Expr | None:
    return replace(part, tensor=made) if isinstance(part, Load) and part.tensor == name else None
