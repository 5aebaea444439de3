"""Values of each pair: `matmul z[b,i,j,f]`, as of AlphaFold's pair representation, of which queries share nothing.

For each query the heads' weights times its own values are a matrix product, and heads are the rows of it. A kernel has
queries for rows, and would read each value for one pair alone. So the weights are a tensor, as the values are one: of a
number for each head where the values have their features."""

from __future__ import annotations

from dataclasses import replace

from irc.codegen.expr import Index, Load, indices, op
from irc.ir import Graph, Input, Node, Reduce, Scatter, Update, is_tile
from irc.products import matrix_product
from irc.simplify import factors, times_all
from irc.split import reads_tiles


def with_weights(graph: Graph) -> Graph:
    """The graph in which such sums read their weights as tensors."""
    nodes: list[Node] = []
    for node in graph:
        nodes += _weighted(node, graph) if isinstance(node, Reduce) and not is_tile(node) else (node,)
    return replace(graph, nodes=tuple(nodes))


def _weighted(node: Reduce, graph: Graph) -> tuple[Node, ...]:
    read = [f for f in factors(node.body) if isinstance(f, Load) and isinstance(graph[f.tensor], Input)]
    weights = tuple(f for f in factors(node.body) if f not in read)
    sides = [{a.name for a in node.axes + node.over if a.role == role} for role in ("row", "column")]
    if node.op != "sum" or len(read) != 1 or not reads_tiles(node, graph) or {a.role for a in node.over} != {"column"}:
        return (node,)
    plain = {i.name for i in read[0].indices if isinstance(i, Index)}
    if len(plain) != len(read[0].indices) or not all(side and side <= plain for side in sides):
        return (node,)
    body = times_all(weights)
    asked = indices(body) | (frozenset() if node.where is None else indices(node.where))
    axes = tuple(a for a in node.axes if a.name in asked) + node.over
    at = tuple(a.index for a in axes)
    made = Scatter(
        f"{node.name}.weights", tuple(a.size for a in axes), (Update(axes, at, body, node.where),), node.span
    )
    known = replace(graph, nodes=(*graph.nodes, made))
    own, over = (tuple(replace(a, role="") for a in some) for some in (node.axes, node.over))
    total = replace(node, axes=own, over=over, body=op("mul", Load(made.name, at), read[0]), where=None)
    return (made, total) if matrix_product(total, known) else (node,)
