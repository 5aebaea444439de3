"""Sums over what is itself a sum for each pair, as one sum: heads mixed before a softmax.

`sum(g: P[g,m] * sum(c: q[g,i,c] * k[g,j,c]))` sums, over heads, what a tile of pairs is for each; no kernel holds the
tiles of all heads at once. `sum(g c: P[g,m] * q[g,i,c] * k[g,j,c])` is one product of longer vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from irc.codegen.expr import Axis, Expr, Load, Op, loads, number, op
from irc.graph.ir import Core, Map, Node, Reduce, bodies, is_tile, own_element
from irc.passes.simplify import add_all, factors, times_all

Inner = dict[Load, Reduce]
Term = tuple[tuple[Axis, ...], tuple[Expr, ...]]
"""What else is summed over, and the factors."""


def joined(nodes: Sequence[Node], cores: Sequence[Core]) -> tuple[Node, ...]:
    """The nodes with such sums joined, without those that nothing reads any more."""
    alone = {a for core in cores if not core.rows for a in core.columns}  # of one query, whose pairs are keys
    out: list[Node] = []
    sums: Inner = {}
    gone: set[str] = set()
    for node in nodes:
        is_sum = isinstance(node, Reduce) and node.op == "sum" and node.where is None
        if not isinstance(node, Reduce) or not is_sum or not (is_tile(node) or alone & set(node.axes)):
            out.append(node)
            continue
        over = {a.name for a in node.over}
        inner = {e: n for e, n in sums.items() if over & {a.name for a in n.axes} and e in loads(node.body)}
        terms = _terms(node.body, inner, over) if inner else None
        if terms is None:
            out.append(node)
            sums[own_element(node)] = node
            continue
        parts = _parts(node, terms)
        sums |= {own_element(part): part for part in parts if isinstance(part, Reduce)}
        gone |= {n.name for n in inner.values()}
        out += parts
    kept = {load.tensor for core in cores for e in (core.score, core.weight) for load in loads(e)}
    for node in reversed(out):
        if node.name not in gone or node.name in kept:
            kept |= {load.tensor for e in _expressions(node) for load in loads(e)}
    return tuple(n for n in out if n.name not in gone or n.name in kept)


def _expressions(node: Node) -> tuple[Expr, ...]:
    return bodies(node) if isinstance(node, Map | Reduce) else ()


def _parts(node: Reduce, terms: list[Term]) -> list[Map | Reduce]:
    """A sum for each term, and the sum of these."""
    names = [node.name] if len(terms) == 1 else [f"{node.name}.{n}" for n in range(1, len(terms) + 1)]
    parts: list[Map | Reduce] = [
        replace(node, name=name, over=(*node.over, *also), body=times_all(product))
        for name, (also, product) in zip(names, terms, strict=True)
    ]
    if len(parts) > 1:
        parts.append(Map(node.name, node.axes, add_all(map(own_element, parts)), groups=node.groups, span=node.span))
    return parts


def _terms(e: Expr, inner: Inner, over: set[str]) -> list[Term] | None:
    """The expression as a sum of products in which each inner sum is opened; None where one stands otherwise."""
    if not any(load in inner for load in loads(e)):
        return [((), factors(e))]
    match e:
        case Load() if e in inner:
            return [(inner[e].over, factors(inner[e].body))]
        case Op("neg", (a,), _):
            return _times(_terms(number(-1.0), inner, over), _terms(a, inner, over), over)
        case Op("add" | "sub" as name, (a, b), _):
            left, right = _terms(a, inner, over), _terms(b if name == "add" else op("neg", b), inner, over)
            return None if left is None or right is None else left + right
        case Op("mul", (a, b), _):
            return _times(_terms(a, inner, over), _terms(b, inner, over), over)
        case Op("div", (a, b), _):
            return _times(_terms(a, inner, over), _terms(op("div", number(1.0), b), inner, over), over)
        case _:
            return None


def _times(left: list[Term] | None, right: list[Term] | None, over: set[str]) -> list[Term] | None:
    """The products of each with each; None where two would sum over one index."""
    if left is None or right is None:
        return None
    made: list[Term] = []
    for a, x in left:
        for b, y in right:
            taken = [axis.name for axis in (*a, *b)]
            if len({*taken, *over}) < len(taken) + len(over):
                return None
            made.append(((*a, *b), (*x, *y)))
    return made
