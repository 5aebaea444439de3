"""Which cores have for keys what a table picks: their key indices are numbers of picks, no positions.

A table picks for each query, `k[b,top[b,i,p],c]`, or for all, `k[b,kept[b,p],c]`. One that has a place for every token
is no list of picks: `k[b,slot[b,j],c]` is token j, wherever it lies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from irc.codegen.expr import TRUE, Axis, Index, Kind, Load, indices, loads, op
from irc.graph.ir import Core, Graph, Input, bodies, shape
from irc.graph.size import equal, size_names
from irc.proof.addresses import chosen
from irc.proof.claim import Claim
from irc.proof.decide import is_proved
from irc.proof.flow import core_of, inline
from irc.proof.tokens import NOWHERE, Reached, Tokens, sides


def with_queries(graph: Graph) -> Graph:
    """The program with a query index for cores that have none among their keys, where a table tells it: `i` of
    `x[b,top[b,i,p],c]`, which runs over such keys as `top` picks, sits where the key of that index does. Where another
    index is as long as these, or keys are blocks of what is picked, nothing says so."""
    return replace(graph, cores=tuple(_with_query(core, graph) for core in graph.cores))


def _with_query(core: Core, graph: Graph) -> Core:
    paired = any(equal(a.size, b.size, dict(graph.sizes)) for a in core.rows for b in core.columns)
    found: set[Axis] = set() if core.position or paired else {*_picking(core, graph)}
    if len(found) != 1 or not found <= {*core.batch}:
        return core
    (axis,) = found
    batch = (*(a for a in core.batch if a != axis), *core.rows)
    return replace(core, batch=batch, rows=(axis,), position=(axis.index,))


def _picking(core: Core, graph: Graph) -> Iterator[Axis]:
    """The indices as long as a dimension in which a table picks each key, for the values of one of them."""
    columns = {a.name for a in core.columns}
    for load in (x for n in graph if core_of(n, graph) == core for e in bodies(n) for x in loads(e)):
        for size, index in zip(shape(graph[load.tensor]), load.indices, strict=True):
            picked = {n for x in loads(index) for n in indices(x)}
            if picked & columns and columns <= indices(index):
                alike = [a for a in (*core.batch, *core.rows) if equal(a.size, size, dict(graph.sizes))]
                yield from alike if any(a.name in picked for a in alike) else ()


def find_picks(found: Tokens) -> None:
    """The cores where no input of tokens is read at the key's own index, but through tables of picks. What is read at
    the number of a pick is of that pick, where the picks are certainly none of all tokens."""
    plain: dict[str, set[str]] = {}
    picks: dict[str, list[tuple[str, Load]]] = {}
    certain: set[str] = set()
    numbered: dict[str, set[tuple[str, int]]] = {}
    for node in found.graph:
        reached, straight = sides(node, found, found.reached), sides(node, found, found.straight)
        for load in (x for e in bodies(node) for x in loads(e) if x.kind is Kind.FLOAT):
            read = [inline(i, found.graph) for i in load.indices]
            for core in found.cores.values():
                rows, columns = (
                    frozenset(n for n in reached if (core.name, s) in reached[n]) for s in ("row", "column")
                )
                keys = {Index(n) for n in columns - rows if (core.name, "column") in straight[n]}
                own = keys & {*read} and not any(indices(i) & rows for i in read)
                given = isinstance(found.graph[load.tensor], Input) and not _shared(load, found, ("param", "const"))
                if own and given:
                    plain.setdefault(core.name, set()).add(load.tensor)
                if isinstance(found.graph[load.tensor], Input):
                    at = ((load.tensor, dim) for dim, i in enumerate(read) if i in keys)
                    numbered.setdefault(core.name, set()).update(at)
                tables = [(dim, x) for dim, i in enumerate(read) for x in loads(i) if indices(x) & columns]
                kept = [x for _, x in tables if _of_query(x, rows, columns)]
                kept += [x for dim, x in tables if keys & {*x.indices} and _is_list(found, core, load, dim)]
                if kept and not _shared(load, found, ("param",)):
                    picks.setdefault(core.name, []).extend((load.tensor, table) for table in kept)
                    if any(_is_certain(found, core, load, dim, _of_query(x, rows, columns)) for dim, x in tables):
                        certain.add(core.name)
    lists = {c for c in picks if c in certain or c not in plain}
    numbers = frozenset((c, "column") for c in lists)
    for core_name in sorted(lists):
        of_picks = [(n, d) for n, d in numbered.get(core_name, ()) if found.dims.get(n, {}).get(d, NOWHERE) <= numbers]
        if not plain.get(core_name, set()) <= {n for n, _ in of_picks}:
            continue
        for name, dim in of_picks:
            for of in (found.dims, found.reached, found.straight):
                _forget(of, name, dim)
        found.ranked |= plain.get(core_name, set())
        found.picks[core_name] = tuple(dict.fromkeys(table for _, table in picks[core_name]))
        for name, table in picks[core_name]:
            found.alone.add(name)
            left = {d: of - {(core_name, "column")} for d, of in found.dims.get(table.tensor, {}).items()}
            found.dims[table.tensor] = {d: of for d, of in left.items() if of}


def _of_query(table: Load, rows: frozenset[str], columns: frozenset[str]) -> bool:
    """Whether a table picks for each query, and is not only chosen by one."""
    return any(not (indices(i) & columns or chosen(i, rows)) for i in table.indices)


def _forget(of: Reached, name: str, dim: int) -> None:
    left = {d: sides for d, sides in of.pop(name, {}).items() if d != dim}
    of |= {name: left} if left else {}


def _is_certain(found: Tokens, core: Core, load: Load, dim: int, of_query: bool) -> bool:
    """Whether keys are picked among tokens of another number than theirs: by each query, or as the queries are."""
    others = not found.same(shape(found.graph[load.tensor])[dim], found.columns(core.name))
    return others and (of_query or (dim in found.of(load.tensor) and _is_list(found, core, load, dim)))


def _is_list(found: Tokens, core: Core, load: Load, dim: int) -> bool:
    """Whether a table that has an entry for each key tells, in a dimension, which tokens of an entry of the batch these
    are."""
    if not found.has_batch(found.graph[load.tensor]):
        return False
    return dim in found.of(load.tensor) or not _numbered(found, core)


def _numbered(found: Tokens, core: Core) -> bool:
    """Whether queries sit among as many keys as the core has, so that the number of a key is a position."""
    keys = found.columns(core.name)
    if set(size_names(core.position)) & set(size_names([keys])):
        return True
    claims = (Claim("", (*core.batch, *core.rows), op("lt", place, keys), TRUE) for place in core.position[:1])
    return any(is_proved(claim, found.graph) for claim in claims)


def _shared(load: Load, found: Tokens, weights: tuple[str, ...]) -> bool:
    """Whether a tensor is the same for all entries of the batch; of arguments those of the roles `weights`."""
    node = found.graph[load.tensor]
    may = node.role in weights if isinstance(node, Input) else bool(found.batches())
    return may and not found.has_batch(node)
