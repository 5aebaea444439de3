"""Sums into elements, the adjoints of gathers, turned round into gathers where each element can tell what reaches it:
of d.x[b, s - m, c] += y[b,s,c] * w[m] the sum over m of y[b, s + m, c] * w[m], while s + m is a token.

Each element is then made once, by whoever makes it: nothing is cleared, and no two points meet. An index is solved for
one of its axes: shifted, counted from the end, rolled (`% N`), repeated (`// n`) or tiled (`% n` of a longer axis), and
held at an end (`max`, `min`, `clamp`) where a condition sees to it that it never is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, combinations

from irc.codegen.expr import (
    TRUE,
    Axis,
    Const,
    Expr,
    Index,
    Kind,
    Load,
    Op,
    Size,
    conjuncts,
    indices,
    integer,
    number,
    op,
    substitute,
    walk,
)
from irc.elaborate.bounds import Bounds
from irc.graph.ir import Graph, Map, Node, Reduce, Scatter, Update, operands, own_element, product
from irc.graph.size import equal, nonnegative, polynomial
from irc.passes.differentiate import conjunction, counted
from irc.passes.distances import all_of
from irc.passes.simplify import add_all, drop_dead
from irc.passes.split import reads_tiles


def gathered(graph: Graph, apart: Collection[str] = ()) -> Graph:
    """The graph with such sums in place of those that can be turned round, but for those named in `apart`."""
    bounds = Bounds(dict(graph.sizes), graph.facts)
    nodes: list[Node] = []
    for node in graph:
        if not isinstance(node, Scatter) or node.name in apart or reads_tiles(node, graph):
            nodes.append(node)
            continue
        made = _gathered(_opened(node, graph), bounds)
        nodes += (node,) if any(isinstance(n, Scatter) for n in made) else made
    return drop_dead(replace(graph, nodes=tuple(nodes)))


def _opened(node: Scatter, graph: Graph) -> Scatter:
    """The node with what a sum before it adds up for it alone, where that has an element for each two of as many
    tokens, as the gradient of a long convolution that is summed over the batch first."""
    read = Counter(name for n in graph for name in operands(n))

    def opened(update: Update) -> Update:
        made = graph[update.body.tensor] if isinstance(update.body, Load) else None
        if not isinstance(made, Reduce) or made.op != "sum" or read[made.name] > 1 or update.body != own_element(made):
            return update
        moved = [[a for a in update.over if a.name in indices(index)] for index in update.indices]
        of_pairs = any(equal(a.size, b.size, {}) for axes in moved for a, b in combinations(axes, 2))
        if not of_pairs or set(update.over) & set(made.over):
            return update
        return Update(update.over + made.over, update.indices, made.body, conjunction(update.where, made.where))

    return replace(node, updates=tuple(map(opened, node.updates)))


def _gathered(node: Scatter, bounds: Bounds) -> tuple[Node, ...]:
    """The sums of each update, and the sum of these; or the node, where an update cannot be turned round."""
    places = _places(node)
    axes, groups = tuple(a for dim in places for a in dim), tuple(map(len, places))
    made = [_turned(update, places, bounds, len(node.updates) == 1) for update in node.updates] if places else []
    sums: list[Reduce] = []
    terms: list[Expr] = []
    for each in made:
        if each is None:
            return (node,)
        over, body, where = each
        if over:
            name = node.name if len(made) == 1 else f"{node.name}.reached{len(sums) or ''}"
            sums.append(Reduce(name, axes, over, "sum", body, where, None, groups, node.span))
            terms.append(own_element(sums[-1]))
        else:
            terms.append(body if where is None else op("where", where, body, number(0.0)))
    if not terms or (sums and len(made) == 1):
        return tuple(sums) or (node,)
    return *sums, Map(node.name, axes, add_all(terms), None, groups, node.span)


def _places(node: Scatter) -> list[tuple[Axis, ...]]:
    """The axes of each dimension, called as in an update that has an index for it; empty where updates differ in how
    they divide a dimension."""
    places: list[tuple[Axis, ...]] = []
    taken: set[str] = set()
    for d, size in enumerate(node.shape):
        ways = [_parts(u.indices[d], size) for u in node.updates]
        sizes = [tuple(n for _, n in way) for way in ways]
        if len(set(sizes)) != 1 or not equal(product(sizes[0]), size, {}):
            return []
        dim: list[Axis] = []
        for k, n in enumerate(sizes[0]):
            own = (index.name for index, _ in (way[k] for way in ways) if isinstance(index, Index))
            others = (f"{name}.place" for way in ways for name in sorted(indices(way[k][0])))
            name = next(n for n in chain(own, others, (f"place.{len(taken)}",)) if n not in taken)
            taken.add(name)
            dim.append(Axis(name, n))
        places.append(tuple(dim))
    return places


def _parts(index: Expr, size: Expr) -> tuple[tuple[Expr, Expr], ...]:
    """The indices that a dimension is counted by, with their sizes."""
    if isinstance(index, Op) and index.name == "flat":
        return tuple(zip(index.args[::2], index.args[1::2], strict=True))
    return ((index, size),)


def _turned(
    update: Update, places: list[tuple[Axis, ...]], bounds: Bounds, alone: bool
) -> tuple[tuple[Axis, ...], Expr, Expr | None] | None:
    """What reaches an element: axes that are summed over, a body, and where it counts; None where the indices of the
    update do not tell. `alone`: there is no other update."""
    if {"row", "column"} <= {a.role for a in update.over}:
        return None
    taken = {a.name for dim in places for a in dim}
    apart: dict[Expr, Expr] = {a.index: Index(f"{a.name}.from") for a in update.over if a.name in taken}
    body, where = counted(update.body, update.where)
    asked = () if where is None else conjuncts(substitute(where, apart))
    axes = [replace(a, name=f"{a.name}.from" if a.name in taken else a.name, role="") for a in update.over]
    solver = _Solver(axes, asked, bounds)
    for index, dim in zip(update.indices, places, strict=True):
        for (part, _), place in zip(_parts(index, dim[0].size), dim, strict=True):
            if not solver.solve(substitute(part, apart), place):
                return None
    if (solver.axes and not solver.are_alike) or (solver.is_known and (solver.axes or not alone)):
        return None  # most places would be asked in vain
    extents = {a.name: a.size for a in (*solver.axes, *(a for dim in places for a in dim))}
    # Whether there is such a point comes first: other conditions may read tables there.
    conditions = (substitute(c, solver.points) for c in (*solver.inside, *asked))
    within = all_of(c for c in conditions if not _is_plain(c, bounds, extents))
    return tuple(solver.axes), substitute(substitute(body, apart), solver.points), within


def _is_plain(condition: Expr, bounds: Bounds, extents: Mapping[str, Expr]) -> bool:
    """Whether a comparison of integers holds for all points."""
    least = spare(condition)
    return condition == TRUE or (least is not None and any(map(nonnegative, bounds.range(least, extents).low)))


def spare(condition: Expr) -> Expr | None:
    """What is 0 or more where a comparison of integers holds, and only there."""
    match condition:
        case Op("le" | "lt" as sign, (x, y), _) if x.kind is Kind.INT:
            return op("sub", y, op("add", x, integer(1)) if sign == "lt" else x)
    return None


def is_held(name: str, x: Expr, end: Expr, known: Collection[Expr]) -> bool:
    """Whether conditions that are known to hold make sure that max(x, end), or min(x, end), is x."""
    least = polynomial(op("sub", x, end) if name == "max" else op("sub", end, x), {})
    spared = (polynomial(e, {}) for e in map(spare, known) if e is not None)
    return any(nonnegative(least - k) for k in spared)


@dataclass
class _Solver:
    """Solves indices for axes. `axes` are those that are left; `points` tells the others, by these and by the places of
    an element; `inside` holds of what reaches one. `are_alike`: there are about as many places as points. `is_known`:
    some index needs no axis, and stands for one place."""

    axes: list[Axis]
    asked: tuple[Expr, ...]
    bounds: Bounds
    points: dict[Expr, Expr] = field(default_factory=dict)
    inside: list[Expr] = field(default_factory=list)
    are_alike: bool = True
    is_known: bool = False

    def solve(self, index: Expr, place: Axis) -> bool:
        """Whether the index is known, or tells the point of an axis at the place, or its points by one more axis."""
        index = substitute(index, self.points)
        if not indices(index) & {a.name for a in self.axes}:
            self.inside.append(op("eq", place.index, index))
            self.is_known = True
            return True
        met = Counter(e.name for e in walk(index) if isinstance(e, Index))
        once = [a for a in self.axes if met[a.name] == 1]
        for axis in sorted(once, key=lambda a: not equal(a.size, place.size, {})):
            way = _Way(axis)
            point = self._point(index, place.index, place.size, way)
            if point is None:
                continue
            self.axes = [*(a for a in self.axes if a != axis), *way.more]
            self.points = {i: substitute(e, {axis.index: point}) for i, e in self.points.items()}
            self.points[axis.index] = point
            self.inside += [*way.inside, op("le", integer(0), point), op("lt", point, axis.size)]
            self.are_alike = self.are_alike and way.is_alike
            return True
        return False

    def _point(self, index: Expr, at: Expr, size: Expr | None, way: _Way) -> Expr | None:
        """The point of the way's axis at which the index is `at`, one of `size` places if that is known."""
        axis = way.axis
        if index == axis.index:
            way.is_alike = size is None or (polynomial(size, {}) - polynomial(axis.size, {})).value is not None
            return at
        if not isinstance(index, Op) or index.name == "flat":
            return None
        whole, *others = index.args
        first = whole
        if others and axis.name in indices(others[0]):
            first, others = others[0], [whole]
        match index.name, others:
            case "add", (y,):
                return self._point(first, op("sub", at, y), size, way)
            case "sub", (y,):
                back = op("add", at, y) if first == whole else op("sub", y, at)
                return self._point(first, back, size, way)
            case "neg", _:
                return self._point(first, op("neg", at), size, way)
            case "max" | "min" as name, (end,) if self._is_held(name, first, end):
                return self._point(first, at, size, way)
            case "clamp", (low, high) if self._is_held("max", first, low) and self._is_held("min", first, high):
                return self._point(first, at, size, way)
            case "floordiv", (n,) if first == whole and _is_positive(n):
                rest = Axis(f"{axis.name}.rest", n)
                way.more.append(rest)
                return self._point(first, op("add", op("mul", at, n), rest.index), None, way)
            case "mod", (n,) if first == whole and _is_positive(n):
                way.inside += [op("le", integer(0), at), op("lt", at, n)]
                if _is_plain(op("le", axis.size, n), self.bounds, {}):
                    point = self._point(first, at, n, way) if _is_shifted(first, axis) else None
                    return None if point is None else op("mod", point, n)
                if first == axis.index:
                    turns = op("floordiv", op("add", axis.size, op("sub", n, integer(1))), n)
                    way.more.append(Axis(f"{axis.name}.turn", turns))
                    return op("add", at, op("mul", n, way.more[-1].index))
        return None

    def _is_held(self, name: str, x: Expr, end: Expr) -> bool:
        return is_held(name, x, end, self.asked)


@dataclass
class _Way:
    """An axis that an index is solved for: by which `more` axes, and what must hold `inside`."""

    axis: Axis
    more: list[Axis] = field(default_factory=list)
    inside: list[Expr] = field(default_factory=list)
    is_alike: bool = True


def _is_positive(size: Expr) -> bool:
    """Whether a divisor is a size, or made of sizes, and more than 0."""
    parts = (e for e in walk(size) if not isinstance(e, Op))
    return all(isinstance(e, Size | Const) for e in parts) and nonnegative(polynomial(op("sub", size, integer(1)), {}))


def _is_shifted(index: Expr, axis: Axis) -> bool:
    """Whether the index is the axis's, or its negative, and what does not depend on it."""
    if isinstance(index, Op) and index.name in ("add", "sub", "neg"):
        return any(_is_shifted(e, axis) for e in index.args)
    return index == axis.index
