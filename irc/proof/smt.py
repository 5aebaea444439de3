"""Expressions as z3 terms.

Integers are unbounded, `//` and `%` floor as in Python. z3's own are Euclidean, and equal to the floored ones for a
divisor of at least 1; below that a program divides by nothing it may, so a state with such a divisor is no state: each
divisor that is no number is asserted to be at least 1 (`Encoder.divisors`). Tables are uninterpreted functions. Floats
are real numbers, and what reals do not have (`exp`, say) is an uninterpreted function of its arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import isfinite
from typing import Any, assert_never

import z3

from irc.codegen.expr import Const, Expr, Index, Kind, Load, Local, Op, Size, integer, op, rebuild, substitute
from irc.codegen.fold import whole_power
from irc.graph.size import expression, polynomial, split
from irc.mask.linear import horner

Term = Any  # a z3 expression; z3 has no types of its own
ORDERED = 6  # quotients by one divisor with which another is compared
POWERS = 16  # of a number, whose values a proof knows
SPLITS = 20  # values of one symbol that are told apart to make a product linear


class Encoder:
    """Terms in one z3 context. `most` bounds the symbols of which products are to be made linear, by telling their
    values apart: a product of two sizes then has a case for each value of the first."""

    def __init__(self, context: Any, most: Mapping[Expr, range] | None = None) -> None:
        self.context = context
        self.most = dict(most or {})
        self.divisors: dict[Expr, Term] = {}  # those that are no numbers
        self.lemmas: list[Term] = []  # what holds of the terms and z3 would not see by itself
        self.split: dict[Expr, None] = {}  # symbols whose values were told apart
        self._terms: dict[Expr, Term] = {}
        self._quotients: dict[Expr, list[tuple[Term, Term]]] = {}  # of each divisor: dividends with their quotients

    def __call__(self, expr: Expr) -> Term:
        found = self._terms.get(expr)
        if found is None:
            found = self._terms[expr] = self._encode(expr)
        return found

    def _encode(self, expr: Expr) -> Term:
        match expr:
            case Const(value, Kind.BOOL):
                return z3.BoolVal(bool(value), self.context)
            case Const(value, Kind.INT):
                return z3.IntVal(int(value), self.context)
            case Const(value, _):
                if not isfinite(value):
                    return z3.Real(str(value), self.context)
                return z3.RealVal(str(Fraction(value)), self.context)
            case Index(name) | Size(name):
                return z3.Int(name, self.context)
            case Load(tensor, (), kind):
                return z3.Const(tensor, self._sort(kind))
            case Load(tensor, at, kind):
                return self.function(tensor, len(at), kind)(*(self(e) for e in at))
            case Local(name, _):
                raise TypeError(f"a proof meets a value of a kernel: {name}")
            case Op():
                return self._operation(expr)
            case _:
                assert_never(expr)

    def function(self, tensor: str, dims: int, kind: Kind) -> Term:
        """A table."""
        return z3.Function(tensor, *[z3.IntSort(self.context)] * dims, self._sort(kind))

    def _sort(self, kind: Kind) -> Term:
        sorts = {Kind.BOOL: z3.BoolSort, Kind.INT: z3.IntSort, Kind.FLOAT: z3.RealSort}
        return sorts[kind](self.context)

    def _operation(self, expr: Op) -> Term:
        if expr.name in ("mul", "floordiv", "mod", "flat"):
            cases = self._cases(expr)
            if cases is not None:
                return cases
        if expr.name in ("floordiv", "mod"):
            return self._quotient(expr.name, *expr.args)
        if expr.name == "segment":
            return self._segment(*expr.args)
        if expr.name == "pow" and expr.kind is Kind.INT:
            return self._power(*expr.args)
        x = [self(a) for a in expr.args]
        match expr.name, x:
            case "add", [a, b]:
                return a + b
            case "sub", [a, b]:
                return a - b
            case "mul", [a, b]:
                return a * b
            case "neg", [a]:
                return -a
            case "min", [a, b]:
                return z3.If(a <= b, a, b)
            case "max", [a, b]:
                return z3.If(a <= b, b, a)
            case "abs", [a]:
                return z3.If(a >= 0, a, -a)
            case "relu", [a]:
                return z3.If(a >= 0, a, 0 * a)
            case "clamp", [a, low, high]:
                raised = z3.If(a <= low, low, a)
                return z3.If(raised <= high, raised, high)
            case "flat", _:
                return self._flat(x)
            case "lt", [a, b]:
                return a < b
            case "le", [a, b]:
                return a <= b
            case "eq", [a, b]:
                return a == b
            case "ne", [a, b]:
                return a != b
            case "and", [a, b]:
                return z3.And(a, b)
            case "or", [a, b]:
                return z3.Or(a, b)
            case "not", [a]:
                return z3.Not(a)
            case "where", [condition, a, b]:
                return z3.If(condition, a, b)
            case "float", [a]:
                return z3.ToReal(a)
            case "floor", [a]:
                return z3.ToInt(a)
            case "div", [a, b] if isinstance(expr.args[1], Const) and expr.args[1].value != 0:
                return a / b
            case name, _:
                return z3.Function(f"function {name}", *[a.sort() for a in x], z3.RealSort(self.context))(*x)

    def _flat(self, x: list[Term]) -> Term:
        """A position in a product axis: within it where its parts are within theirs."""
        position, extent = x[0], x[1]
        inside = [x[0] >= 0, x[0] < x[1]]
        for index, size in zip(x[2::2], x[3::2], strict=True):
            position, extent = position * size + index, extent * size
            inside += [index >= 0, index < size]
        if not all(z3.is_int_value(n) for n in x[3::2]):
            self.lemmas.append(z3.Implies(z3.And(inside), z3.And(position >= 0, position < extent)))
        return position

    def _segment(self, row: Expr, count: Expr, position: Expr) -> Term:
        """A function of the table's row and length, and of the position; what it means is in `offsets.py`."""
        assert isinstance(row, Load)
        at = [*row.indices[:-1], count, position]
        integers = [z3.IntSort(self.context)] * (len(at) + 1)
        return z3.Function(f"segment {row.tensor}", *integers)(*(self(e) for e in at))

    def _power(self, base: Expr, exponent: Expr) -> Term:
        """A function of two integers, with what is known of it: its first values, and that it is no less beyond."""
        a, n = self(base), self(exponent)
        power = self.function("power of", 2, Kind.INT)(a, n)  # no table is called so
        self.lemmas.append(z3.Implies(z3.And(a >= 1, n >= 0), power >= 1))
        if isinstance(base, Const) and base.value > 1:
            values = [whole_power(int(base.value), k) for k in range(POWERS + 1)]
            self.lemmas += [z3.Implies(n == k, power == value) for k, value in enumerate(values)]
            self.lemmas.append(z3.Implies(n > POWERS, z3.And(power >= values[-1], power > n)))
        return power

    def _quotient(self, name: str, dividend: Expr, divisor: Expr) -> Term:
        a, b = self(dividend), self(divisor)
        if isinstance(divisor, Const):
            return _by_number(name, a, int(divisor.value))
        whole, rest = split(polynomial(unfolded(dividend), {}), polynomial(unfolded(divisor), {}))
        if whole.terms:  # (s * H + h) // H is s + h // H
            part = op(name, expression(rest), divisor)
            return self(op("add", expression(whole), part) if name == "floordiv" else part)
        quotient, remainder = a / b, a % b
        if divisor not in self.divisors:
            self.divisors[divisor] = b
        known = self._quotients.setdefault(divisor, [])
        if not any(a.eq(other) for other, _ in known):
            self.lemmas.append(
                z3.Implies(
                    b >= 1,
                    z3.And(
                        a == b * quotient + remainder,
                        z3.Implies(a >= 0, z3.And(quotient >= 0, quotient <= a, remainder <= a)),
                        z3.Implies(z3.And(a >= 0, a < b), z3.And(quotient == 0, remainder == a)),
                    ),
                )
            )
            for other, whole in known[:ORDERED]:  # quotients by one divisor are ordered as the dividends are
                self.lemmas += [
                    z3.Implies(z3.And(b >= 1, a <= other), quotient <= whole),
                    z3.Implies(z3.And(b >= 1, other <= a), whole <= quotient),
                ]
            known.append((a, quotient))
        return quotient if name == "floordiv" else remainder

    def _cases(self, expr: Op) -> Term | None:
        """The operation with a case for each value of one symbol; None where it is linear or no symbol is bounded."""
        symbol = self._to_split(expr)
        if symbol is None:
            return None
        self.split[symbol] = None
        values, at = self.most[symbol], self(symbol)
        result = self(substitute(expr, {symbol: integer(values[-1])}))
        for value in reversed(values[:-1]):
            result = z3.If(at == value, self(substitute(expr, {symbol: integer(value)})), result)
        return result

    def _to_split(self, expr: Op) -> Expr | None:
        """The symbol whose value makes the operation more nearly linear."""
        match expr:
            case Op("mul", (a, b), Kind.INT):
                parts = [p for p in (a, b) if self._symbols(p)] if not _number(a) and not _number(b) else []
            case Op("floordiv" | "mod", (_, b), _):
                parts = [b]
            case Op("flat", args, _):
                parts = list(args[3::2])
            case _:
                parts = []
        symbols = [s for p in parts for s in self._symbols(p)]
        return min(symbols, key=lambda s: len(self.most[s]), default=None)

    def _symbols(self, expr: Expr) -> list[Expr]:
        """Those on whose value the expression depends; which element of a table it reads makes nothing linear."""
        if expr in self.most:
            return [expr] if 0 < len(self.most[expr]) <= SPLITS else []
        parts = expr.args if isinstance(expr, Op) and expr.name != "segment" else ()
        return [s for arg in parts for s in self._symbols(arg)]


def _number(expr: Expr) -> bool:
    return isinstance(expr, Const)


def _by_number(name: str, a: Term, divisor: int) -> Term:
    """Floored, by a number; numpy has 0 for a division by 0."""
    if divisor == 0:
        return a * 0
    if divisor > 0:
        return a / divisor if name == "floordiv" else a % divisor
    quotient = (-a) / -divisor
    return quotient if name == "floordiv" else a - divisor * quotient


def closed(expr: Expr, definitions: Mapping[str, Expr | None]) -> Expr:
    """The expression with every defined size replaced by its definition."""
    meanings: dict[Expr, Expr] = {}
    for name, definition in definitions.items():
        if definition is not None:
            meanings[Size(name)] = substitute(definition, meanings)
    return substitute(expr, meanings)


def unfolded(expr: Expr) -> Expr:
    """Positions in product axes written out."""

    def fn(part: Expr) -> Expr | None:
        if isinstance(part, Op) and part.name == "flat":
            return horner(tuple(rebuild(a, fn) for a in part.args))
        return None

    return rebuild(expr, fn)


def conjunction(parts: list[Expr]) -> Expr:
    result: Expr = Const(True, Kind.BOOL)
    for part in parts:
        result = op("and", result, part)
    return result
