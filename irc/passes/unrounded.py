"""Outputs as they are before they are rounded to fewer bits, kept for the backward run where its gradients need them.

The adjoint of a score is a difference, weight * (dO·V - dO·O), and what rounding an output O to bf16 adds to it is the
same for all keys of a row. Products with keys average that out. Sums of such adjoints by themselves, gradients of
slopes, tables and scales, do not: they cancel, and the error is a part of what is left. So in a program that has such
gradients the forward run makes its outputs in the type of the arithmetic first.
"""

from __future__ import annotations

from dataclasses import replace

from irc.codegen.expr import Expr, Load, rebuild
from irc.graph.ir import Graph, Input, Map, Node, Reduce, Scatter, is_tile, operands, own_element
from irc.passes.simplify import rewrite
from irc.passes.split import reads_tiles


def with_unrounded(forward: Graph, backward: Graph) -> tuple[Graph, Graph]:
    """The graphs where the backward one reads the outputs of tile kernels before they are rounded, if it sums adjoints
    of scores as they are."""
    if not any(_sums_tiles_alone(node, backward) for node in backward):
        return forward, backward
    saved = {node.name for node in backward.inputs if node.role == "saved"}
    returned = {name for _, name in forward.outputs} & saved
    sums = {n.name for n in forward if n.name in returned and _is_product(n, forward)}

    def unrounded(expr: Expr) -> Expr:
        return rebuild(
            expr, lambda e: replace(e, tensor=_name(e.tensor)) if isinstance(e, Load) and e.tensor in sums else None
        )

    made: list[Node] = []
    for node in forward:
        if isinstance(node, Reduce) and node.name in sums:
            whole = replace(node, name=_name(node.name))
            made += [whole, Map(node.name, node.axes, own_element(whole), groups=node.groups, span=node.span)]
        else:
            made.append(node)
    read = [
        replace(n, name=_name(n.name)) if isinstance(n, Input) and n.name in sums else rewrite(n, unrounded)
        for n in backward
    ]
    return replace(forward, nodes=tuple(made)), replace(backward, nodes=tuple(read))


def _name(output: str) -> str:
    return f"{output}.unrounded"


def _is_product(node: Node, graph: Graph) -> bool:
    """Whether the node sums products of tile values and features over tokens."""
    return _is_sum_of_tiles(node, graph) and not _sums_tiles_alone(node, graph)


def _sums_tiles_alone(node: Node, graph: Graph) -> bool:
    """Whether the node sums tile values over tokens and multiplies them with no features."""
    if isinstance(node, Scatter):
        return reads_tiles(node, graph)
    if not isinstance(node, Reduce) or not _is_sum_of_tiles(node, graph):
        return False
    tiles = [t for name in operands(node) if isinstance(t := graph[name], Map | Reduce) and is_tile(t)]
    return {a.name for a in node.axes} <= {a.name for t in tiles for a in t.axes}


def _is_sum_of_tiles(node: Node, graph: Graph) -> bool:
    return isinstance(node, Reduce) and node.op == "sum" and not is_tile(node) and reads_tiles(node, graph)
