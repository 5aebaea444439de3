"""What an `ensure` says, as claims about all sizes: each property of a program in sentences that can be decided."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from irc.codegen.expr import TRUE, Expr, loads, op
from irc.graph.ir import Core, Graph, Input, Property, shape
from irc.graph.size import alike, size_names, text
from irc.proof import chained
from irc.proof.claim import Claim
from irc.proof.counts import by_cases
from irc.proof.decide import is_proved
from irc.proof.distinct import distinct
from irc.proof.flow import PropertyError, Undecided, chains, inline, possible, reads_floats, which_floats
from irc.proof.growth import dimensions
from irc.proof.incremental import incremental
from irc.proof.order import ordered
from irc.proof.picks import with_queries
from irc.proof.places import whole
from irc.proof.reach import tokens
from irc.proof.smt import closed
from irc.proof.tokens import Tokens

__all__ = ["PropertyError", "Undecided", "claims"]


def claims(property: Property, graph: Graph) -> tuple[Claim, ...]:
    """The claims that together are the property; none where nothing could break it.

    Raises PropertyError where the property makes no sense of this program, Undecided where it cannot be put in claims.
    """
    match property.name:
        case "causal":
            return ordered(with_queries(graph), lambda at, read: op("le", read, at))
        case "window":
            width = property.argument
            assert width is not None
            return ordered(with_queries(graph), lambda at, read: op("lt", op("sub", at, width), read), distances=True)
        case "rows nonempty":
            cores = (core for core in graph.cores if property.core in (None, core.name))
            return tuple(claim for core in cores for claim in _nonempty(core, graph))
        case "allow":
            return (_equivalent(property, graph),)
        case "batch independent":
            return _independent(graph)
        case "incremental":
            return incremental(graph)
        case _:
            raise ValueError(f"no property {property.name}")


# one core


def _nonempty(core: Core, graph: Graph) -> tuple[Claim, ...]:
    support = inline(core.support or TRUE, graph)
    about, rows = f"every row of `{core.name}` has an allowed key", core.batch + core.rows
    claim = Claim(about, rows, _certain(support), some=core.columns, core=core.name)
    made = [n for n in dict.fromkeys(load.tensor for load in loads(support)) if not isinstance(graph[n], Input)]
    if not made or is_proved(claim, graph):  # whatever an argument holds may be so; what is computed may not
        return (claim,)
    if cases := by_cases(support, core, graph):
        none, counted = (_certain(mask) for mask in cases)
        found = replace(claim, goal=none), Claim(about, rows + core.columns, counted, core=core.name)
        if all(is_proved(each, graph) for each in found):
            return found
    if not is_proved(any_key := replace(claim, goal=TRUE), graph):  # there may be none that a mask could allow
        return (any_key,)
    raise Undecided(f"the mask of `{core.name}` depends on `{made[0]}`, which the program computes")


def _certain(mask: Expr) -> Expr:
    """That the mask holds, whatever the floats are that it reads."""
    return op("not", possible(op("not", mask)))


def _equivalent(property: Property, graph: Graph) -> Claim:
    core = next(c for c in graph.cores if c.name == property.core)
    assert property.argument is not None
    goal = op("eq", inline(core.support or TRUE, graph), inline(property.argument, graph))
    if reads_floats(goal):
        raise Undecided(f"the mask of `{core.name}` depends on {which_floats(goal, graph)}")
    about = f"the mask of `{core.name}` is {property.text.partition('allow == ')[2]}"
    return Claim(about, core.batch + core.rows + core.columns, goal, core=core.name)


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
            claim = chained.claim(graph, name, chain, op("eq", read, entry), about, (entry, read))
            if chain.tensor in parted and not is_proved(claim, graph):
                raise Undecided(f"`{chain.tensor}` has {text(first.size)} entries, and the batch is {text(size)} long")
            out.append(chained.moved(claim, chain, graph, partial(_of_size, size=size, graph=graph)))
    return distinct(out)


def batch(found: Tokens, public: str, name: str) -> Expr:
    """The size of the batch, an output's first dimension. Raises PropertyError where that is tokens."""
    sizes = shape(found.graph[name])
    rows = [c for c in found.cores if sizes and alike(sizes[0], found.rows(c), found.definitions)]
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
    other = [k for k, s in enumerate(sizes) if alike(s, size, dict(graph.sizes))]
    return tuple((exact or other)[:1])


def _check_apart(node: Input, size: Expr, graph: Graph) -> None:
    """Raises Undecided where entries of the batch may lie within a dimension whose size is made of the batch's."""
    of_batch, *written = (set(size_names([closed(s, dict(graph.sizes))])) for s in (size, *node.shape))
    if node.role != "param" and any(of_batch <= names for names in written):
        raise Undecided(f"`{node.name}` has its entries of the batch within a longer dimension")
