"""Which cores have for keys what a table picks for each query: their key indices are numbers of picks, no positions."""

from __future__ import annotations

from irc.codegen.expr import Index, Kind, Load, indices, loads
from irc.graph.ir import Input, bodies
from irc.proof.addresses import chosen
from irc.proof.flow import inline
from irc.proof.tokens import Tokens, sides


def find_picks(found: Tokens) -> None:
    """The cores where no tensor of tokens is read at the key's own index, but through tables that have an entry for
    each query and key: the keys are numbers of picks, and no positions."""
    plain: set[str] = set()
    picks: dict[str, list[tuple[str, Load]]] = {}
    for node in found.graph:
        reached = sides(node, found, found.reached)
        for load in (x for e in bodies(node) for x in loads(e) if x.kind is Kind.FLOAT):
            read = [inline(i, found.graph) for i in load.indices]
            for core in found.cores:
                rows, columns = (frozenset(n for n in reached if (core, s) in reached[n]) for s in ("row", "column"))
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
