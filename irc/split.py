"""Sums over tokens and other indices at once, split: first over all key (or all query) indices, which a tile kernel
does, then over the rest, which needs no tile. What remains over both is a row of tiles summed twice. Where the graph
has the first sum already, as the gradient of queries that a learned vector was added to, that one is read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from irc.ir import Graph, Map, Node, Reduce, Scatter, Update, is_tile, operands, own_element, position, shape
from irc.simplify import as_product, factors


def split(graph: Graph, rounded: Collection[str] = ()) -> Graph:
    """Every Reduce that reads a tile value and sums tokens, sums the tokens of one side and nothing else. `rounded` are
    nodes that no further sum may read."""
    graph = _kept(graph)
    parts = {n.name: part for n in graph if isinstance(n, Reduce) and (part := _first(n, graph)) is not None}
    if not parts:
        return graph
    known = {_meaning(n): n for n in graph if isinstance(n, Reduce) and n.name not in {*parts, *rounded}}
    out: list[Node] = []
    for node in graph:
        part = parts.get(node.name)
        if part is None or not isinstance(node, Reduce):
            out.append(node)
            continue
        found = known.setdefault(_meaning(part), part)
        if found is part:
            out.append(part)
        rest = tuple(a for a in node.over if a not in part.over)
        out.append(replace(node, over=rest, body=own_element(found), where=None, init=None))
    return replace(graph, nodes=tuple(out))


def reads_tiles(node: Node, graph: Graph) -> bool:
    """Whether an operand is a tile value of the graph."""
    return any(is_tile(graph[name]) for name in operands(node))


def _kept(graph: Graph) -> Graph:
    """Sums over some tokens that keep a query and a key index of several, as gradients of biases of rows of pixels, are
    no values of pairs: where they are more than added up, they are tensors. So are, in a graph of gradients, sums of
    values of pairs over what else these have: of a tensor in memory that entries of the batch share."""
    adjoint = any(n.role == "cotangent" for n in graph.inputs)
    read = {name for n in graph if not isinstance(n, Scatter) for name in operands(n)}

    def tensor(node: Node) -> Node:
        if not (isinstance(node, Reduce) and node.name in read):
            return node
        if not sums_pairs(node) and not (adjoint and _sums_values_of_pairs(node, graph)):
            return node
        at = position(node.axes, node.groups)
        return Scatter(node.name, shape(node), (Update(node.axes + node.over, at, node.body, node.where),), node.span)

    return replace(graph, nodes=tuple(map(tensor, graph)))


def sums_pairs(node: Reduce) -> bool:
    """Whether the node has a query and a key index, and sums over others."""
    return is_tile(node) and node.op == "sum" and any(a.role for a in node.over)


def _sums_values_of_pairs(node: Reduce, graph: Graph) -> bool:
    tiles = [t for name in operands(node) if isinstance(t := graph[name], Map | Reduce) and is_tile(t)]
    return is_tile(node) and node.op == "sum" and any(set(node.over) & set(tile.axes) for tile in tiles)


def _first(node: Reduce, graph: Graph) -> Reduce | None:
    """The sum over the tokens of one side that the node begins with, if it goes on."""
    kept = {a.role for a in node.axes}  # a sum that keeps one of two key indices is one over queries first
    sides = (tuple(a for a in node.over if a.role == role) for role in ("column", "row") if role not in kept)
    first = next(filter(None, sides), ())
    rest = tuple(a for a in node.over if a not in first)
    if not first or not rest or node.op == "logsumexp" or not reads_tiles(node, graph):
        return None
    return Reduce(f"{node.name}.tokens", node.axes + rest, first, node.op, node.body, node.where)


def _meaning(node: Reduce) -> object:
    """What is equal where two nodes are the same numbers, whatever the order of their axes and factors."""
    return frozenset(node.axes), frozenset(node.over), node.op, as_product(factors(node.body)), node.where, node.init
