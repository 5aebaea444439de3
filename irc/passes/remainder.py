"""What a float of a logsumexp leaves out, kept beside it for the kernels that read it.

A backward run computes weights again, as exp(score - lse), and so do kernels of what is made of weights. Where scores
are in the hundreds, a float of lse and its product with log2(e) (codegen/powers.py) are off by some 1e-5, and all
weights of the row, and its gradients, by that factor; where they are -1e9, as a mask that is added makes them, lse has
lost the number of keys. The kernel that makes the logsumexp therefore makes its remainder too, one number a row, and
weights become exp((score - lse) - remainder). The first difference is small where the weight is not, and loses nothing
there.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from irc.codegen.expr import Expr, Load, Op, op, rebuild
from irc.graph.ir import Graph, Input, Node, remainder_name
from irc.passes.simplify import rewrite


def with_remainders(backward: Graph, made: Container[str]) -> Graph:
    """The backward graph with the remainders that the forward run has `made` of logsumexps, as tile kernels do."""
    nodes: list[Node] = []
    found: set[str] = set()
    for node in backward:
        nodes.append(node)
        if isinstance(node, Input) and node.role == "saved" and remainder_name(node.name) in made:
            nodes.append(replace(node, name=remainder_name(node.name)))
            found.add(node.name)
    return replace(backward, nodes=tuple(rewrite(n, lambda e: exact(e, found)) for n in nodes))


def exact(expr: Expr, known: Container[str]) -> Expr:
    """The expression, its weights computed from whole logsumexps where they are `known`."""

    def whole(e: Expr) -> Expr | None:
        match e:
            case Op("exp" | "share" as name, (Op("sub", (score, Load(lse, at) as rounded)),)) if lse in known:
                near = op("sub", rebuild(score, whole), rounded)
                return op(name, op("sub", near, Load(remainder_name(lse), at)))
        return None

    return rebuild(expr, whole)


def weighs(expr: Expr, lse: str) -> bool:
    """Whether a weight is computed from that logsumexp."""
    return exact(expr, {lse}) != expr
