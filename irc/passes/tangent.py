"""The tangent graph: forward mode, one rule a node, closed over the same four nodes; and second derivatives, which are
the tangents of the forward and the backward graph taken as one.

A node's tangent lies beside it, as `NAME.tangent`, over the same axes and inside the same `where`: a blocked pair does
not exist here either. It is linear in the tangents that it reads; a sum has one part for each factor that moves, so
that every part is a product again and is fused like one. A sum over batch entries that leaves a number a pair stays
whole: it is made pair by pair, where nothing is a product.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from irc.codegen.expr import Expr, Kind, Load, Op, loads, number, op, substitute
from irc.graph.ir import Graph, Input, Map, Node, Reduce, Scatter, is_tile, kind, own_element, shape
from irc.passes.derivative import ZERO, mul_where, partial
from irc.passes.differentiate import differentiable, differentiate, order
from irc.passes.simplify import simplify
from irc.passes.split import reads_tiles

Part = tuple[Expr, Load]  # the slope of a body in an element that it reads, and that element's tangent


def tangent_name(name: str) -> str:
    return f"{name}.tangent"


def tangent(graph: Graph, along: Collection[str]) -> Graph:
    """The graph that maps inputs, and a tangent `NAME.tangent` for each input of `along`, to the outputs of `graph` and
    the tangents of those that are floating, `(output.tangent, …)`. All other inputs stand still."""
    floating = [(public, name) for public, name in graph.outputs if kind(graph[name]) is Kind.FLOAT]
    made = _Forward(graph, along).run(tuple(name for _, name in floating))
    tangents = tuple((tangent_name(public), tangent_name(name)) for public, name in floating)
    return simplify(replace(made, name=f"{graph.name}.tangent", outputs=(*graph.outputs, *tangents)))


def second(graph: Graph, along: Collection[str]) -> Graph:
    """The graph that maps inputs, cotangents of the outputs and tangents of the inputs in `along` to the tangents of
    the gradients, `(input, …)`: the Hessian of `sum(output * cotangent)` times the tangents."""
    backward = differentiate(graph)
    own = {n.name for n in graph}
    nodes = order((*graph.nodes, *(n for n in backward if n.name not in own)))
    made = _Forward(replace(backward, nodes=nodes, kept=()), along).run(tuple(name for _, name in backward.outputs))
    outputs = tuple((name, tangent_name(gradient)) for name, gradient in backward.outputs)
    return simplify(replace(made, name=f"{graph.name}.second", outputs=outputs))


class _Forward:
    def __init__(self, graph: Graph, along: Collection[str]) -> None:
        unknown = set(along) - set(differentiable(graph))
        if unknown:
            raise ValueError(f"no differentiable input is called {', '.join(sorted(unknown))}")
        self.graph = graph
        self.along = along
        self.moving: set[str] = set()
        self.nodes: list[Node] = []

    def run(self, wanted: tuple[str, ...]) -> Graph:
        """The graph with the tangents of all nodes that move, and zeros for those `wanted` that do not."""
        for node in self.graph:
            made = self._visit(node)
            self.nodes.append(node)
            if made is not None:
                self.nodes.append(made)
                self.moving.add(node.name)
        still = (n for n in dict.fromkeys(wanted) if n not in self.moving)
        self.nodes += [Scatter(tangent_name(n), shape(self.graph[n]), ()) for n in still]
        return replace(self.graph, nodes=order(self.nodes))

    def _visit(self, node: Node) -> Node | None:
        """The node's tangent, after whatever it reads; None where the node stands still."""
        name = tangent_name(node.name)
        match node:
            case Input():
                return replace(node, name=name, role="tangent") if node.name in self.along else None
            case Map():
                whole: dict[Expr, Expr] = {node.body: own_element(node)} if isinstance(node.body, Op) else {}
                parts = [(substitute(slope, whole), moved) for slope, moved in self._parts(node.body)]
                return replace(node, name=name, body=total(parts)) if parts else None
            case Reduce(op="sum"):
                return self._sum(node)
            case Reduce(op="logsumexp"):
                return self._logsumexp(node)
            case Reduce(op="max"):
                return self._max(node)
            case Reduce(op="argmax"):
                return None
            case Scatter():
                updates = [(u, self._parts(u.body)) for u in node.updates]
                moved = tuple(replace(u, body=total(parts)) for u, parts in updates if parts)
                return replace(node, name=name, updates=moved) if moved else None
        raise AssertionError(f"no tangent rule for {node.name}")

    def _parts(self, body: Expr) -> list[Part]:
        """The slope of a body in each element that it reads and that moves, with the element's tangent."""
        parts: list[Part] = []
        for load in loads(body):
            if load.tensor in self.moving and load.kind is Kind.FLOAT:
                slope = partial(body, load)
                if slope != ZERO:
                    parts.append((slope, Load(tangent_name(load.tensor), load.indices)))
        return parts

    def _sum(self, node: Reduce) -> Node | None:
        """A sum for each element that moves, added up; one sum where values of pairs make a value of a pair."""
        parts = self._parts(node.body)
        name = tangent_name(node.name)
        if len(parts) <= 1 or (is_tile(node) and reads_tiles(node, self.graph)):
            return replace(node, name=name, body=total(parts)) if parts else None
        sums = [replace(node, name=f"{name}.part{k}", body=total([part])) for k, part in enumerate(parts)]
        self.nodes += sums
        return Map(name, node.axes, added([own_element(s) for s in sums]), None, node.groups, node.span)

    def _logsumexp(self, node: Reduce) -> Node | None:
        """The mean of the logits' tangents under the weights; `init` is one more logit."""
        name, own = tangent_name(node.name), own_element(node)
        parts, ends = self._parts(node.body), [] if node.init is None else self._parts(node.init)
        mean = None
        if parts:
            body = mul_where(total(parts), op("share", op("sub", node.body, own)))
            mean = replace(node, name=name, op="sum", body=body, init=None)
        if not ends or node.init is None:
            return mean
        share = mul_where(total(ends), op("share", op("sub", node.init, own)))
        if mean is None:
            return Map(name, node.axes, share, None, node.groups, node.span)
        mean = replace(mean, name=f"{name}.keys")
        self.nodes.append(mean)
        return Map(name, node.axes, op("add", own_element(mean), share), None, node.groups, node.span)

    def _max(self, node: Reduce) -> Node | None:
        """The mean of the tangents of the largest entries."""
        parts = self._parts(node.body)
        if not parts:
            return None
        name = tangent_name(node.name)
        largest = op("where", op("eq", node.body, own_element(node)), number(1.0), ZERO)
        count = replace(node, name=f"{name}.ties", op="sum", body=largest)
        self.nodes.append(count)
        return replace(node, name=name, op="sum", body=mul_where(op("div", total(parts), own_element(count)), largest))


def total(parts: list[Part]) -> Expr:
    return added([mul_where(moved, slope) for slope, moved in parts])


def added(terms: list[Expr]) -> Expr:
    result: Expr = ZERO
    for term in terms:
        result = op("add", result, term)
    return result
