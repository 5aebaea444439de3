"""Chains as claims: what holds of the entry that an output reads, wherever it reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from irc.codegen.expr import Expr, Index, Op, loads, substitute
from irc.graph.ir import Graph, bodies
from irc.graph.printer import expression
from irc.proof.claim import Claim
from irc.proof.flow import Chain, Undecided, all_of, own_axes, reads_floats, which_floats


def claim(
    graph: Graph, name: str, chain: Chain, goal: Expr, about: str, said: tuple[Expr, ...], in_core: bool = False
) -> Claim:
    """`goal` holds wherever the chain exists; `about` has a hole for each expression of `said`. With `in_core` in the
    indices of the core nearest to the input."""
    if reads_floats(goal):
        raise Undecided(f"which entry of `{chain.tensor}` is read depends on {which_floats(goal, graph)}")
    axes = own_axes(graph[name]) + chain.bound
    core, names = _core_names(chain, graph, {a.name for a in axes}) if in_core else (None, {})
    new: dict[Expr, Expr] = {Index(old): Index(fresh) for old, fresh in names.items()}
    free = tuple(replace(a, name=names.get(a.name, a.name)) for a in axes)
    said = tuple(substitute(e, new) for e in said)
    sentence = about.format(*map(expression, said))
    given = substitute(all_of(chain.where), new)
    return Claim(sentence, free, substitute(goal, new), given, core=core, words=about, said=said)


def moved(found: Claim, chain: Chain, graph: Graph, dims: Callable[[str], tuple[int, ...]]) -> Claim:
    """With the first statement on the chain that reads one of those dimensions at an expression of its indices."""
    for name, tensor in zip(chain.path, chain.path[1:], strict=False):
        for load in (x for e in bodies(graph[name]) for x in loads(e) if x.tensor == tensor):
            for index in (load.indices[d] for d in dims(tensor)):
                if not isinstance(index, Index) and not (isinstance(index, Op) and index.name == "flat"):
                    return replace(found, span=graph[name].span)
    return found


def _core_names(chain: Chain, graph: Graph, free: set[str]) -> tuple[str | None, dict[str, str]]:
    """The core whose pair the chain reads, and names of its indices for axes; other axes get out of their way."""
    assert chain.place is not None
    core = next(c for c in graph.cores if c.name == chain.place.core)
    names: dict[str, str] = {}
    for inside, e in chain.place.at:
        if isinstance(e, Index) and e.name in free:
            names.setdefault(e.name, inside)
    if not {a.name for a in core.rows + core.columns} <= set(names.values()):
        return None, {}
    for name in sorted(free - set(names)):
        fresh = name
        while fresh in names.values():
            fresh += "'"
        names[name] = fresh
    return core.name, names
