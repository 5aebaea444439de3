"""One change of a predicate at a time: the slips that people make."""

from __future__ import annotations

from collections.abc import Iterator

from irc.codegen.expr import Const, Expr, Kind, Load, Op, integer, op, substitute
from irc.ir import Core

OTHER = {
    "lt": ("le",), "le": ("lt", "eq"), "eq": ("ne", "le"), "ne": ("eq",),
    "and": ("or",), "or": ("and",),
    "add": ("sub",), "sub": ("add",), "min": ("max",), "max": ("min",), "floordiv": ("mod",), "mod": ("floordiv",),
}  # fmt: skip


def mutations(core: Core, least: int) -> tuple[Expr, ...]:
    """Every predicate that is one slip away from the core's mask; two slips too where these are fewer than `least`."""
    assert core.support is not None
    swapped: dict[Expr, Expr] = {}
    for row, column in zip(core.rows, core.columns, strict=False):
        if row.size == column.size:
            swapped |= {row.index: column.index, column.index: row.index}
    found = [*_changes(core.support), op("not", core.support)]
    if not any(isinstance(e, Load) for e in _walk(core.support)):
        found.append(substitute(core.support, swapped))
    if len(set(found)) < least:
        found += [twice for once in found for twice in _changes(once)]
    return tuple(dict.fromkeys(e for e in found if e != core.support and not isinstance(e, Const)))


def _walk(e: Expr) -> Iterator[Expr]:
    yield e
    if isinstance(e, Op | Load):
        for child in e.args if isinstance(e, Op) else e.indices:
            yield from _walk(child)


def _changes(e: Expr) -> Iterator[Expr]:
    """The expression with one change; elements of tables are read where they were, and divisors stay."""
    match e:
        case Const(value, Kind.INT):
            yield integer(int(value) + 1)
        case Op(name, args, _):
            for other in OTHER.get(name, ()):
                yield op(other, *args)
            if name in ("lt", "le", "eq", "ne") and args[0].kind is Kind.INT:
                yield op(name, args[1], args[0])
                yield op(name, op("add", args[0], integer(1)), args[1])
                yield op(name, op("sub", args[0], integer(1)), args[1])
            if name in ("and", "or"):
                yield from args
            for number, arg in enumerate(args):
                if name in ("floordiv", "mod") and number == 1:
                    continue
                for changed in _changes(arg):
                    yield op(name, *args[:number], changed, *args[number + 1 :])
