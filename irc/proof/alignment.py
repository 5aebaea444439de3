"""Which `align` a program lacks that says nothing of where its queries sit among its keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from irc.codegen.expr import Expr, op
from irc.graph.ir import Core, Graph, Property, product


def proved_with(graph: Graph, property: Property, holds: Callable[[Graph, Property], bool]) -> str | None:
    """The first under which the property is proved, in every core without one. What these cores compute does not
    change: only with an `align` may a query's index be compared with a key's of another size."""
    for stage, place in {"align first": _first, "align last": _last}.items():
        cores = tuple(replace(c, position=c.position or place(c)) for c in graph.cores)
        if holds(replace(graph, cores=cores), property):
            return stage
    return None


def _first(core: Core) -> tuple[Expr, ...]:
    return tuple(a.index for a in core.rows)


def _last(core: Core) -> tuple[Expr, ...]:
    """A single query index sits among all keys, several each among one index of these."""
    keys = [a.size for a in core.columns]
    among = keys[: len(core.rows)] if len(core.rows) > 1 else [product(tuple(keys))]
    return tuple(op("add", a.index, op("sub", n, a.size)) for a, n in zip(core.rows, among, strict=False))
