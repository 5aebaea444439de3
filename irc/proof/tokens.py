"""Which dimensions of inputs and outputs are tokens, and where their entries sit in the sequence.

The token indices are the row and column indices of cores. A dimension is a token dimension where its index expression
mentions one and it is as long as the rows or the columns of that core: rows sit at `pos(i)`, columns at `j`. A core
without query indices places nothing: its keys are tokens where they are as many as another core's.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from irc.codegen.expr import Axis, Expr, Index, Kind, Load, Op, flat, indices, loads, substitute
from irc.graph.ir import Core, Graph, Input, Map, Node, Reduce, bodies, grouped, product, shape
from irc.graph.printer import expression
from irc.graph.size import equal, size_names, text
from irc.proof.addresses import chosen, of_token
from irc.proof.flow import Chain, Undecided, chains, core_of, inline, own_axes, parts
from irc.proof.smt import closed


class PropertyError(Exception):
    """A property that makes no sense of this program: the message says why, `help` what to write instead."""

    def __init__(self, message: str, help: str | None = None) -> None:
        super().__init__(message)
        self.help = help


Sides = frozenset[tuple[str, str]]  # (core, "row" or "column")
NOWHERE: Sides = frozenset()
Reached = dict[str, dict[int, Sides]]  # the dimensions of each tensor, and from which sides token indices reach them


@dataclass
class Tokens:
    """`cores` are those with query indices; `dims` are the token dimensions of every tensor; `reached` all dimensions
    that a token index reaches, `tabled` the tensors that one reaches through a table; `plain` the cores whose queries
    and keys come from one input of one size, so that a query sits where the key of the same index does, whatever `pos`
    says; `above` the dimensions of results that run over the rows of a core; `alone` the tensors that a token index
    reaches which is not made of a row and a column both, as the distance of the two is; `picks` the cores whose keys
    are numbers of picks of each query, each with an element of the table that picks them."""

    graph: Graph
    cores: dict[str, Core]
    definitions: dict[str, Expr | None]
    above: dict[str, dict[int, tuple[str, ...]]] = field(default_factory=dict)
    dims: Reached = field(default_factory=dict)
    reached: Reached = field(default_factory=dict)
    tabled: set[str] = field(default_factory=set)
    plain: set[str] = field(default_factory=set)
    alone: set[str] = field(default_factory=set)
    picks: dict[str, Load] = field(default_factory=dict)

    def of(self, name: str) -> tuple[int, ...]:
        return tuple(sorted(self.dims.get(name, {})))

    def asked(self, name: str) -> tuple[int, ...]:
        """The dimensions that tell where an entry sits; through a table, all that token indices reach."""
        return self.of(name) or (tuple(sorted(self.reached[name])) if name in self.tabled else ())

    def same(self, a: Expr, b: Expr) -> bool:
        return equal(a, b, self.definitions)

    def rows(self, core: str) -> Expr:
        return product(tuple(a.size for a in self.cores[core].rows))

    def columns(self, core: str) -> Expr:
        return product(tuple(a.size for a in self.cores[core].columns))

    def square(self, core: str) -> bool:
        """Whether rows and columns run over the same size."""
        return self.same(self.rows(core), self.columns(core))

    def batches(self) -> list[Expr]:
        """The first dimension of each output, where that is not tokens."""
        lengths = [n for c in self.cores for n in (self.rows(c), self.columns(c))]
        first = [sizes[0] for _, name in self.graph.outputs if (sizes := shape(self.graph[name]))]
        return [s for s in first if not any(self.same(s, n) for n in lengths)]

    def has_batch(self, node: Node) -> bool:
        """Whether a dimension, or a part of one, runs over the batch or its first part."""
        whole = self.batches()
        batch = [*whole, *(factors(s)[0].size for s in whole)]
        parts = [part for s in shape(node) for part in (s, *(a.size for a in factors(s)))]
        return any(self.same(part, s) for part in parts for s in batch)

    def token_factor(self, size: Expr, core: str) -> Axis | None:
        """The part of a dimension's size that rows or columns of the core run over; None where there is none."""
        ends = (self.rows(core), self.columns(core))
        found = [a for a in factors(size) if any(self.same(a.size, e) for e in ends)]
        whole = any(self.same(size, e) for e in ends)
        return Axis("whole", size) if whole else found[0] if len(found) == 1 else None

    def token(self, name: str, dim: int) -> Axis:
        """The part of a token dimension that runs over tokens: all of it, if any core that reaches it runs over all.
        Raises Undecided where cores run over different parts."""
        size = shape(self.graph[name])[dim]
        found = {t for c, _ in self.dims[name][dim] if (t := self.token_factor(size, c)) is not None}
        whole = {t for t in found if t.name == "whole"} or found
        if len(whole) > 1:
            said = " and over ".join(sorted(text(t.size) for t in whole))
            raise Undecided(f"of `{name}`, {text(size)} long, cores run over {said}: an entry has no one position")
        return next(iter(whole))

    def entry(self, name: str, dim: int, index: Expr) -> Expr:
        """The index of the token at a position of a token dimension."""
        token, every = self.token(name, dim), factors(shape(self.graph[name])[dim])
        return index if token not in every else parts(index, every)[every.index(token)]

    def beside_token(self, name: str, dim: int, index: Expr) -> list[tuple[Expr, Expr]]:
        """The size and the index of each other part of a token dimension, as of the chunks of `x[B,(P N),D]`."""
        token, every = self.token(name, dim), factors(shape(self.graph[name])[dim])
        if token not in every:
            return []
        return [(a.size, e) for a, e in zip(every, parts(index, every), strict=True) if a != token]

    def is_placed(self, core: str, size: Expr) -> bool:
        """Whether `pos` puts the rows of the core, as many as that, elsewhere than their index."""
        return core not in self.plain and not in_place(self.cores[core]) and self.same(size, self.rows(core))

    def row_core(self, name: str, dim: int) -> Core | None:
        """The core whose `pos` tells where the entries sit; None where the index itself does, as for keys."""
        sides, token = self.dims[name][dim], self.token(name, dim)
        placed = sorted(c for c, side in sides if side == "row" and self.is_placed(c, token.size))
        keyed = sorted(c for c, side in sides if side == "column" and c not in self.plain)
        if placed and keyed:
            among = (
                f"`{placed[0]}` places its queries `{name}` among its keys, and `{keyed[0]}` has `{name}` as its keys"
            )
            raise Undecided(f"{among}: an entry has no one position")
        for core, side in sides:
            if side == "column" or core in self.plain or not self.same(token.size, self.rows(core)):
                return None
        return self.cores[min(sides)[0]]

    def beside(self, core: str) -> list[Expr]:
        """How many tokens there are, as rows or as keys, of the core and of those that share such a number with it:
        positions among these are comparable, of a core with rows for chunks and one with rows for tokens not."""
        found, rest = [self.rows(core), self.columns(core)], dict.fromkeys(self.cores)
        ends = {c: (self.rows(c), self.columns(c)) for c in rest}
        while near := [c for c in rest if any(self.same(n, end) for n in found for end in ends[c])]:
            found += [end for c in near for end in ends[c]]
            rest = {c: None for c in rest if c not in near}
        return found

    def plainly(self, chain: Chain, read: Expr, at_output: Output) -> bool:
        """Whether the pair of the nearest core is the output's own query and what it reads: its key, or its query."""
        if chain.place is None or chain.place.core not in self.cores:
            return False
        core, standing = self.cores[chain.place.core], dict(chain.place.at)
        index = flat(tuple((standing[a.name], a.size) for a in core.rows))
        batch: dict[Expr, Expr] = {a.index: standing[a.name] for a in core.batch}
        query = (index, position(core, index, batch))
        return at_output.position in query and read in (*query, key_position(core, standing))


def factors(size: Expr) -> tuple[Axis, ...]:
    """The axes of a product, as it is written: H * S has two."""
    match size:
        case Op("mul", (a, b), _):
            both = (*factors(a), *factors(b))
            return tuple(Axis(str(k), x.size) for k, x in enumerate(both))
        case _:
            return (Axis("0", size),)


def tokens(graph: Graph) -> Tokens:
    """Follow the row and column indices of the cores down to the inputs."""
    found = Tokens(graph, {c.name: c for c in graph.cores if c.rows}, dict(graph.sizes))
    found.above = _above(found)
    for node in reversed(graph.nodes):
        sides, hot = _sides(node, found, found.dims), _sides(node, found, found.reached)
        for load in (x for e in bodies(node) for x in loads(e)):
            for dim, index in enumerate(inline(i, graph) for i in load.indices):
                _mark(found, load, dim, _of(sides, index))
                _reach(found, load.tensor, dim, _of(hot, index))
                if _of(hot, index) and loads(index):
                    found.tabled.add(load.tensor)
                if _of(hot, index) and not _of_pair(hot, index):
                    found.alone.add(load.tensor)
    for node in graph.inputs:
        if node.name not in found.dims and node.name not in found.tabled:
            _mark_by_size(found, node)
        for dim in found.of(node.name):
            at = found.dims[node.name][dim]
            found.plain |= {c for c, _ in at if {(c, "row"), (c, "column")} <= at and found.square(c)}
    _find_picks(found)
    return found


def _find_picks(found: Tokens) -> None:
    """The cores where no tensor of tokens is read at the key's own index, but through tables that have an entry for
    each query and key: the keys are numbers of picks, and no positions."""
    plain: set[str] = set()
    picks: dict[str, list[tuple[str, Load]]] = {}
    for node in found.graph:
        sides = _sides(node, found, found.reached)
        for load in (x for e in bodies(node) for x in loads(e) if x.kind is Kind.FLOAT):
            read = [inline(i, found.graph) for i in load.indices]
            for core in found.cores:
                rows, columns = (frozenset(n for n in sides if (core, s) in sides[n]) for s in ("row", "column"))
                keys = {Index(n) for n in columns - rows} & {*read}
                if keys and not any(indices(i) & rows for i in read) and not _shared(load, found, ("param", "const")):
                    plain.add(core)
                tables = [x for i in read for x in loads(i) if _picks(x, rows, columns)]
                if tables and not _shared(load, found, ("param",)):
                    picks.setdefault(core, []).extend((load.tensor, table) for table in tables)
    for core in picks.keys() - plain:
        found.picks[core] = picks[core][0][1]
        for name, table in picks[core]:
            found.alone.add(name)
            left = {d: of - {(core, "column")} for d, of in found.dims.get(table.tensor, {}).items()}
            found.dims[table.tensor] = {d: of for d, of in left.items() if of}


def _picks(table: Load, rows: frozenset[str], columns: frozenset[str]) -> bool:
    by_row = any(not (indices(i) & columns or chosen(i, rows)) for i in table.indices)
    return by_row and any(indices(i) & columns for i in table.indices)


def _shared(load: Load, found: Tokens, weights: tuple[str, ...]) -> bool:
    """Whether a tensor is the same for all entries of the batch; of arguments those of the roles `weights`."""
    node = found.graph[load.tensor]
    may = node.role in weights if isinstance(node, Input) else bool(found.batches())
    return may and not found.has_batch(node)


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


def _reach(found: Tokens, name: str, dim: int, sides: Sides) -> None:
    if sides:
        dims = found.reached.setdefault(name, {})
        dims[dim] = dims.get(dim, NOWHERE) | sides


def _sides(node: Node, found: Tokens, reached: Reached) -> dict[str, Sides]:
    """The sides that each index of the node stands for: of its core, of its readers, of the results that it reads."""
    sides: dict[str, Sides] = {}
    groups = node.groups if isinstance(node, Map | Reduce) else ()
    for dim, axes in enumerate(grouped(own_axes(node), groups)):
        for axis in axes:
            sides[axis.name] = reached.get(node.name, {}).get(dim, NOWHERE)
    core = core_of(node, found.graph)
    if core is not None:
        for side, axes in (("row", core.rows), ("column", core.columns)):
            for axis in axes:
                sides[axis.name] = sides.get(axis.name, NOWHERE) | _own(core, side, axis, found)
    for load in (x for e in bodies(node) for x in loads(e)):
        for dim, cores in found.above.get(load.tensor, {}).items():
            for name in indices(load.indices[dim]):
                sides[name] = sides.get(name, NOWHERE) | {(c, "row") for c in cores}
    return sides


def _own(core: Core, side: str, axis: Axis, found: Tokens) -> Sides:
    """What an index of the core stands for."""
    if core.rows:
        return frozenset({(core.name, side)})
    alike = (c for c in found.cores if found.same(axis.size, found.columns(c)) or found.same(axis.size, found.rows(c)))
    return frozenset((c, "column") for c in alike)


@dataclass(frozen=True, slots=True)
class Output:
    """The token dimension of an output: where its entry sits, at the output's own axes, the core that says so
    (None where the index itself does), and how many tokens there are, each number that runs over such (`beside`)."""

    position: Expr
    core: Core | None
    batch: dict[Expr, Expr]
    tokens: list[Expr]

    def row(self, index: Expr) -> Expr:
        """Where another entry of that dimension sits."""
        return index if self.core is None else position(self.core, index, self.batch)

    def beside(self, size: Expr, found: Tokens) -> bool:
        return any(found.same(size, n) for n in self.tokens)


def output(found: Tokens, public: str, name: str) -> Output:
    """Raises PropertyError where the output has no token dimension."""
    node = found.graph[name]
    reached = found.above.get(name, {})
    for dim, cores in sorted(reached.items()):
        size = shape(node)[dim]
        index = whole(node, dim)
        for core_name in cores:
            core = found.cores[core_name]
            if not found.same(size, found.rows(core_name)):
                continue
            if core_name in found.plain:
                return Output(index, None, {}, found.beside(core_name))
            batch = _batch(found, name, core)
            return Output(position(core, index, batch), core, batch, found.beside(core_name))
    raise PropertyError(
        f"output `{public}` has no query dimension, so its entries have no position",
        "return a tensor that has the query index of a core",
    )


def whole(node: Node, dim: int) -> Expr:
    """The index of one of the node's dimensions, at its own axes."""
    groups = node.groups if isinstance(node, Map | Reduce) else ()
    return flat(tuple((a.index, a.size) for a in grouped(own_axes(node), groups)[dim]))


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


def _batch(found: Tokens, name: str, core: Core) -> dict[Expr, Expr]:
    """What the core's batch indices are at an element of the output, where its `pos` reads them."""
    read = {n for e in core.position for n in indices(e)} & {a.name for a in core.batch}
    if not read or name == core.name:
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


def input_positions(found: Tokens, chain: Chain, at_output: Output) -> tuple[Expr, ...]:
    """Where the element that a chain reads sits, one expression a token dimension; none for what has no position."""
    standing = dict(chain.place.at) if chain.place else {}
    if not found.of(chain.tensor):
        return _table_position(found, chain, standing)
    out = []
    for dim, index in zip(found.of(chain.tensor), chain.indices, strict=True):
        core, token = found.row_core(chain.tensor, dim), found.token(chain.tensor, dim)
        if not at_output.beside(token.size, found):
            size = shape(found.graph[chain.tensor])[dim]
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


def picked(found: Tokens, chain: Chain) -> bool:
    """Whether an entry of the batch is read where a table picks for each query, and the entry's index is its position:
    the core says of its queries where they sit, and not by how many are picked."""
    core = found.cores.get(chain.place.core) if chain.place else None
    if core is None or core.name not in found.picks or len(chain.indices) != 1 or chain.tensor not in found.tabled:
        return False
    if found.of(chain.tensor) or not found.has_batch(found.graph[chain.tensor]):
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
    for _, name in graph.outputs:
        for chain in chains(graph, name, tabled, tabled):
            _table_position(found, chain, dict(chain.place.at) if chain.place else {})
    for core, table in found.picks.items():
        raise Undecided(f"`{core}` reads its keys at {expression(table)}: nothing says which of them a step can pick")


def _table_position(found: Tokens, chain: Chain, standing: dict[str, Expr]) -> tuple[Expr, ...]:
    """An input without token dimensions: where token indices reach it through a table, the pair's own indices tell."""
    if chain.tensor not in found.reached:
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
    if not of_token(chain.indices, token, [standing[a.name] for a in axes], moving, picks):
        if of_key and picked(found, chain):
            return chain.indices
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
