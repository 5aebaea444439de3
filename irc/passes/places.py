"""Matrix products with what is read at several places, as the taps of a convolution that mixes features, `sum(u c:
W[c,d,u] * q[b,s - u,c])`: first the products for each place there is, then the sum of those that are wanted.

An operand of all that is read would be as many times larger as there are taps, and a loop over the taps makes the
products one by one. Where a condition holds some back, what they would be multiplied with is 0.
"""

from __future__ import annotations

from dataclasses import replace

from irc.codegen.expr import Axis, Expr, Index, Load, Op, indices, number, op, substitute
from irc.codegen.loops import are_few
from irc.graph.ir import Graph, Node, Reduce, is_tile, own_element, shape
from irc.graph.size import equal
from irc.passes.products import matrix_product
from irc.passes.simplify import factors
from irc.passes.split import reads_tiles

ZERO = number(0.0)


def by_places(graph: Graph) -> Graph:
    """The graph with such products."""
    nodes: list[Node] = []
    for node in graph:
        nodes += (isinstance(node, Reduce) and _by_places(node, graph)) or (node,)
    return replace(graph, nodes=tuple(nodes))


def _by_places(node: Reduce, graph: Graph) -> tuple[Node, ...]:
    """Nothing where the sum is no such one."""
    parts = factors(node.body)
    if node.op != "sum" or len(parts) != 2 or is_tile(node) or reads_tiles(node, graph):
        return ()
    for plain, moved in (parts, parts[::-1]):
        read, condition = moved, None
        if isinstance(moved, Op) and moved.name == "where" and moved.args[2] == ZERO:
            condition, read = moved.args[:2]
        if isinstance(plain, Load) and isinstance(read, Load) and (made := _made(node, plain, read, condition, graph)):
            return made
    return ()


def _made(node: Reduce, plain: Load, read: Load, condition: Expr | None, graph: Graph) -> tuple[Node, ...]:
    """The products, what they are where the condition fails, and their sum."""
    dims = [k for k, index in enumerate(read.indices) if not isinstance(index, Index)]
    asked = frozenset() if condition is None else indices(condition)
    if len(dims) != 1 or node.where is not None:
        return ()
    at, length = read.indices[dims[0]], shape(graph[read.tensor])[dims[0]]
    features = tuple(a for a in node.over if a.name in indices(plain) and a.index in read.indices)
    features = tuple(a for a in features if a.name not in indices(at) | asked)
    taps = tuple(a for a in node.over if a not in features)
    tokens = [a for a in node.axes if a.name in indices(at) and equal(a.size, length, {})]
    if not features or not taps or not are_few(taps) or not tokens or indices(plain) & {a.name for a in tokens}:
        return ()
    place = Axis(f"{node.name}.place", length)
    everywhere = Load(read.tensor, tuple(place.index if k in dims else e for k, e in enumerate(read.indices)))
    rest = [a for a in (*node.axes, *taps) if a.name in indices(plain) | indices(everywhere)]
    axes = (*(a for a in rest if a.name in indices(everywhere)), place)
    axes += tuple(a for a in sorted(rest, key=lambda a: a not in taps) if a not in axes)
    whole = Reduce(f"{node.name}.places", axes, features, "sum", op("mul", plain, everywhere), None)
    if matrix_product(whole, graph) is None:
        return ()
    wanted = substitute(own_element(whole), {place.index: at})
    if condition is None:
        return whole, replace(node, over=taps, body=wanted)
    mine = tuple(a for a in axes if a.name in indices(plain))
    nothing = Reduce(f"{node.name}.nowhere", mine, features, "sum", op("mul", plain, ZERO), None)
    return whole, nothing, replace(node, over=taps, body=op("where", condition, wanted, own_element(nothing)))
