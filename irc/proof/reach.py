"""Which dimensions of tensors are tokens, followed from the cores down to the inputs.

The token indices are the row and column indices of cores. A dimension is a token dimension where its index expression
mentions one and it is as long as the rows or the columns of that core: rows sit at `pos(i)`, columns at `j`. A core
without query indices places nothing: its keys are tokens where they are as many as another core's.
"""

from __future__ import annotations

from irc.codegen.expr import Axis, Expr, Index, Load, indices, loads
from irc.graph.ir import Graph, Input, Map, Reduce, bodies, grouped, shape
from irc.proof.flow import at, core_of, inline, own_axes
from irc.proof.picks import find_picks
from irc.proof.tokens import NOWHERE, Reached, Sides, Tokens, sides


def tokens(graph: Graph) -> Tokens:
    """Follow the row and column indices of the cores down to the inputs."""
    found = Tokens(graph, {c.name: c for c in graph.cores if c.rows}, dict(graph.sizes))
    found.above = _above(found)
    found.inside = _inside(found)
    for node in reversed(graph.nodes):
        here, hot, near = (sides(node, found, reached) for reached in (found.dims, found.reached, found.straight))
        for load in (x for e in bodies(node) for x in loads(e)):
            for dim, index in enumerate(inline(i, graph) for i in load.indices):
                _mark(found, load, dim, _of(here, index))
                _reach(found.reached, load.tensor, dim, _of(hot, index))
                _reach(found.straight, load.tensor, dim, NOWHERE if loads(index) else _of(near, index))
                if _of(hot, index) and loads(index):
                    found.tabled.add(load.tensor)
                if _of(hot, index) and not _of_pair(hot, index):
                    found.alone.add(load.tensor)
    for node in graph.inputs:
        if node.name not in found.dims and node.name not in found.tabled:
            _mark_by_size(found, node)
        for dim in found.of(node.name):
            of = found.dims[node.name][dim]
            found.plain |= {c for c, _ in of if {(c, "row"), (c, "column")} <= of and found.square(c)}
    find_picks(found)
    return found


def _mark_by_size(found: Tokens, node: Input) -> None:
    """An input that no token index reaches, but a fixed one or a sum over all tokens: its length tells."""
    for dim, size in enumerate(node.shape):
        for name in found.cores:
            if found.same(size, found.columns(name)):
                found.dims.setdefault(node.name, {})[dim] = frozenset({(name, "column")})
            elif found.same(size, found.rows(name)):
                found.dims.setdefault(node.name, {})[dim] = frozenset({(name, "row")})


def _of(sides: dict[str, Sides], index: Expr) -> Sides:
    return frozenset(s for n in indices(index) for s in sides.get(n, NOWHERE))


def _of_pair(sides: dict[str, Sides], index: Expr) -> bool:
    of = {n: {side for _, side in sides.get(n, NOWHERE)} for n in indices(index)}
    return any("row" in of[a] and "column" in of[b] for a in of for b in of if a != b)


def _mark(found: Tokens, load: Load, dim: int, sides: Sides) -> None:
    size = shape(found.graph[load.tensor])[dim]
    kept = frozenset((c, side) for c, side in sides if found.token_factor(size, c) is not None)
    if kept:
        dims = found.dims.setdefault(load.tensor, {})
        dims[dim] = dims.get(dim, NOWHERE) | kept


def _reach(reached: Reached, name: str, dim: int, sides: Sides) -> None:
    if sides:
        dims = reached.setdefault(name, {})
        dims[dim] = dims.get(dim, NOWHERE) | sides


def _above(found: Tokens) -> dict[str, dict[int, tuple[str, ...]]]:
    """The dimensions of each tensor that run over the rows of a core."""
    known: dict[str, dict[int, tuple[str, ...]]] = {}
    for node in found.graph:
        axes: dict[str, tuple[str, ...]] = {}
        core = core_of(node, found.graph)
        if core is not None:
            axes = {a.name: (core.name,) for a in core.rows}
        for load in (x for e in bodies(node) for x in loads(e)):
            for dim, cores in known.get(load.tensor, {}).items():
                for name in indices(load.indices[dim]):
                    axes[name] = tuple(dict.fromkeys((*axes.get(name, ()), *cores)))
        groups = node.groups if isinstance(node, Map | Reduce) else ()
        for dim, own in enumerate(grouped(own_axes(node), groups)):
            size = shape(node)[dim]
            here = dict.fromkeys(c for a in own for c in axes.get(a.name, ()))
            kept = tuple(c for c in here if found.same(size, found.rows(c)))
            if kept:
                known.setdefault(node.name, {})[dim] = kept
    return known


def _inside(found: Tokens) -> dict[str, dict[int, tuple[tuple[str, int], ...]]]:
    """The axes of each tensor that run over one of the row indices of a core, which it is read at as it is."""
    known: dict[str, dict[int, tuple[tuple[str, int], ...]]] = {}
    for node in found.graph:
        own = own_axes(node)
        core = core_of(node, found.graph)
        rows = () if core is None else core.rows
        of = {a.name: [(core.name, k)] for k, a in enumerate(rows) if core is not None}
        for load in (x for e in bodies(node) for x in loads(e) if x.tensor in known):
            read = found.graph[load.tensor]
            places = at(read, load.indices)
            for k, axis in enumerate(own_axes(read)):
                place = places[axis.index]
                if isinstance(place, Index):
                    of.setdefault(place.name, []).extend(known[load.tensor].get(k, ()))
        kept = {k: [r for r in of.get(a.name, ()) if _as_long(found, a, r)] for k, a in enumerate(own)}
        known[node.name] = {k: tuple(dict.fromkeys(rows)) for k, rows in kept.items() if rows}
    return known


def _as_long(found: Tokens, axis: Axis, row: tuple[str, int]) -> bool:
    core, k = row
    return found.same(axis.size, found.cores[core].rows[k].size)
