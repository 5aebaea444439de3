"""What an `ensure` says, as claims about all sizes: each property of a program in sentences that can be decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from irc.codegen.expr import TRUE, Expr, Index, Op, indices, loads, op, substitute
from irc.graph.ir import Core, Graph, Input, Property, bodies, shape
from irc.graph.printer import expression
from irc.graph.size import equal, size_names, text
from irc.proof.claim import Claim
from irc.proof.decide import is_proved
from irc.proof.distinct import distinct
from irc.proof.flow import (
    Chain,
    Undecided,
    all_of,
    chains,
    core_of,
    inline,
    own_axes,
    possible,
    reads_floats,
    which_floats,
)
from irc.proof.growth import dimensions
from irc.proof.incremental import incremental
from irc.proof.known import data
from irc.proof.smt import closed
from irc.proof.tokens import PropertyError, Tokens, input_positions, output, picked, tokens, whole

__all__ = ["PropertyError", "Undecided", "claims"]


def claims(property: Property, graph: Graph) -> tuple[Claim, ...]:
    """The claims that together are the property; none where nothing could break it.

    Raises PropertyError where the property makes no sense of this program, Undecided where it cannot be put in claims.
    """
    match property.name:
        case "causal":
            return _ordered(graph, lambda at, read: op("le", read, at))
        case "window":
            width = property.argument
            assert width is not None
            return _ordered(graph, lambda at, read: op("lt", op("sub", at, width), read))
        case "rows nonempty":
            return tuple(_nonempty(core, graph) for core in graph.cores if property.core in (None, core.name))
        case "allow":
            return (_equivalent(property, graph),)
        case "batch independent":
            return _independent(graph)
        case "incremental":
            return incremental(graph)
        case _:
            raise ValueError(f"no property {property.name}")


# one core


def _nonempty(core: Core, graph: Graph) -> Claim:
    support = inline(core.support or TRUE, graph)
    about = f"every row of `{core.name}` has an allowed key"
    goal = op("not", possible(op("not", support)))
    claim = Claim(about, core.batch + core.rows, goal, some=core.columns, core=core.name)
    made = [n for n in dict.fromkeys(load.tensor for load in loads(support)) if not isinstance(graph[n], Input)]
    if made and not is_proved(claim, graph):  # whatever an argument holds may be so; what is computed may not
        raise Undecided(f"the mask of `{core.name}` depends on `{made[0]}`, which the program computes")
    return claim


def _equivalent(property: Property, graph: Graph) -> Claim:
    core = next(c for c in graph.cores if c.name == property.core)
    assert property.argument is not None
    goal = op("eq", inline(core.support or TRUE, graph), inline(property.argument, graph))
    if reads_floats(goal):
        raise Undecided(f"the mask of `{core.name}` depends on {which_floats(goal, graph)}")
    about = f"the mask of `{core.name}` is {property.text.partition('allow == ')[2]}"
    return Claim(about, core.batch + core.rows + core.columns, goal, core=core.name)


# the order of tokens


def _ordered(graph: Graph, kept: Callable[[Expr, Expr], Expr]) -> tuple[Claim, ...]:
    """For every output and every input that it reads: `kept(position of the output, position of the input)`."""
    found = tokens(graph)
    check_comparable(found)
    asked = data(found)
    placed = {name for name in asked if _needs_place(name, found)}
    out: list[Claim] = []
    empty = True
    for public, name in graph.outputs:
        at = output(found, public, name)
        for chain in chains(graph, name, asked, placed):
            for read in input_positions(found, chain, at):
                empty = False
                about = f"output `{public}` at position {{}} reads `{chain.tensor}` at position {{}}"
                said = (at.position, read)
                in_core = found.plainly(chain, read, at)
                claim = _claim(graph, name, chain, kept(*said), about, said, in_core)
                _check_chunk(found, graph, name, chain)
                if picked(found, chain) and not is_proved(claim, graph):
                    own = f"`{chain.tensor}` is read at {expression(read)}, which a table picks for each query"
                    raise Undecided(f"{own}: nothing says where that lies from the query")
                out.append(claim if claim.core else _moved(claim, chain, graph, found.of))
    if empty:
        raise PropertyError(
            "no output depends on an input whose entries have positions",
            "tokens are floating inputs, or integers by which floats are read, as `ids` in `emb[ids[b,s], c]`",
        )
    return distinct(out)


def _check_chunk(found: Tokens, graph: Graph, name: str, chain: Chain) -> None:
    """Raises Undecided where tokens are a part of a dimension, and the other part need not be the output's own: as long
    as it is, it does not matter whether that is a head, or a chunk of the tokens and how these follow each other."""
    for dim, index in zip(found.of(chain.tensor), chain.indices, strict=True) if found.of(chain.tensor) else ():
        for size, other in found.beside_token(chain.tensor, dim, index):
            own = [op("eq", other, a.index) for a in own_axes(graph[name]) if found.same(a.size, size)]
            if any(is_proved(_claim(graph, name, chain, goal, "", ()), graph) for goal in own):
                continue
            long = f"tokens of `{chain.tensor}` lie in a dimension of {text(shape(graph[chain.tensor])[dim])}"
            raise Undecided(f"{long}: nothing says how its parts of {text(size)} follow each other")


def check_comparable(found: Tokens) -> None:
    """Raises PropertyError where nothing says where the queries of a core sit among its keys."""
    if found.graph.cores and not found.cores:
        if (chosen := _chosen_by_table(found)) is not None:
            name, query, entry = chosen
            raise PropertyError(
                f"core `{name}` has keys of its own for each `{query}`, those that `{entry}` chooses, and no query "
                "has a position among them",
                f"say it of the table, as `assume {entry} <= {query}` does, which each call is checked for",
            )
        raise PropertyError(
            f"core `{found.graph.cores[0].name}` has no query index, so its rows have no position",
            "give the query an index, of size 1 if there is one query only",
        )
    if not found.cores:
        raise PropertyError("the program has no core, so nothing says which of its indices is a position")
    for core in found.cores.values():
        if not core.position and not found.square(core.name) and not _read_as_rows(found, core):
            queries, keys = text(found.rows(core.name)), text(found.columns(core.name))
            raise PropertyError(
                f"queries of core `{core.name}` run over {queries} and keys over {keys}: nothing says where a query "
                "sits among the keys, so neither is before the other",
                "write `align last` (the last query sees the last key), `align first` or `align offset e` in the core, "
                "or leave the property away",
            )
    for core in found.cores.values():
        for other in found.cores.values():
            if found.same(found.rows(core.name), found.rows(other.name)) and _place(core) != _place(other):
                raise PropertyError(
                    f"cores `{core.name}` and `{other.name}` place the same queries differently among their keys: "
                    f"at {_place(core)} and at {_place(other)}",
                    "give both the same `align`",
                )


def _chosen_by_table(found: Tokens) -> tuple[str, str, str] | None:
    """A core whose keys are entries of a table for each index of the batch that runs over such keys, that index and
    the entry: `i` and `idx[b,i,p]` of `x[b,idx[b,i,p],c]`."""
    graph = found.graph
    for core in graph.cores:
        columns = {a.name for a in core.columns}
        nodes = (node for node in graph if core_of(node, graph) == core)
        for load in (x for node in nodes for e in bodies(node) for x in loads(e)):
            for size, index in zip(shape(graph[load.tensor]), load.indices, strict=True):
                for entry in (x for x in loads(index) if indices(x) & columns):
                    for axis in (a for a in core.batch if a.name in indices(entry) and found.same(a.size, size)):
                        return core.name, axis.name, expression(entry)
    return None


def _place(core: Core) -> str:
    """Where row i sits, in words that do not depend on the names of rows."""
    names: dict[Expr, Expr] = {a.index: Index(f"i{k}" if k else "i") for k, a in enumerate(core.rows)}
    return ", ".join(expression(substitute(p, names)) for p in core.position or tuple(a.index for a in core.rows))


def _read_as_rows(found: Tokens, core: Core) -> bool:
    """Whether all that the core reads as keys runs over the same size as its rows (keys found through a table)."""
    read = [
        (name, dim)
        for name, dims in found.dims.items()
        for dim, sides in dims.items()
        if (core.name, "column") in sides
    ]
    sizes = [found.token_factor(shape(found.graph[name])[dim], core.name) for name, dim in read]
    return bool(sizes) and all(a is not None and found.same(a.size, found.rows(core.name)) for a in sizes)


def _needs_place(name: str, found: Tokens) -> bool:
    """Whether the position of an entry depends on where the core stands, not on the entry's index alone."""
    cores = [found.row_core(name, dim) for dim in found.of(name)]
    if not cores:
        return name in found.tabled
    return any(indices(p) & {a.name for a in c.batch} for c in cores if c is not None for p in c.position)


# entries of the batch


def _independent(graph: Graph) -> tuple[Claim, ...]:
    found = tokens(graph)
    out: list[Claim] = []
    for public, name in graph.outputs:
        node = graph[name]
        size = batch(found, public, name)
        first = dimensions(name, graph)[0][0]
        data = {n.name: _of_size(n.name, size, graph) for n in graph.inputs}
        for n in (n for n in graph.inputs if not data[n.name]):
            _check_apart(n, size, graph)
        parted = {n: _of_size(n, first.size, graph) for n, d in data.items() if not d and first.size != size}
        for chain in chains(graph, name, {n: d for n, d in (data | parted).items() if d}):
            read, entry = chain.indices[0], first.index if chain.tensor in parted else whole(node, 0)
            about = f"entry {{}} of output `{public}` reads entry {{}} of `{chain.tensor}`"
            claim = _claim(graph, name, chain, op("eq", read, entry), about, (entry, read))
            if chain.tensor in parted and not is_proved(claim, graph):
                raise Undecided(f"`{chain.tensor}` has {text(first.size)} entries, and the batch is {text(size)} long")
            out.append(_moved(claim, chain, graph, partial(_of_size, size=size, graph=graph)))
    return distinct(out)


def batch(found: Tokens, public: str, name: str) -> Expr:
    """The size of the batch, an output's first dimension. Raises PropertyError where that is tokens."""
    sizes = shape(found.graph[name])
    rows = [c for c in found.cores if sizes and found.same(sizes[0], found.rows(c))]
    if not sizes or rows:
        raise PropertyError(
            f"output `{public}` has no batch dimension"
            + (f": its first one, {text(sizes[0])}, is tokens" if rows else ""),
            "packed sequences are kept apart by their mask: `ensure allow == p` says so",
        )
    return sizes[0]


def independence(graph: Graph) -> str:
    """What `batch independent` says where it is proved, and of which dimension."""
    found = tokens(graph)
    along = dict.fromkeys(text(batch(found, public, name)) for public, name in graph.outputs)
    return f"no output entry reads another entry of an input along {' or '.join(along)}"


def _of_size(name: str, size: Expr, graph: Graph) -> tuple[int, ...]:
    """The dimension of the batch; none for a tensor that all entries share."""
    sizes = shape(graph[name])
    exact = [k for k, s in enumerate(sizes) if s == size]
    alike = [k for k, s in enumerate(sizes) if equal(s, size, dict(graph.sizes))]
    return tuple((exact or alike)[:1])


def _check_apart(node: Input, size: Expr, graph: Graph) -> None:
    """Raises Undecided where entries of the batch may lie within a dimension whose size is made of the batch's."""
    of_batch, *written = (set(size_names([closed(s, dict(graph.sizes))])) for s in (size, *node.shape))
    if node.role != "param" and any(of_batch <= names for names in written):
        raise Undecided(f"`{node.name}` has its entries of the batch within a longer dimension")


# claims from chains


def _claim(
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


def _moved(claim: Claim, chain: Chain, graph: Graph, dims: Callable[[str], tuple[int, ...]]) -> Claim:
    """With the first statement on the chain that reads one of those dimensions at an expression of its indices."""
    for name, tensor in zip(chain.path, chain.path[1:], strict=False):
        for load in (x for e in bodies(graph[name]) for x in loads(e) if x.tensor == tensor):
            for index in (load.indices[d] for d in dims(tensor)):
                if not isinstance(index, Index) and not (isinstance(index, Op) and index.name == "flat"):
                    return replace(claim, span=graph[name].span)
    return claim


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
