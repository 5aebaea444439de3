"""What a value of pairs computes more than once, as a value by itself: of `map score * sigmoid(score)` the score, where
that is a sum with what a table says of the pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from irc.codegen.expr import Expr, Kind, Load, Op, children, indices, substitute, walk
from irc.codegen.outside import LONG
from irc.graph.ir import Graph, Map, is_tile, own_element
from irc.passes.simplify import Growing


def named_apart(graph: Graph) -> Graph:
    """The graph in which such values have names."""
    grown = Growing()
    for node in graph:
        while isinstance(node, Map) and is_tile(node) and (part := _repeated(node, graph)) is not None:
            made = Map("", node.axes, part, node.where, span=node.span)
            name = grown.named(made, f"{node.name}.part")
            node = replace(node, body=substitute(node.body, {part: own_element(replace(made, name=name))}))
        grown.nodes.append(node)
    return replace(graph, nodes=tuple(grown.nodes))


def _repeated(node: Map, graph: Graph) -> Expr | None:
    """The largest such part."""
    sides = [{a.name for a in node.axes if a.role == role} for role in ("row", "column")]
    met = Counter(_evaluated(node.body))
    found = (e for e, times in met.items() if times > 1 and e.kind is Kind.FLOAT and isinstance(e, Op))
    long = [e for e in found if any(_is_long(p, graph) and all(indices(p) & side for side in sides) for p in walk(e))]
    return max(long, key=lambda e: sum(1 for _ in walk(e)), default=None)


def _is_long(expr: Expr, graph: Graph) -> bool:
    if isinstance(expr, Load):
        return not is_tile(graph[expr.tensor])
    return isinstance(expr, Op) and expr.name in LONG


def _evaluated(expr: Expr) -> Iterator[Expr]:
    """The expression and what is below it, but for what only some points evaluate."""
    yield expr
    always = expr.args[:1] if isinstance(expr, Op) and expr.name in ("where", "and", "or") else children(expr)
    for child in always:
        yield from _evaluated(child)
