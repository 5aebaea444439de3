"""Sums into elements that depend on both sides of a core's pairs: gradients of tables, and of arguments shaped like
tiles. Those over the same pairs are made by one kernel, which computes the tile values once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from irc.codegen.expr import Axis, Expr, Index, Load, Op, indices, op, substitute
from irc.codegen.kernel import DISTANCE, Target
from irc.codegen.positions import points
from irc.fusion.tile import Frame, by_features, frame_of, tile_operands
from irc.graph.ir import Graph, Map, Node, Reduce, Scatter, Update, all_axes, is_tile, position, shape
from irc.passes.distances import distance_axis, inside, of_distance, reduced
from irc.passes.split import sums_pairs


@dataclass(frozen=True, slots=True)
class ElementSum:
    """One update of a node, added to the tensor `total`; `frame` are the pairs that it sums."""

    node: Node
    total: str
    number: int  # among the node's updates
    update: Update
    frame: Frame

    @property
    def over(self) -> tuple[Axis, ...]:
        """What is summed at each pair."""
        pairs = {a.name for a in (*self.frame.batch, *self.frame.rows, *self.frame.columns)}
        return tuple(a for a in self.update.over if a.name not in pairs)

    @property
    def private(self) -> bool:
        """Whether points of different rows meet, so that each chunk of rows needs elements of its own."""
        return not {a.name for a in self.frame.rows} <= plain_names(self.update.indices)

    @property
    def of_pairs(self) -> bool:
        """Whether each pair has an element of its own at every point of the batch, of a tensor that has no others."""
        pairs = (*self.frame.rows, *self.frame.columns)
        names = {e.name for e in self.update.indices if isinstance(e, Index)}
        plain = isinstance(self.node, Map | Reduce) and len(names) == len(self.update.indices)
        return plain and not self.over and len(pairs) == 2 and {a.name for a in pairs} <= names

    @property
    def met_once(self) -> bool:
        """Whether, moreover, no two points of the batch meet in one."""
        return self.of_pairs and {a.name for a in self.frame.batch} <= plain_names(self.update.indices)

    @property
    def is_of_distances(self) -> bool:
        """Whether it sums values of pairs, or these times a matrix of one side, into elements that pairs choose by
        their distance."""
        inside, outside = by_features(self.update.body, self.over)
        read = frozenset().union(*map(indices, inside))
        sides = [bool(read & {a.name for a in side}) for side in (self.frame.rows, self.frame.columns)]
        if not outside or all(sides) or points(self.over) is None or bool(self.over) != bool(inside):
            return False
        return self._chosen() is not None

    def _chosen(self) -> tuple[Expr, ...] | None:
        """The element of a distance."""
        found = [of_distance(index, self.frame.rows, self.frame.columns) for index in self.update.indices]
        at = tuple(index for index in found if index is not None)
        return at if len(at) == len(found) and any(DISTANCE.name in indices(e) for e in at) else None

    @property
    def by_distance(self) -> ByDistance:
        """The sums of each distance, where it is of distances."""
        chosen, frame = self._chosen(), self.frame
        assert chosen is not None
        name, (distance, last) = f"{self.total}.distances{self.number}", distance_axis(frame.rows[0], frame.columns[0])
        axes = (*frame.batch, distance, *self.over)
        dims = shape(self.node)
        at = tuple(reduced(substitute(e, {DISTANCE: op("sub", distance.index, last)})) for e in chosen)
        read = Load(name, tuple(a.index for a in axes))
        stored = tuple(op("add", DISTANCE, last) if a is distance else a.index for a in axes)
        update = Update(axes, at, read, inside(at, dims, distance.index))
        return ByDistance(Target(name, stored), tuple(a.size for a in axes), update)

    @property
    def copies(self) -> str:
        """The tensor of these elements of chunks."""
        return f"{self.total}.chunks{self.number}"


@dataclass(frozen=True, slots=True)
class ByDistance:
    """A tensor of the sums of each distance: where a kernel stores one, its shape, and the update that reads it."""

    target: Target
    shape: tuple[Expr, ...]
    update: Update

    @property
    def tensor(self) -> str:
        return self.target.tensor


def updates_of(node: Node) -> tuple[Update, ...]:
    """What the node adds up."""
    if isinstance(node, Scatter):
        return node.updates
    assert isinstance(node, Map | Reduce)
    return (Update(all_axes(node), position(node.axes, node.groups), node.body, node.where),)


def element_sum(node: Node, total: str, number: int, update: Update, graph: Graph) -> ElementSum:
    """An update that reads a tile value, with sums over tokens and axes of the batch opened: added one by one."""
    body, over, where = update.body, update.over, update.where
    while isinstance(body, Load) and isinstance(read := graph[body.tensor], Reduce) and is_tile(read):
        batch = frame_of(read.axes + read.over, read.body, read.where, graph).batch
        if not sums_pairs(read) and (read.op != "sum" or not set(read.over) <= set(batch)):
            break
        body, over, where = read.body, over + read.over, where or read.where
    frame = replace(frame_of(over, body, where, graph), support=where)
    return ElementSum(node, total, number, Update(over, update.indices, body, where), frame)


def of_distances(node: Scatter, total: str, graph: Graph) -> tuple[ElementSum, ...]:
    """The node's updates that read values of pairs, if all of these are sums over the pairs of a distance."""
    sums = [element_sum(node, total, number, update, graph) for number, update in enumerate(node.updates)]
    read = tuple(each for each in sums if tile_operands((each.update.body,), graph))
    return read if all(each.is_of_distances for each in read) else ()


def by_distances(node: Scatter, sums: Iterable[ElementSum]) -> tuple[Update, ...]:
    """The node's updates, the sums among them as they read what each distance has."""
    made = {each.number: each.by_distance.update for each in sums}
    return tuple(made.get(number, update) for number, update in enumerate(node.updates))


def by_pairs(sums: Iterable[ElementSum]) -> tuple[tuple[ElementSum, ...], ...]:
    """Those over the same pairs together."""
    groups: dict[object, list[ElementSum]] = {}
    for each in sums:
        key = frozenset(each.frame.batch), each.frame.rows, each.frame.columns, each.frame.support
        groups.setdefault(key, []).append(each)
    return tuple(map(tuple, groups.values()))


def meeting(targets: Iterable[tuple[Expr, ...]], frame: Frame) -> tuple[Axis, ...]:
    """Axes of the batch at whose points some of the sums meet, by the elements that each is added to."""
    plain = [plain_names(indices) for indices in targets]
    return tuple(a for a in frame.batch if any(a.name not in names for names in plain))


def plain_names(exprs: Iterable[Expr]) -> set[str]:
    """The indices that some dimension enumerates by themselves."""
    found: set[str] = set()
    for expr in exprs:
        parts = expr.args[::2] if isinstance(expr, Op) and expr.name == "flat" else (expr,)
        if all(isinstance(part, Index) for part in parts):
            found |= {part.name for part in parts if isinstance(part, Index)}
    return found
