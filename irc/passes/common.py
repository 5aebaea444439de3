"""Scores that several cores compute of the same pairs, made once.

A quotient of two sums over keys, several values with the same weights, or a loss both ways, whose second scores are
the first ones transposed: what the cores compute alike is one value of pairs, which all of them read. So its gradient
is one value too, added up before queries and keys are multiplied with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain, permutations

from irc.codegen.expr import Axis, Expr, Index, Load, indices, loads, rebuild, substitute
from irc.graph.ir import Core, Graph, Map, Node, Reduce, all_axes, bodies, is_tile, operands, own_element, position
from irc.passes.simplify import as_product, factors, rewrite, unified
from irc.passes.split import reads_tiles

TURNED = {"": "", "row": "column", "column": "row"}
FACTORS = 4  # at most, of scores that are compared in any order of these

Made = Map | Reduce
Renamed = Mapping[Axis, Axis]
Moved = tuple[tuple[Expr, ...], Load]  # where an element was, and what it is now


def in_common(graph: Graph, turned: bool = False) -> Graph:
    """The graph in which cores that have a score in common are over the same pairs, and compute once what is the same.
    `turned`: also those whose queries are the others' keys, of which no kernel of the graph makes a softmax."""
    groups: list[list[Made]] = []
    first: set[str] = set()  # the nodes of cores that keep their pairs
    turned = turned and not any(isinstance(n, Reduce) and n.op in ("max", "argmax") for n in graph)
    for core in _cores(graph):
        for group in groups:
            if (axes := _same_pairs(core, group, turned)) is not None:
                group += _over(core, axes, _pairs(group))
                break
        else:
            groups.append(core)
            first |= {n.name for n in core}
    several = {n.name: n for group in groups for n in group if any(m.name not in first for m in group)}
    if not several:
        return graph
    cores = tuple(c for c in graph.cores if _read(c) & first or not _read(c) & several.keys())
    return replace(graph, nodes=_once(graph, several), cores=cores)


def _read(core: Core) -> set[str]:
    return {load.tensor for e in (core.score, core.weight) for load in loads(e)}


def _cores(graph: Graph) -> list[list[Made]]:
    """Values of pairs that read each other, with the sums that read them. Those come first whose rows share their keys:
    others, of values that each query has by itself, have heads for rows (elaborate/roles.py)."""
    places = {node.name: place for place, node in enumerate(graph)}
    found: list[list[Made]] = []
    for node in graph:
        if isinstance(node, Map | Reduce) and (is_tile(node) or reads_tiles(node, graph)):
            read = {name for name in operands(node) if is_tile(graph[name])}
            mine = [core for core in found if any(n.name in read for n in core)]
            found = [core for core in found if core not in mine]
            found.append([*chain.from_iterable(mine), node])
    made = [sorted(core, key=lambda n: places[n.name]) for core in found]
    return sorted(made, key=lambda core: (_own_keys(core), places[core[0].name]))


def _own_keys(core: Iterable[Made]) -> bool:
    """Whether a score reads what is of a key and of a row."""
    rows, columns = ({a.name for n in core for a in n.axes if a.role == role} for role in ("row", "column"))
    read = (indices(load) for score in _scores(core) for load in loads(score.body))
    return any(names & rows and names & columns for names in read)


def _pairs(core: Iterable[Made]) -> tuple[Axis, ...]:
    """The indices of the core's pairs."""
    return tuple(dict.fromkeys(a for n in core if is_tile(n) for a in n.axes))


def _scores(core: Iterable[Made]) -> list[Reduce]:
    return [n for n in core if isinstance(n, Reduce) and is_tile(n) and n.op == "sum"]


def _same_pairs(core: list[Made], group: list[Made], turned: bool) -> Renamed | None:
    """The indices of the core's pairs with those of the group's that they are, if a score and the mask are the same."""
    theirs, ours = _pairs(group), _pairs(core)
    for turns in (False, True) if turned else (False,):
        for score in _scores(core):
            for other in _scores(group):
                for axes in _matches(score, other, turns):
                    known = {a: axes.get(a, a) for a in ours}
                    if set(known.values()) == set(theirs) and len(theirs) == len(ours) and _fits(core, known, group):
                        return known
    return None


def _fits(core: list[Made], axes: Renamed, group: list[Made]) -> bool:
    """Whether no other index has the name that one gets, and the same pairs exist."""
    others = {a.name for n in core for a in all_axes(n) if a not in axes}
    named = {new.name for old, new in axes.items() if old != new}
    return not others & named and _supports(_over(core, axes, _pairs(group))) == _supports(group)


def _supports(core: Iterable[Made]) -> set[Expr]:
    return {n.where for n in core if n.where is not None}


def _matches(score: Reduce, other: Reduce, turns: bool) -> Iterable[Renamed]:
    """What makes the indices of one sum of products those of the other, `turns` rows into columns."""
    mine, theirs = factors(score.body), factors(other.body)
    if len(mine) != len(theirs) or len(mine) > FACTORS or len(score.over) != len(other.over):
        return
    for some in permutations(mine):
        names: dict[str, str] = {}
        if not all(unified(x, y, names) for x, y in zip(some, theirs, strict=True)):
            continue
        made = {a.name: a for a in all_axes(other)}
        pairs = [(a, made[names[a.name]]) for a in all_axes(score) if a.name in names]
        alike = all(a.size == b.size and (a in score.over) == (b in other.over) for a, b in pairs)
        if alike and all(
            (TURNED[a.role] == b.role) if turns else (a.role == b.role or "column" not in (a.role, b.role))
            for a, b in pairs
        ):
            yield {a: b for a, b in pairs if a not in score.over}


def _over(core: Iterable[Made], axes: Renamed, order: tuple[Axis, ...]) -> list[Made]:
    """The nodes with these names of their indices; those of values of pairs in that `order`."""
    places: dict[Expr, Expr] = {a.index: b.index for a, b in axes.items()}
    made: list[Made] = []
    moved: dict[str, Moved] = {}
    for node in core:
        new = rewrite(node, lambda e: _read_at(substitute(e, places), moved))
        assert isinstance(new, Map | Reduce)
        own = tuple(axes.get(a, a) for a in new.axes)
        if isinstance(new, Reduce):
            new = replace(new, over=tuple(axes.get(a, a) for a in new.over))
        new = replace(new, axes=tuple(sorted(own, key=order.index)) if is_tile(node) else own)
        moved[node.name] = position(own, node.groups), own_element(new)
        made.append(new)
    return made


def _read_at(expr: Expr, moved: Mapping[str, Moved]) -> Expr:
    """The expression that reads elements where they are now."""

    def swap(part: Expr) -> Expr | None:
        if not isinstance(part, Load) or part.tensor not in moved:
            return None
        before, now = moved[part.tensor]
        at = dict(zip(before, (_read_at(e, moved) for e in part.indices), strict=True))
        return replace(now, indices=tuple(at[e] for e in now.indices))

    return rebuild(expr, swap)


def _once(graph: Graph, several: Mapping[str, Made]) -> tuple[Node, ...]:
    """The graph's nodes; of `several` cores over the same pairs, those that are the same once."""
    returned = {name for _, name in graph.outputs}
    known: dict[object, Made] = {}
    same: dict[str, Moved] = {}
    out: list[Node] = []
    for node in graph:
        made = rewrite(several.get(node.name, node), lambda e: _read_at(e, same))
        found = (
            known.setdefault(_meaning(made), made) if made.name in several and isinstance(made, Map | Reduce) else made
        )
        if found is made:
            out.append(made)
            continue
        assert isinstance(made, Map | Reduce) and isinstance(found, Map | Reduce)
        same[made.name] = position(made.axes, made.groups), own_element(found)
        if made.name in returned:
            out.append(Map(made.name, made.axes, own_element(found), None, made.groups, made.span))
    return tuple(out)


def _meaning(node: Made) -> object:
    """What is equal where two nodes have the same elements, whatever the order of factors and the names of what they
    sum over."""
    over = node.over if isinstance(node, Reduce) else ()
    names: dict[Expr, Expr] = {a.index: Index(f"over.{n}") for n, a in enumerate(over)}
    body, *others = (substitute(e, names) for e in bodies(node))
    dims = frozenset(node.axes) if is_tile(node) else (node.axes, node.groups)
    summed = (node.op, tuple((a.size, a.role) for a in over)) if isinstance(node, Reduce) else ()
    return dims, summed, as_product(factors(body)), node.where is None, *others
