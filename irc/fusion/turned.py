"""Sums over the pairs of each distance as sums along rows, for kernels that finish rows.

The gradient of a vector that pairs choose by their distance (distances.py) sums along a diagonal of the pairs. Those
that are n apart are the pairs (n, i): with distances for rows, and rows for columns, it is a sum over columns of a
value of the pair times a matrix of one side. What was of a column is then told by the distance of n and i, and what a
distance told is of a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from irc.codegen.expr import FALSE, Expr, Kind, Load, Op, indices, integer, number, op, rebuild, substitute
from irc.fusion.elements import ElementSum, by_distances, of_distances
from irc.fusion.tile import tile_operands
from irc.graph.ir import Graph, Map, Node, Reduce, Scatter, own_element, shape
from irc.passes.distances import distance_axis, inside, reduced
from irc.passes.split import sums_pairs

ZERO = {Kind.FLOAT: number(0.0), Kind.INT: integer(0), Kind.BOOL: FALSE}


def turned(graph: Graph) -> Graph:
    """The graph with such sums as sums over columns."""
    nodes: dict[str, Node] = {}
    for node in graph:
        sums = _sums(node, graph) if isinstance(node, Scatter) else ()
        for each in sums:
            nodes |= {made.name: made for made in _turned(each, graph)}
        if isinstance(node, Scatter) and sums:
            node = replace(node, updates=by_distances(node, sums))
        nodes[node.name] = node
    return replace(graph, nodes=tuple(nodes.values()))


def _sums(node: Scatter, graph: Graph) -> tuple[ElementSum, ...]:
    """The node's sums over the pairs of a distance, if none is of sums over tokens."""
    sums = of_distances(node, node.name, graph)
    return sums if not any(_sums_tokens(each.update.body, graph) for each in sums) else ()


def _sums_tokens(body: Expr, graph: Graph) -> bool:
    return any(isinstance(node, Reduce) and sums_pairs(node) for node in _reached(body, graph))


def _reached(body: Expr, graph: Graph) -> list[Map | Reduce]:
    """The values of pairs that are read, at any remove, after what they read."""
    found: dict[str, Map | Reduce] = {}
    for name in tile_operands((body,), graph):
        node = graph[name]
        assert isinstance(node, Map | Reduce)
        found |= {each.name: each for each in (*_reached(node.body, graph), node)}
    return list(found.values())


def _turned(each: ElementSum, graph: Graph) -> Iterator[Map | Reduce]:
    """One of them, after the values of pairs that it reads."""
    row, column = each.frame.rows[0], each.frame.columns[0]
    distance, last = distance_axis(row, column)  # counted from the least
    distance = replace(distance, role="row")
    former = op("add", op("sub", row.index, distance.index), last)
    exists = op("and", op("le", integer(0), former), op("lt", former, column.size))
    sides = {row.name: distance, column.name: replace(row, role="column")}
    values: dict[str, Load] = {}

    def made(expr: Expr) -> Expr:
        read = rebuild(expr, lambda part: values.get(part.tensor) if isinstance(part, Load) else None)
        return rebuild(reduced(substitute(read, {column.index: former})), told)

    def told(part: Expr) -> Expr | None:
        """Of what a distance tells, 0 beyond its table: it is read for each, whether or not a pair wants it."""
        if not isinstance(part, Load) or distance.name not in indices(part) or row.name in indices(part):
            return None
        at = tuple(rebuild(index, told) for index in part.indices)
        in_table, read = inside(at, shape(graph[part.tensor]), distance.index), Load(part.tensor, at, part.kind)
        return read if in_table is None else Op("where", (in_table, read, ZERO[part.kind]), part.kind)

    def where(condition: Expr | None) -> Expr:
        return exists if condition is None else op("and", exists, made(condition))

    for node in _reached(each.update.body, graph):
        axes = tuple(sides.get(axis.name, axis) for axis in node.axes)
        own = node.where and where(node.where)
        value = replace(node, name=f"{node.name}.turned", axes=axes, body=made(node.body), where=own)
        values[node.name] = own_element(value)
        yield value
    axes = (*each.frame.batch, distance, *each.over)
    body = made(each.update.body)
    yield Reduce(each.by_distance.tensor, axes, (sides[column.name],), "sum", body, where(each.update.where))
