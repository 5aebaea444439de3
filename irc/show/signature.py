"""What a program takes and returns, in the words of the language."""

from __future__ import annotations

from irc.codegen.expr import Expr, Kind
from irc.compiled import arguments
from irc.graph.ir import Graph, kind, shape
from irc.graph.printer import expression


def signature(graph: Graph) -> str:
    """`causal(q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]) -> o[B,H,S,D], lse[B,H,S]`; floating where no type stands."""
    taken = (_short(n.name, n.shape, n.kind) for n in arguments(graph))
    given = (_short(name, shape(graph[node]), kind(graph[node])) for name, node in graph.outputs)
    return f"{graph.name}({', '.join(taken)}) -> {', '.join(given)}"


def tensor(name: str, dims: tuple[Expr, ...]) -> str:
    """`q[B,H,S,D]`; of a scalar its name alone."""
    return f"{name}[{','.join(expression(s) for s in dims)}]" if dims else name


def _short(name: str, dims: tuple[Expr, ...], of: Kind) -> str:
    typed = of is not Kind.FLOAT or not dims
    return tensor(name, dims) + (f": {of.value}" if typed else "")
