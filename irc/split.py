"""Sums over tokens and other indices at once, split: first over all key (or all query) indices, which a tile kernel
does, then over the rest, which needs no tile. What remains over both is a row of tiles summed twice."""

from __future__ import annotations

from dataclasses import replace

from irc.codegen.expr import Axis, Expr, Load
from irc.ir import Graph, Node, Reduce, is_tile, operands


def split(graph: Graph) -> Graph:
    """Every Reduce that reads a tile value and sums tokens, sums the tokens of one side and nothing else."""
    out: list[Node] = []
    for node in graph:
        out.extend(_split(node) if isinstance(node, Reduce) and reads_tiles(node, graph) else (node,))
    return replace(graph, nodes=tuple(out))


def reads_tiles(node: Node, graph: Graph) -> bool:
    """Whether an operand is a tile value of the graph."""
    return any(is_tile(graph[name]) for name in operands(node))


def _split(node: Reduce) -> tuple[Node, ...]:
    columns = tuple(a for a in node.over if a.role == "column")
    rows = tuple(a for a in node.over if a.role == "row")
    first = columns or rows
    rest = tuple(a for a in node.over if a not in first)
    if not first or not rest or node.op == "logsumexp":
        return (node,)
    axes: tuple[Axis, ...] = node.axes + rest
    where: Expr | None = node.where
    part = Reduce(f"{node.name}.tokens", axes, first, node.op, node.body, where)
    total = Reduce(node.name, node.axes, rest, node.op, Load(part.name, tuple(a.index for a in axes)), None, None)
    return (part, replace(total, groups=node.groups, span=node.span))
