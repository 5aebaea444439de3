"""Where entries of outputs and inputs sit in the sequence."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from irc.codegen.expr import Axis, Expr, Kind, flat, indices, loads, substitute
from irc.graph.ir import Core, Map, Node, Reduce, grouped, shape
from irc.graph.printer import expression
from irc.graph.size import size_names, text
from irc.proof.addresses import of_token
from irc.proof.flow import Chain, PropertyError, Undecided, chains, core_of, own_axes, parts
from irc.proof.smt import closed
from irc.proof.tokens import NOWHERE, Tokens


@dataclass(frozen=True, slots=True)
class Output:
    """The token dimension of an output: where its entry sits, at the output's own axes, the core that says so
    (None where the index itself does), how many tokens there are, each number that runs over such (`beside`), and the
    axes of the dimension in which it lies, of which tokens may be one. With `whole` it sits at its index among all
    entries of that dimension, and so does what it reads."""

    position: Expr
    core: Core | None
    batch: dict[Expr, Expr]
    tokens: list[Expr]
    along: tuple[Axis, ...]
    whole: bool = False

    def row(self, index: Expr) -> Expr:
        """Where another entry of that dimension sits."""
        return index if self.core is None else position(self.core, index, self.batch)

    def beside(self, size: Expr, found: Tokens) -> bool:
        return any(found.same(size, n) for n in self.tokens)


def output(found: Tokens, public: str, name: str) -> Output:
    """Raises PropertyError where the output has no token dimension."""
    node = found.graph[name]
    for core_name, index, along in _rows(found, node):
        core = found.placing(found.cores[core_name])
        if core.name in found.plain:
            return Output(index, None, {}, found.beside(core_name), along)
        batch = _batch(found, name, core)
        return Output(position(core, index, batch), core, batch, found.beside(core_name), along)
    raise PropertyError(
        f"output `{public}` has no query dimension, so its entries have no position",
        "return a tensor that has the query index of a core",
    )


def _rows(found: Tokens, node: Node) -> Iterator[tuple[str, Expr, tuple[Axis, ...]]]:
    """The cores of whose rows an entry is one, which one, and the axes of the dimension it lies in: all of these, or
    some, as where heads or chunks are folded into it."""
    dims = grouped(own_axes(node), node.groups if isinstance(node, Map | Reduce) else ())
    for dim, cores in sorted(found.above.get(node.name, {}).items()):
        yield from ((core, whole(node, dim), dims[dim]) for core in cores)
    axes, inside = own_axes(node), found.inside.get(node.name, {})
    for core in found.cores.values():
        at = [[k for k, rows in inside.items() if (core.name, n) in rows] for n in range(len(core.rows))]
        if all(len(places) == 1 for places in at):
            rows = tuple(axes[k] for (k,) in at)
            along = tuple(a for dim in dims if {*dim} & {*rows} for a in dim)
            in_order = along if {*along} == {*rows} and in_place(core) else rows
            yield core.name, flat(tuple((a.index, a.size) for a in in_order)), along


def whole(node: Node, dim: int) -> Expr:
    """The index of one of the node's dimensions, at its own axes."""
    groups = node.groups if isinstance(node, Map | Reduce) else ()
    return flat(tuple((a.index, a.size) for a in grouped(own_axes(node), groups)[dim]))


def _batch(found: Tokens, name: str, core: Core) -> dict[Expr, Expr]:
    """What the core's batch indices are at an element of the output, where its `pos` reads them."""
    read = {n for e in core.position for n in indices(e)} & {a.name for a in core.batch}
    if not read or name == core.name or core_of(found.graph[name], found.graph) == core:
        return {}
    node = found.graph[core.name]
    everything = tuple(range(len(shape(node))))
    for chain in chains(found.graph, name, {core.name: everything}):
        standing: dict[Expr, Expr] = {}
        groups = node.groups if isinstance(node, Map | Reduce) else ()
        for axes, index in zip(grouped(own_axes(node), groups), chain.indices, strict=True):
            standing |= {a.index: e for a, e in zip(axes, parts(index, axes), strict=True)}
        batch: dict[Expr, Expr] = {a.index: standing[a.index] for a in core.batch if a.name in read}
        if not {n for e in batch.values() for n in indices(e)} & {a.name for a in chain.bound}:
            return batch
    raise Undecided(f"the position of `{name}` depends on more than its own entry of the batch")


def position(core: Core, index: Expr, batch: dict[Expr, Expr]) -> Expr:
    """Where row `index` of the core sits among its keys; without `align`, where the key of that index would."""
    if in_place(core):
        return index
    rows = parts(index, core.rows)
    places = [substitute(p, {a.index: e for a, e in zip(core.rows, rows, strict=True)} | batch) for p in core.position]
    if len(places) == 1:
        return places[0]
    if len(places) != len(core.columns):
        raise Undecided(f"`{core.name}` has {len(places)} query indices and {len(core.columns)} for keys")
    return flat(tuple((p, a.size) for p, a in zip(places, core.columns, strict=True)))


def in_place(core: Core) -> bool:
    """Whether a row sits where the key of its index does, as far as `align` says."""
    return core.position in ((), tuple(a.index for a in core.rows))


def key_position(core: Core, standing: dict[str, Expr]) -> Expr:
    """Where the key of a pair sits: the logical key index."""
    return flat(tuple((standing[a.name], a.size) for a in key_axes(core)))


def key_axes(core: Core) -> tuple[Axis, ...]:
    """The key indices that rows are compared with; a single row index with all, as with a page and a place in it."""
    return core.columns if len(core.rows) in (1, len(core.columns)) else core.columns[:1]


def row_core(found: Tokens, name: str, dim: int) -> Core | None:
    """The core whose `pos` tells where the entries sit; None where the index itself does, as for keys."""
    sides, token = found.dims[name][dim], found.token(name, dim)
    placed = sorted(c for c, side in sides if side == "row" and _is_placed(found, c, token.size))
    keyed = sorted(c for c, side in sides if side == "column" and c not in found.plain)
    if placed and keyed:
        among = f"`{placed[0]}` places its queries `{name}` among its keys, and `{keyed[0]}` has `{name}` as its keys"
        raise Undecided(f"{among}: an entry has no one position")
    for core, side in sides:
        if side == "column" or core in found.plain or not found.same(token.size, found.rows(core)):
            return None
    return found.placing(found.cores[min(sides)[0]])


def _is_placed(found: Tokens, core: str, size: Expr) -> bool:
    """Whether `pos` puts the rows of the core, as many as that, elsewhere than their index."""
    return core not in found.plain and not in_place(found.cores[core]) and found.same(size, found.rows(core))


def plainly(found: Tokens, chain: Chain, read: Expr, at_output: Output) -> bool:
    """Whether the pair of the nearest core is the output's own query and what it reads: its key, or its query."""
    if chain.place is None or chain.place.core not in found.cores:
        return False
    core, standing = found.cores[chain.place.core], dict(chain.place.at)
    index = flat(tuple((standing[a.name], a.size) for a in core.rows))
    batch: dict[Expr, Expr] = {a.index: standing[a.name] for a in core.batch}
    query = (index, position(core, index, batch))
    return at_output.position in query and read in (*query, key_position(core, standing))


def input_positions(found: Tokens, chain: Chain, at_output: Output) -> tuple[Expr, ...]:
    """Where the element that a chain reads sits, one expression a token dimension; none for what has no position, nor
    for those of another sequence."""
    standing = dict(chain.place.at) if chain.place else {}
    if not found.of(chain.tensor):
        return _table_position(found, chain, standing)
    out, other = [], other_sequence(found, chain.tensor, at_output)
    for dim, index in zip(found.of(chain.tensor), chain.indices, strict=True):
        if dim in other:
            continue
        size, token = shape(found.graph[chain.tensor])[dim], found.token(chain.tensor, dim)
        if at_output.whole and at_output.beside(size, found):
            out.append(index)
            continue
        core = row_core(found, chain.tensor, dim)
        if not at_output.beside(token.size, found):
            if at_output.core is None and at_output.beside(size, found):
                out.append(index)
                continue
            long = f"`{chain.tensor}` is {text(token.size)} tokens long, and the result {text(at_output.tokens[0])}"
            raise Undecided(f"{long}: nothing says where the ones sit among the others")
        entry = found.entry(chain.tensor, dim, index)
        if core is None:
            out.append(entry)
        elif chain.place is None or chain.place.core != core.name:
            out.append(at_output.row(entry))
        else:
            out.append(position(core, entry, {a.index: standing[a.name] for a in core.batch}))
    return tuple(out)


def other_sequence(found: Tokens, name: str, at_output: Output) -> frozenset[int]:
    """The dimensions that are tokens of another sequence than the output's, as an encoder's: a core has them for keys
    without a word of where its queries sit among them. None is read at an index of the output's own sequence."""
    here = {c for c in found.cores if at_output.beside(found.rows(c), found)}
    own = {(c, side) for c in here for side in ("row", "column") if side == "row" or c not in found.apart}
    keys = [found.columns(core) for core in found.apart]
    out = set()
    for dim in found.of(name):
        size = found.token(name, dim).size
        apart = any(found.same(size, n) for n in keys) and not at_output.beside(size, found)
        if apart and not found.reached.get(name, {}).get(dim, NOWHERE) & own:
            out.add(dim)
    return frozenset(out)


def picked(found: Tokens, chain: Chain) -> bool:
    """Whether an entry of the batch is read where a table picks, and the entry's index is its position: the core says
    of its queries where they sit, and not by how many are picked."""
    core = found.cores.get(chain.place.core) if chain.place else None
    if core is None or core.name not in found.picks or len(chain.indices) != 1 or chain.tensor not in found.tabled:
        return False
    if found.of(chain.tensor) or not found.has_batch(found.graph[chain.tensor]):
        return False
    tables = {table.tensor for table in found.picks[core.name]}
    if not tables & {load.tensor for load in loads(chain.indices[0])}:
        return False
    return not set(size_names(core.position)) & set(size_names(a.size for a in core.columns))


def _check_length(found: Tokens, name: str) -> None:
    """Raises Undecided where the size of a dimension that no token index reaches is made of the number of tokens, as
    that of one token more is."""
    ends = [n for c in found.cores for n in (found.rows(c), found.columns(c))]
    of_tokens = [set(size_names([closed(n, found.definitions)])) for n in ends]
    for size in shape(found.graph[name]):
        names = set(size_names([closed(size, found.definitions)]))
        if any(n and n <= names for n in of_tokens):
            raise Undecided(
                f"`{name}` is {text(size)} long, and read at no token's index: its entries have no position"
            )


def check_addresses(found: Tokens, brought: Collection[str]) -> None:
    """Raises Undecided where an entry of what a call brings is read through a table, and need not be that of the pair's
    own token."""
    graph = found.graph
    data = [n.name for n in graph.inputs if n.name in brought and n.kind is Kind.FLOAT and not found.of(n.name)]
    tabled = {name: found.asked(name) for name in data if name in found.tabled}
    for core, tables in found.picks.items():
        rows = {a.name for a in found.cores[core].rows}
        for table in (t for t in tables if indices(t) & rows):
            raise _unknown_pick(core, table)
    for _, name in graph.outputs:
        for chain in chains(graph, name, tabled, tabled):
            if picked(found, chain) and chain.place is not None:
                raise _unknown_pick(chain.place.core, chain.indices[0])
            _table_position(found, chain, dict(chain.place.at) if chain.place else {})


def _unknown_pick(core: str, place: Expr) -> Undecided:
    return Undecided(f"`{core}` reads its keys at {expression(place)}: nothing says which of them a step can pick")


def _table_position(found: Tokens, chain: Chain, standing: dict[str, Expr]) -> tuple[Expr, ...]:
    """An input without token dimensions: where token indices reach it through a table, the pair's own indices tell."""
    if chain.tensor not in found.reached:
        if chain.tensor not in found.ranked:
            _check_length(found, chain.tensor)
        return ()
    if chain.tensor not in found.tabled:
        why = f"no dimension of `{chain.tensor}` is as long as the queries or the keys, but token indices reach it"
        raise Undecided(why)
    if chain.place is None:
        raise Undecided(f"`{chain.tensor}` is read through a table outside of every core, so its entries have no place")
    if chain.place.core not in found.cores:
        why = f"core `{chain.place.core}`, which has no query index, reads `{chain.tensor}` through a table"
        raise Undecided(f"{why}, so its entries have no place")
    core = found.cores[chain.place.core]
    batch: dict[Expr, Expr] = {a.index: standing[a.name] for a in core.batch}
    of_key = chain.place.side == "column"
    axes = key_axes(core) if of_key else core.rows
    token = flat(tuple((standing[a.name], a.size) for a in axes))
    moving = frozenset(n for a in core.rows + core.columns for n in indices(standing[a.name]))
    picks = core.name in found.picks
    if of_key and picked(found, chain):
        return chain.indices
    if not of_token(chain.indices, token, [standing[a.name] for a in axes], moving, picks):
        other = _listed(found, chain.indices, core, moving) if of_key and not picks else None
        if other is not None:
            return (other,)
        own = f"{'key' if of_key else 'query'} {expression(token)}"
        places = ", ".join(map(expression, chain.indices))
        raise Undecided(
            f"`{chain.tensor}` is read through a table at {places}: nothing says that this is of {own} alone"
        )
    return (token if of_key else position(core, token, batch),)


def _listed(found: Tokens, read: tuple[Expr, ...], core: Core, moving: frozenset[str]) -> Expr | None:
    """The place in a table that has an entry for every key, as `max(j - 1, 0)` in `pool[slot[b,max(j - 1, 0)]]`, where
    what is read is the entry of that token alone."""
    for entry in (x for index in read for x in loads(index)):
        for size, place in zip(shape(found.graph[entry.tensor]), entry.indices, strict=True):
            listed = indices(place) & moving and found.same(size, found.columns(core.name))
            if listed and of_token(read, place, (place,), moving):
                return place
    return None
