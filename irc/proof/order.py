"""Claims about the order of tokens, `causal` and `window`: where what an output reads sits beside the output itself."""

from __future__ import annotations

from collections.abc import Callable

from irc.codegen.expr import Expr, Index, indices, loads, op, substitute
from irc.graph.ir import Core, Graph, bodies, shape
from irc.graph.printer import expression
from irc.graph.size import text
from irc.proof import chained
from irc.proof.claim import Claim
from irc.proof.decide import is_proved
from irc.proof.distinct import distinct
from irc.proof.flow import Chain, PropertyError, Undecided, chains, core_of, own_axes
from irc.proof.known import data
from irc.proof.places import input_positions, output, picked, plainly, row_core
from irc.proof.reach import tokens
from irc.proof.tokens import Tokens


def ordered(graph: Graph, kept: Callable[[Expr, Expr], Expr]) -> tuple[Claim, ...]:
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
                in_core = plainly(found, chain, read, at)
                claim = chained.claim(graph, name, chain, kept(*said), about, said, in_core)
                _check_chunk(found, graph, name, chain)
                if picked(found, chain) and not is_proved(claim, graph):
                    own = f"`{chain.tensor}` is read at {expression(read)}, which a table picks for each query"
                    raise Undecided(f"{own}: nothing says where that lies from the query")
                out.append(claim if claim.core else chained.moved(claim, chain, graph, found.of))
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
            if any(is_proved(chained.claim(graph, name, chain, goal, "", ()), graph) for goal in own):
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
    cores = [row_core(found, name, dim) for dim in found.of(name)]
    if not cores:
        return name in found.tabled
    return any(indices(p) & {a.name for a in c.batch} for c in cores if c is not None for p in c.position)
