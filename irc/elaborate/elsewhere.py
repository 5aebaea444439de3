"""Sizes of indices from their other uses in the program, for the statement that cannot tell by itself."""

from __future__ import annotations

from irc.codegen.expr import Expr
from irc.elaborate.names import names, parts
from irc.elaborate.scope import Scope
from irc.grammar.syntax import Access, Assign, Attention, Block, Core, Expression, Group, Name, Normaliser, Stage


def sizes_elsewhere(program: Attention, scope: Scope) -> dict[str, Expr]:
    """The size of each index name that all direct uses in declared tensors agree on."""
    found: dict[str, list[Expr]] = {}
    for e in _expressions(program):
        _collect(e, scope, found)
    return {n: s[0] for n, s in found.items() if all(scope.same(s[0], other) for other in s)}


def _expressions(program: Attention) -> list[Expression]:
    found: list[Expression] = []
    for statement in program.statements:
        if isinstance(statement, Block):
            found += [s.value for s in statement.statements if isinstance(s, Assign)]
        elif isinstance(statement, Core):
            found += [s.value for s in statement.statements if isinstance(s, Stage)]
            found += [s.sink for s in statement.statements if isinstance(s, Normaliser) and s.sink is not None]
    return found


def _collect(e: Expression, scope: Scope, found: dict[str, list[Expr]]) -> None:
    if isinstance(e, Access):
        tensor = scope.tensors.get(e.tensor.id)
        if tensor is not None and len(tensor.dims) == len(e.indices):
            for k, index in enumerate(e.indices):
                members = names(index)
                if isinstance(index, Name) and not scope.is_declared(index.id):
                    found.setdefault(index.id, []).append(tensor.size(k))
                elif isinstance(index, Group) and len(members) == len(tensor.dims[k]):
                    for name, size in zip(members, tensor.dims[k], strict=True):
                        found.setdefault(name.id, []).append(size)
    for part in parts(e):
        _collect(part, scope, found)
