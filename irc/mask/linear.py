"""Integers as constant multiples of atoms plus a constant, so that equal terms cancel before bounds are taken."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from irc.codegen.expr import Const, Expr, Op, integer, op


@dataclass(frozen=True, slots=True)
class Linear:
    """The sum of factor * atom, plus `constant`. No factor is 0 and no atom stands twice."""

    terms: tuple[tuple[Expr, int], ...]
    constant: int

    def times(self, factor: int) -> Linear:
        if factor == 0:
            return Linear((), 0)
        return Linear(tuple((atom, factor * f) for atom, f in self.terms), factor * self.constant)

    def plus(self, other: Linear) -> Linear:
        terms = dict(self.terms)
        for atom, factor in other.terms:
            terms[atom] = terms.get(atom, 0) + factor
        return Linear(tuple((a, f) for a, f in terms.items() if f), self.constant + other.constant)

    def minus(self, other: Linear) -> Linear:
        return self.plus(other.times(-1))


def linear(expr: Expr, atoms: Container[Expr] = ()) -> Linear:
    """The linear form. What is not linear, or stands among `atoms`, is an atom."""
    if expr in atoms:
        return Linear(((expr, 1),), 0)
    match expr:
        case Const(value, _):
            return Linear((), int(value))
        case Op("add", (x, y), _):
            return linear(x, atoms).plus(linear(y, atoms))
        case Op("sub", (x, y), _):
            return linear(x, atoms).minus(linear(y, atoms))
        case Op("neg", (x,), _):
            return linear(x, atoms).times(-1)
        case Op("mul", (Const(value, _), x), _) | Op("mul", (x, Const(value, _)), _):
            return linear(x, atoms).times(int(value))
        case Op("flat", parts, _):
            return linear(horner(parts), atoms)
        case _:
            return Linear(((expr, 1),), 0)


def horner(parts: tuple[Expr, ...]) -> Expr:
    """A flat position by multiplications and additions."""
    total = parts[0]
    for index, size in zip(parts[2::2], parts[3::2], strict=True):
        total = op("add", op("mul", total, size), index)
    return total


def scaled_sum(terms: list[tuple[Expr, int]], constant: int) -> Expr:
    """The sum of factor * atom, plus the constant, as an expression."""
    total: Expr = integer(0)
    for atom, factor in terms:
        if factor < 0:
            total = (
                op("sub", total, op("mul", integer(-factor), atom))
                if total != integer(0)
                else op("neg", op("mul", integer(-factor), atom))
            )
        else:
            total = op("add", total, op("mul", integer(factor), atom))
    return op("sub", total, integer(-constant)) if constant < 0 else op("add", total, integer(constant))
