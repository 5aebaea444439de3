"""How large the integers of an expression can be on the way to its value: where 64 bits might not hold one, what is
assumed is not told by a comparison that wraps round."""

from __future__ import annotations

from collections.abc import Callable

from irc.codegen.expr import Const, Expr, Kind, Op, children, joined, number, op
from irc.codegen.fold import whole_power

MOST = number(2.0**62)  # half of what 64 bits hold, so that no rounding of these floats matters
OF_ARGUMENTS = number(2.0**31)  # of sizes, scalars and entries of tables


def magnitude(e: Expr, leaf: Callable[[Expr], Expr]) -> Expr:
    """A bound of every integer that is computed for the expression, a float; `leaf` has those of what is read."""
    found: list[Expr] = []

    def bound(part: Expr) -> Expr:
        below = [bound(child) for child in children(part)]
        if part.kind is not Kind.INT:
            return number(0.0)
        made = _of_operation(part, below) if isinstance(part, Op) else leaf(part)
        if isinstance(part, Op):
            found.append(made)
        return made

    bound(e)
    return joined("max", (number(0.0), *found))


def _of_operation(part: Op, below: list[Expr]) -> Expr:
    match part.name, below:
        case "add" | "sub", [a, b]:
            return op("add", a, b)
        case "mul", [a, b]:
            return op("mul", a, b)
        case "flat", _:
            total = below[0]
            for index, size in zip(below[2::2], below[3::2], strict=True):
                total = op("add", op("mul", total, size), index)
            return total
        case "floor", _:
            return OF_ARGUMENTS
        case "segment", [_, count, _]:
            return count
        case "pow", [Const(a, _), Const(b, _)]:
            return number(float(whole_power(int(a), int(b))))
        case "pow", _:
            return MOST  # it is held there
        case (("floordiv" | "neg" | "abs"), [a, *_]):
            return a
        case "mod", [_, b]:
            return b
        case _:  # one of them
            return joined("max", below[1:] if part.name == "where" else below)


def may_wrap(e: Expr) -> bool:
    """Whether some arguments make an integer of the expression that 64 bits do not hold."""

    def most(part: Expr) -> Expr:
        return number(abs(float(part.value))) if isinstance(part, Const) else OF_ARGUMENTS

    return not is_held(magnitude(e, most))


def is_held(bound: Expr) -> bool:
    return isinstance(bound, Const) and isinstance(MOST, Const) and bound.value <= MOST.value
