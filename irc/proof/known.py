"""Which integers and truths are data, whose later positions an output may not depend on, and which are taken as known.

Token numbers, by which embeddings are read, and integers that floats are made of are data. What only tells a mask (the
document of a token, a length) is the structure of a call: `causal` does not say that later tokens could not tell it.
"""

from __future__ import annotations

from collections.abc import Iterator

from irc.codegen.expr import Expr, Index, Kind, Load, Op, indices, loads
from irc.graph.ir import bodies
from irc.graph.printer import expression
from irc.proof.brought import brought
from irc.proof.flow import inline
from irc.proof.tokens import Tokens


def data(found: Tokens) -> dict[str, tuple[int, ...]]:
    """The inputs that are data, each with the dimensions that tell where an entry sits."""
    chosen = {name for node in found.graph for e in bodies(node) for name in _values(inline(e, found.graph))}
    given = brought(found)
    kept: dict[str, tuple[int, ...]] = {}
    for node in found.graph.inputs:
        if node.name in given and (node.kind is Kind.FLOAT or (node.name in chosen and found.of(node.name))):
            kept[node.name] = found.asked(node.name)
    return kept


def taken_as_known(found: Tokens) -> tuple[str, ...]:
    """Elements of tables and weights with an entry a token that are no data, read at a position that is not plainly one
    of the pair's own; and lists of keys for all queries."""
    graph, counted = found.graph, data(found)
    weights = {n.name for n in graph.inputs if n.kind is Kind.FLOAT} - counted.keys()
    own = {p for core in found.cores.values() for p in core.position}
    read: dict[str, None] = {}
    for core, tables in found.picks.items():
        rows = {a.name for a in found.cores[core].rows}
        read |= {expression(table): None for table in tables if not indices(table) & rows}
    for node in graph:
        for load in (x for e in bodies(node) for x in loads(inline(e, graph))):
            told = load.tensor in weights or (load.kind is not Kind.FLOAT and load.tensor not in counted)
            dims = found.of(load.tensor) if told else ()
            if not all(_plain(load.indices[d]) or load.indices[d] in own for d in dims):
                read[expression(load)] = None
    return tuple(read)


def _plain(index: Expr) -> bool:
    return isinstance(index, Index) or (isinstance(index, Op) and index.name == "flat")


def _values(e: Expr, told: bool = False) -> Iterator[str]:
    """What chooses elements of floating tensors, or is made a float and not only compared (`told`)."""
    match e:
        case Load(_, at, kind):
            for index in at:
                yield from (x.tensor for x in loads(index) if kind is Kind.FLOAT)
                yield from _values(index, told)
        case Op("float", (a,), _):
            yield from (x.tensor for x in loads(a) if not told)
            yield from _values(a, told)
        case Op("where", (condition, a, b), _):
            for part, compared in ((condition, True), (a, told), (b, told)):
                yield from _values(part, compared)
        case Op(_, args, kind):
            for argument in args:
                yield from _values(argument, told or kind is Kind.BOOL)
