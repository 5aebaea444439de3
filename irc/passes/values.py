"""Values of each pair: `matmul z[b,i,j,f]`, as of AlphaFold's pair representation, of which queries share nothing.

For each query the heads' weights times its own values are a matrix product, and heads are the rows of it. A kernel has
queries for rows, and would read each value for one pair alone. So the weights are a tensor, as the values are one: of a
number for each head where the values have their features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from irc.codegen.expr import Expr, Index, Load, indices, op
from irc.graph.ir import Graph, Input, Node, Reduce, Scatter, Update, is_tile
from irc.passes.products import matrix_product
from irc.passes.simplify import factors, times_all
from irc.passes.split import reads_tiles


def with_weights(graph: Graph) -> Graph:
    """The graph in which such sums read their weights as tensors."""
    nodes: list[Node] = []
    for node in graph:
        nodes += _weighted(node, graph) if isinstance(node, Reduce) and not is_tile(node) else (node,)
    return replace(graph, nodes=tuple(nodes))


def _weighted(node: Reduce, graph: Graph) -> tuple[Node, ...]:
    found = weights_and_values(node, graph, lambda n: isinstance(n, Input))
    if found is None:
        return (node,)
    weights, values = found
    sides = [{a.name for a in node.axes + node.over if a.role == role} for role in ("row", "column")]
    plain = {i.name for i in values.indices if isinstance(i, Index)}
    if len(plain) != len(values.indices) or not all(side and side <= plain for side in sides):
        return (node,)
    keys = tuple(a.index for a in node.over)
    made, own = summed(f"{node.name}.weights", node, weights, keys, tuple(a.size for a in node.over))
    known = replace(graph, nodes=(*graph.nodes, made))
    axes, over = (tuple(replace(a, role="") for a in some) for some in (node.axes, node.over))
    total = replace(node, axes=axes, over=over, body=op("mul", Load(made.name, (*own, *keys)), values), where=None)
    return (made, total) if matrix_product(total, known) else (node,)


def weights_and_values(node: Reduce, graph: Graph, are_values: Callable[[Node], bool]) -> tuple[Expr, Load] | None:
    """The weights of pairs, and the values that the node sums over keys with them: the one tensor that `are_values`."""
    parts = factors(node.body)
    read = [f for f in parts if isinstance(f, Load) and are_values(graph[f.tensor])]
    weights = tuple(f for f in parts if f not in read)
    if node.op != "sum" or len(read) != 1 or not weights:
        return None
    if {a.role for a in node.over} != {"column"} or not reads_tiles(node, graph):
        return None
    return times_all(weights), read[0]


def summed(
    name: str, node: Reduce, weights: Expr, at: tuple[Expr, ...], sizes: tuple[Expr, ...]
) -> tuple[Scatter, tuple[Expr, ...]]:
    """The node's weights, added up at the place of each key among `sizes`, for each point of the axes that they read;
    and the indices of these."""
    asked = indices(weights) | (frozenset() if node.where is None else indices(node.where))
    axes = tuple(a for a in node.axes if a.name in asked)
    own = tuple(a.index for a in axes)
    update = Update(axes + node.over, (*own, *at), weights, node.where)
    return Scatter(name, (*(a.size for a in axes), *sizes), (update,), node.span), own
