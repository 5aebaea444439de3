"""Sums into elements that depend on both sides of a core's pairs: gradients of tables, and of arguments shaped like
tiles. Those over the same pairs are made by one kernel, which computes the tile values once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from irc.codegen.expr import Axis, Expr, Index, Load, Op
from irc.ir import Graph, Map, Node, Reduce, Scatter, Update, is_tile, position
from irc.tile import Frame, frame_of, tile_operands


@dataclass(frozen=True, slots=True)
class ElementSum:
    """One update of a node, added to the tensor `total`; `frame` are the pairs that it sums, None if it reads no tile
    value."""

    node: Node
    total: str
    number: int  # among the node's updates
    update: Update
    frame: Frame | None

    @property
    def over(self) -> tuple[Axis, ...]:
        """What is summed at each pair."""
        assert self.frame is not None
        return tuple(a for a in self.update.over if a not in (*self.frame.batch, *self.frame.rows, *self.frame.columns))

    @property
    def private(self) -> bool:
        """Whether points of different rows meet, so that each chunk of rows needs elements of its own."""
        assert self.frame is not None
        plain = {i.name for i in plain_indices(self.update.indices)}
        return any(a.name not in plain for a in self.frame.rows)


def sums_of(node: Node, total: str, graph: Graph) -> tuple[ElementSum, ...]:
    """What the node adds up, with sums over axes of the batch opened: they are added one by one."""
    if isinstance(node, Scatter):
        updates = node.updates
    else:
        assert isinstance(node, Map | Reduce)
        over = node.axes + (node.over if isinstance(node, Reduce) else ())
        updates = (Update(over, position(node.axes, node.groups), node.body, node.where),)
    return tuple(_sum(node, total, number, update, graph) for number, update in enumerate(updates))


def _sum(node: Node, total: str, number: int, update: Update, graph: Graph) -> ElementSum:
    body, over, where = update.body, update.over, update.where
    if not tile_operands((body,), graph):
        return ElementSum(node, total, number, update, None)
    while isinstance(body, Load) and isinstance(read := graph[body.tensor], Reduce) and is_tile(read):
        batch = frame_of(read.axes + read.over, read.body, read.where, graph).batch
        if read.op != "sum" or not set(read.over) <= set(batch):
            break
        body, over, where = read.body, over + read.over, where or read.where
    frame = replace(frame_of(over, body, where, graph), support=where)
    return ElementSum(node, total, number, Update(over, update.indices, body, where), frame)


def by_pairs(sums: Iterable[ElementSum]) -> tuple[tuple[ElementSum, ...], ...]:
    """The sums that read tile values, those over the same pairs together."""
    groups: dict[object, list[ElementSum]] = {}
    for each in sums:
        if each.frame is not None:
            key = frozenset(each.frame.batch), each.frame.rows, each.frame.columns, each.frame.support
            groups.setdefault(key, []).append(each)
    return tuple(map(tuple, groups.values()))


def serial(sums: Iterable[ElementSum], frame: Frame) -> tuple[Axis, ...]:
    """Axes of the batch at whose points some of the sums meet."""
    plain = [{i.name for i in plain_indices(each.update.indices)} for each in sums]
    return tuple(a for a in frame.batch if any(a.name not in names for names in plain))


def plain_indices(exprs: Iterable[Expr]) -> Iterable[Index]:
    """The indices that some dimension enumerates by themselves."""
    for expr in exprs:
        match expr:
            case Index():
                yield expr
            case Op("flat", args, _) if all(isinstance(a, Index) for a in args[::2]):
                yield from (a for a in args[::2] if isinstance(a, Index))
