"""Walking syntax: the parts of an expression, the names it uses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from irc.elaborate.report import Report
from irc.elaborate.scope import RUNNING, Lets, Scope
from irc.grammar.diagnostic import Note
from irc.grammar.syntax import (
    Access,
    Binary,
    Bool,
    Call,
    Compare,
    Expression,
    Group,
    Name,
    Number,
    Sum,
    Unary,
)


def parts(e: Expression) -> tuple[Expression, ...]:
    """The direct sub-expressions; of an access its index expressions."""
    match e:
        case Access():
            return e.indices
        case Group():
            return e.items
        case Call():
            return e.args
        case Sum():
            return (e.body,)
        case Unary():
            return (e.operand,)
        case Binary():
            return (e.left, e.right)
        case Compare():
            return e.operands
        case Number() | Bool() | Name():
            return ()


def no_name_twice(found: Iterable[Name], where: str, report: Report) -> None:
    """Reports the first index that stands twice among those of a result or of a sum."""
    seen: dict[str, Name] = {}
    for name in found:
        first = seen.setdefault(name.id, name)
        if first is not name:
            message = f"index `{name.id}` stands twice {where}"
            report.fail("E211", message, name.span, (Note("first here", first.span),))


def index_names(e: Expression, scope: Scope, lets: Lets) -> frozenset[str]:
    """Names that may be indices (neither lets, sizes nor tensors) free in an expression, lets expanded."""
    match e:
        case Name(id=name):
            if name in lets:
                return index_names(lets[name].value, scope, lets[name].lets)
            return frozenset() if scope.is_declared(name) or name in RUNNING else frozenset({name})
        case Sum(over=over, body=body):
            return index_names(body, scope, lets) - {n.id for n in over}
        case _:
            return frozenset().union(*(index_names(p, scope, lets) for p in parts(e)))


def expanded(e: Expression, lets: Lets) -> Iterator[Expression]:
    """The expression and all below it, parents first, the values of lets in place of their names."""
    if isinstance(e, Name) and e.id in lets:
        yield from expanded(lets[e.id].value, lets[e.id].lets)
        return
    yield e
    for part in parts(e):
        yield from expanded(part, lets)


def names(e: Expression) -> tuple[Name, ...]:
    """The index names of a target or softmax: of a name itself, of a group its members."""
    match e:
        case Name():
            return (e,)
        case Group(items=items):
            return tuple(i for i in items if isinstance(i, Name))
        case _:
            return ()
