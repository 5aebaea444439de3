"""Claims about the order of tokens, `causal` and `window`: where what an output reads sits beside the output itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from irc.codegen.expr import Expr, Index, indices, substitute
from irc.graph.ir import Core, Graph
from irc.graph.printer import expression
from irc.graph.size import text
from irc.proof import chained
from irc.proof.chunks import in_one_order, other_part, parts_read, sequence
from irc.proof.claim import Claim
from irc.proof.decide import is_proved
from irc.proof.distinct import distinct
from irc.proof.flow import Chain, PropertyError, Undecided, Unplaced, chains
from irc.proof.known import data
from irc.proof.places import Output, input_positions, other_sequence, output, picked, plainly, row_core
from irc.proof.reach import tokens
from irc.proof.tokens import Tokens

Kept = Callable[[Expr, Expr], Expr]


def ordered(graph: Graph, kept: Kept, distances: bool = False) -> tuple[Claim, ...]:
    """For every output and every input that it reads: `kept(position of the output, position of the input)`, which may
    tell of `distances`."""
    found = tokens(graph)
    check_comparable(found)
    asked = data(found)
    placed = {name for name in asked if _needs_place(name, found)}
    out: list[Claim] = []
    elsewhere: dict[str, None] = {}
    for public, name in graph.outputs:
        at, read = output(found, public, name), chains(graph, name, asked, placed)
        apart = {c.tensor: other_sequence(found, c.tensor, at) for c in read}
        elsewhere |= {name: None for name, dims in apart.items() if dims}
        here = tuple(c for c in read if not apart[c.tensor] or apart[c.tensor] < {*found.of(c.tensor)})
        out += _of_output(_Output(found, graph, public, name, here, kept), at, distances)
    if not out:
        raise PropertyError(
            "no output depends on an input whose entries have positions",
            "tokens are floating inputs, or integers by which floats are read, as `ids` in `emb[ids[b,s], c]`",
        )
    supposed = dict.fromkeys(s for claim in out for s in claim.supposed)
    supposed |= {f"`{name}` taken as another sequence": None for name in elsewhere}
    telling = distinct(out) or (out[:1] if supposed else ())
    return tuple(replace(claim, supposed=tuple(supposed)) for claim in telling)


@dataclass(frozen=True, slots=True)
class _Output:
    """An output, and all that it reads."""

    found: Tokens
    graph: Graph
    public: str
    name: str
    read: tuple[Chain, ...]
    kept: Kept

    def claims(self, at: Output) -> Iterator[Claim]:
        """That it reads what `kept` says, if it sits at `at`."""
        found, graph = self.found, self.graph
        for chain in self.read:
            for read in input_positions(found, chain, at):
                about = f"output `{self.public}` at position {{}} reads `{chain.tensor}` at position {{}}"
                said = (at.position, read)
                in_core = plainly(found, chain, read, at)
                claim = chained.claim(graph, self.name, chain, self.kept(*said), about, said, in_core)
                if picked(found, chain) and not is_proved(claim, graph):
                    own = f"`{chain.tensor}` is read at {expression(read)}, which a table picks"
                    raise Undecided(f"{own}: nothing says where that lies from the query")
                yield claim if claim.core else chained.moved(claim, chain, graph, found.of)


def _of_output(output: _Output, at: Output, distances: bool) -> list[Claim]:
    """The claims about an output where its tokens sit, or where these are parts of what it reads, along the whole."""
    found, graph = output.found, output.graph
    partial = parts_read(found, output.read)
    other = other_part(found, graph, output.name, at, partial)
    if not partial or (other is None and in_one_order(found, at, partial, distances)):
        return [*output.claims(at)]
    along = [*output.claims(sequence(found, output.name, at, partial))]
    if all(is_proved(claim, graph) for claim in along):
        supposed = (f"{text(partial[0].size)} taken as one sequence",)
        return [replace(claim, supposed=supposed) for claim in along]
    if all(is_proved(claim, graph) for claim in output.claims(at)):
        read = other or partial[0]
        sizes = " and ".join(text(size) for size, _ in read.others)
        raise Undecided(f"{read.long}: nothing says how its parts of {sizes} follow each other")
    return along


def check_comparable(found: Tokens) -> None:
    """Raises PropertyError where nothing says where the queries of a core sit among its keys; they sit apart from these
    where another core says it of the same queries."""
    if found.graph.cores and not found.cores:
        raise PropertyError(
            f"core `{found.graph.cores[0].name}` has no query index, so its rows have no position",
            "give the query an index, of size 1 if there is one query only",
        )
    if not found.cores:
        raise PropertyError("the program has no core, so nothing says which of its indices is a position")
    placed = [c for c in found.cores.values() if c.position or found.square(c.name) or _read_as_rows(found, c)]
    for core in found.cores.values():
        if core not in placed and not any(found.same(found.rows(core.name), found.rows(c.name)) for c in placed):
            queries, keys = text(found.rows(core.name)), text(found.columns(core.name))
            raise Unplaced(
                f"queries of core `{core.name}` run over {queries} and keys over {keys}: nothing says where a query "
                "sits among the keys, so neither is before the other"
            )
    found.apart = {name for name, core in found.cores.items() if core not in placed}
    for core in found.cores.values():
        for other in found.cores.values():
            alike = core.name not in found.apart and found.same(found.rows(core.name), found.rows(other.name))
            if alike and other.name not in found.apart and _place(core) != _place(other):
                raise PropertyError(
                    f"cores `{core.name}` and `{other.name}` place the same queries differently among their keys: "
                    f"at {_place(core)} and at {_place(other)}",
                    "give both the same `align`; keys of another sequence have a size of their own, left open",
                )


def _place(core: Core) -> str:
    """Where row i sits, in words that do not depend on the names of rows."""
    names: dict[Expr, Expr] = {a.index: Index(f"i{k}" if k else "i") for k, a in enumerate(core.rows)}
    return ", ".join(expression(substitute(p, names)) for p in core.position or tuple(a.index for a in core.rows))


def _read_as_rows(found: Tokens, core: Core) -> bool:
    """Whether all inputs that the core reads as keys run over the same size as its rows (keys that a table finds)."""
    sizes = [
        found.token_factor(node.shape[dim], core.name)
        for node in found.graph.inputs
        if node.name in found.reached
        for dim, sides in found.dims.get(node.name, {}).items()
        if (core.name, "column") in sides
    ]
    return bool(sizes) and all(a is not None and found.same(a.size, found.rows(core.name)) for a in sizes)


def _needs_place(name: str, found: Tokens) -> bool:
    """Whether the position of an entry depends on where the core stands, not on the entry's index alone."""
    if not found.of(name):
        return name in found.tabled
    try:
        cores = [row_core(found, name, dim) for dim in found.of(name)]
    except Undecided:  # no place is its own, but along a whole dimension it may have one
        return False
    return any(indices(p) & {a.name for a in c.batch} for c in cores if c is not None for p in c.position)
