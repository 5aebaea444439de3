"""Masks that ask how many keys of a row hold something, as `allow m[b,i,j] > 0 or n[b,i] == 0`, where the program
computes n as the sum over j of `where(m[b,i,j] > 0, 1, 0)`: none do, or there is one that does."""

from __future__ import annotations

from typing import cast

from irc.codegen.expr import FALSE, TRUE, Const, Expr, Load, Op, indices, substitute, walk
from irc.graph.ir import Core, Graph, Map, Reduce
from irc.graph.size import equal
from irc.proof.flow import all_of, at, conjuncts, inline


def by_cases(mask: Expr, core: Core, graph: Graph) -> tuple[Expr, Expr] | None:
    """The mask of a row of which a count is 0, and that of a key which is counted. None where it asks of no count."""
    for asked in walk(mask):
        match asked:
            case Op("eq" | "ne" | "le" | "lt", (Load() as count, Const(0)) | (Const(0), Load() as count), _):
                counted = _counted(count, core, graph)
                if counted is not None:
                    holds: dict[Expr, Expr] = {part: TRUE for part in conjuncts(counted)}
                    return _of(mask, count, True), substitute(_of(mask, count, False), holds)
    return None


def _of(mask: Expr, count: Load, none: bool) -> Expr:
    """The mask where it is known whether the count is 0, which is never less."""
    known: dict[Expr, Expr] = {}
    for asked in walk(mask):
        match asked:
            case Op("eq", (x, Const(0)) | (Const(0), x), _) if x == count:
                known[asked] = TRUE if none else FALSE
            case Op("ne", (x, Const(0)) | (Const(0), x), _) if x == count:
                known[asked] = FALSE if none else TRUE
            case Op("le", (x, Const(0)), _) if x == count:
                known[asked] = TRUE if none else FALSE
            case Op("lt", (Const(0), x), _) if x == count:
                known[asked] = FALSE if none else TRUE
    return substitute(mask, known)


def _counted(count: Load, core: Core, graph: Graph) -> Expr | None:
    """What is counted, of a key of the core's: None for another sum, and for one that is not a number of a row over
    its keys."""
    node = graph.by_name.get(count.tensor)
    if isinstance(node, Map) and isinstance(node.body, Load) and node.where is None:  # a number of fewer indices
        return _counted(cast(Load, substitute(node.body, at(node, count.indices))), core, graph)
    if not isinstance(node, Reduce) or node.op != "sum" or len(node.over) != 1 or len(core.columns) != 1:
        return None
    body = node.body.args[0] if isinstance(node.body, Op) and node.body.name == "float" else node.body
    (over,), (column,) = node.over, core.columns
    if column.name in indices(count) or not equal(over.size, column.size, dict(graph.sizes)):
        return None
    match body:
        case Op("where", (condition, Const(1), Const(0)), _):
            counted = all_of((*conjuncts(node.where or TRUE), *conjuncts(condition)))
            return inline(substitute(counted, {over.index: column.index, **at(node, count.indices)}), graph)
    return None
