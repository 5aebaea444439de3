"""Softmax does not see what is added to all logits of a row: which nodes are logits that only softmax reads."""

from __future__ import annotations

from collections.abc import Callable

from irc.codegen.expr import Expr, Load, Op, indices, loads, number, op
from irc.graph.ir import Graph, Map, Node, Reduce, bodies, own_element


def row_invariant(graph: Graph) -> frozenset[str]:
    """Names of the logits of which every reader is a softmax over them without a sink: exp(logit - logsumexp logit)."""
    readers: dict[str, list[Node]] = {}
    for node in graph:
        for load in (x for e in bodies(node) for x in loads(e)):
            readers.setdefault(load.tensor, []).append(node)
    returned = {name for _, name in graph.outputs}
    found = set()
    for node in graph:
        if isinstance(node, Reduce) and node.op == "logsumexp" and node.init is None and isinstance(node.body, Load):
            logit = graph[node.body.tensor]
            if not isinstance(logit, Map | Reduce) or {logit.name, node.name} & returned:
                continue
            weight = op("share", op("sub", node.body, own_element(node)))
            others = [r for r in readers[logit.name] + readers.get(node.name, []) if r is not node]
            if node.body == own_element(logit) and all(isinstance(r, Map) and r.body == weight for r in others):
                found.add(logit.name)
    return frozenset(found)


def up_to_rows(expr: Expr, columns: frozenset[str], same_shift: Callable[[Expr], bool]) -> Expr:
    """The logit without what adds one number to the whole row: terms without a column, and integers of which
    `same_shift` says so."""
    if not indices(expr) & columns:
        return number(0.0)
    match expr:
        case Op("add" | "sub" as name, (a, b), _):
            return op(name, up_to_rows(a, columns, same_shift), up_to_rows(b, columns, same_shift))
        case Op("neg", (a,), _):
            return op("neg", up_to_rows(a, columns, same_shift))
        case Op("mul" | "div" as name, (a, b), _) if not indices(b) & columns:
            return op(name, up_to_rows(a, columns, same_shift), b)
        case Op("mul", (a, b), _) if not indices(a) & columns:
            return op("mul", a, up_to_rows(b, columns, same_shift))
        case Op("float", (a,), _) if same_shift(a):
            return number(0.0)
        case _:
            return expr
