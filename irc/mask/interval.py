"""What a mask says of a whole rectangle: that no pair in it is supported, that all are, or neither.

Three-valued interval analysis (Moore 1966) of the predicate, its result an expression over the rectangle's corners
that a kernel evaluates once a tile. Sound for every size and every value: `may` is false only where no pair is
supported, `must` true only where all are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from irc.codegen.expr import (
    FALSE,
    TRUE,
    Const,
    Expr,
    Index,
    Kind,
    Load,
    Local,
    Op,
    Size,
    conjuncts,
    flat,
    integer,
    op,
    walk,
)
from irc.codegen.kernel import Verdict
from irc.graph.size import constant, expression, polynomial
from irc.mask.equality import implied
from irc.mask.linear import Linear, linear, scaled_sum
from irc.mask.vectors import Vectors

ZERO, ONE = integer(0), integer(1)
FAR = 2**40  # beyond every element of a table and every position


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds, inclusive, uniform over the rectangle; None is unbounded."""

    low: Expr | None
    high: Expr | None


UNKNOWN = Interval(None, None)


def _fold(name: str, parts: Sequence[Expr | None]) -> Expr | None:
    """min or max of the parts, or None where one is unknown."""
    known = [p for p in parts if p is not None]
    return reduce(lambda x, y: x if x == y else op(name, x, y), known) if len(known) == len(parts) else None


def _known(name: str, parts: Sequence[Expr | None]) -> Expr | None:
    """min or max of the parts that are known, or None where none is."""
    known = [p for p in parts if p is not None]
    return _fold(name, known) if known else None


def plainly_positive(expr: Expr) -> bool:
    """Whether a divisor is plainly not negative (a size, or a number)."""
    match expr:
        case Op("mul", (x, y), _):
            return plainly_positive(x) and plainly_positive(y)
        case Const(value, _):
            return value > 0
    return isinstance(expr, Size)


def _modulo(x: Interval, divisor: Expr) -> Interval:
    """Within one quotient the remainder grows with x; across quotients it may be anything."""
    below = op("sub", divisor, ONE)
    low, high = (
        (ZERO, below)
        if plainly_positive(divisor)
        else (op("min", ZERO, op("add", divisor, ONE)), op("max", ZERO, below))
    )
    if x.low is None or x.high is None:
        return Interval(low, high)
    same = op("eq", op("floordiv", x.low, divisor), op("floordiv", x.high, divisor))
    return Interval(
        op("where", same, op("mod", x.low, divisor), low), op("where", same, op("mod", x.high, divisor), high)
    )


def _divide(x: Interval, divisor: Expr) -> Interval:
    if plainly_positive(divisor):
        return Interval(*(None if e is None else op("floordiv", e, divisor) for e in (x.low, x.high)))
    ends = [None if e is None else op("floordiv", e, divisor) for e in (x.low, x.high)]
    return Interval(_fold("min", ends), _fold("max", ends))


def _segment(row: Expr, count: Expr, x: Interval) -> Interval:
    """It does not decrease along the positions."""
    return Interval(
        ZERO if x.low is None else op("segment", row, count, x.low),
        op("max", last_of(count), ZERO) if x.high is None else op("segment", row, count, x.high),
    )


def last_of(count: Expr) -> Expr:
    """The number before, written as shortly as can be: N of N + 1."""
    return expression(polynomial(count, {}) - constant(1))


def _times(x: Interval, y: Interval) -> Interval:
    for a, b in ((x, y), (y, x)):
        if a.low is not None and a.low == a.high and plainly_positive(a.low):
            factor = a.low
            return Interval(*(None if e is None else op("mul", factor, e) for e in (b.low, b.high)))
    ends = [None if a is None or b is None else op("mul", a, b) for a in (x.low, x.high) for b in (y.low, y.high)]
    return Interval(_fold("min", list(dict.fromkeys(ends))), _fold("max", list(dict.fromkeys(ends))))


def _absolute(x: Interval) -> Interval:
    negated = None if x.high is None else op("neg", x.high)
    return Interval(
        _known("max", [x.low, negated, ZERO]), _fold("max", [None if x.low is None else op("neg", x.low), x.high])
    )


def _not(x: Verdict) -> Verdict:
    return Verdict(op("not", x.must), op("not", x.may))


def _and(x: Expr, y: Expr) -> Expr:
    return op("and", x, y)


def _both(name: str, x: Verdict, y: Verdict) -> Verdict:
    return Verdict(op(name, x.may, y.may), op(name, x.must, y.must))


class Rectangle:
    """The analysis of one pair of sides, for rectangles of their flattened positions."""

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = vectors
        self.bounds: dict[Expr, Interval] = {}
        rows, columns = vectors.axes["row"], vectors.axes["column"]
        self.varying = {axis.name for axis in rows + columns}
        for side, axes in (("row", rows), ("column", columns)):
            position = Interval(Local(f"{side} first", Kind.INT), Local(f"{side} last", Kind.INT))
            below: Expr = ONE
            for axis in reversed(axes):
                quotient = _divide(position, below)
                self.bounds[axis.index] = quotient if axis is axes[0] else _modulo(quotient, axis.size)
                below = op("mul", axis.size, below)
            if len(axes) > 1:
                # Kept whole in linear forms, so that an order between flattened positions is exact.
                self.bounds[flat(tuple((axis.index, axis.size) for axis in axes))] = position

    def uniform(self, expr: Expr) -> bool:
        """Whether the expression has one value all over the rectangle."""
        return not any(isinstance(e, Local) or (isinstance(e, Index) and e.name in self.varying) for e in walk(expr))

    # predicates

    def truth(self, expr: Expr) -> Verdict:
        if self.uniform(expr):
            return Verdict(expr, expr)
        if expr.kind is Kind.BOOL and (side := self.vectors.side(expr)):
            low, high = self.vectors.ends(expr, side)
            return Verdict(op("ne", high, ZERO), op("ne", low, ZERO))
        match expr:
            case Op("not", (x,), _):
                return _not(self.truth(x))
            case Op("and", _, _):
                parts = conjuncts(expr)
                every = reduce(lambda x, y: _both("and", x, y), (self.truth(p) for p in parts))
                return Verdict(reduce(_and, (self.truth(p).may for p in implied(parts)), every.may), every.must)
            case Op("or", (x, y), _):
                return _both("or", self.truth(x), self.truth(y))
            case Op("where", (condition, x, y), _):
                chosen = self.truth(condition)
                return _both("or", _both("and", chosen, self.truth(x)), _both("and", _not(chosen), self.truth(y)))
            case Op("lt" | "le" as name, (x, y), _) if x.kind is Kind.INT:
                difference = self.linear(x).minus(self.linear(y))
                may, must = self.compare(name, difference)
                return Verdict(TRUE if may is None else may, FALSE if must is None else must)
            case Op("eq", (x, y), _) if x.kind is Kind.INT:
                return self.zero(self.linear(x).minus(self.linear(y)))
            case Op("eq", (x, y), _) if x.kind is Kind.BOOL:
                a, b = self.truth(x), self.truth(y)
                return _both("or", _both("and", a, b), _both("and", _not(a), _not(b)))
            case Op("ne", (x, y), _):
                return _not(self.truth(op("eq", x, y)))
            case Load(_, indices, Kind.BOOL) if (at := self.one_element(indices)) is not None:
                return Verdict(op("or", op("not", at), self.element(expr)), _and(at, self.element(expr)))
            case _:
                return Verdict(TRUE, FALSE)

    def compare(self, name: str, difference: Linear) -> tuple[Expr | None, Expr | None]:
        """`difference < 0` or `<= 0` at its least and at its greatest value; None where that is unbounded. Negative
        terms move to the right, so that the text reads as the mask does."""
        answers: list[Expr | None] = []
        difference = self.gathered(difference)
        for least in (True, False):
            ends = [(self.end(atom, least == (factor > 0)), factor) for atom, factor in difference.terms]
            known = [(end, factor) for end, factor in ends if end is not None]
            if len(known) < len(ends):
                answers.append(None)
                continue
            constant = difference.constant
            left = scaled_sum([(e, f) for e, f in known if f > 0], max(constant, 0))
            right = scaled_sum([(e, -f) for e, f in known if f < 0], max(-constant, 0))
            answers.append(op(name, left, right))
        return answers[0], answers[1]

    def zero(self, difference: Linear) -> Verdict:
        """difference == 0, which is both <= 0 and >= 0."""
        may_low, must_low = self.compare("le", difference)
        may_high, must_high = self.compare("le", difference.times(-1))
        both = _both(
            "and",
            Verdict(TRUE if may_low is None else may_low, FALSE if must_low is None else must_low),
            Verdict(TRUE if may_high is None else may_high, FALSE if must_high is None else must_high),
        )
        return Verdict(_and(both.may, self.hits(difference)), both.must)

    def hits(self, difference: Linear) -> Expr:
        """Whether x % m == r, if that is what the difference says, may hold: x reaches r modulo m."""
        varying = [(atom, factor) for atom, factor in difference.terms if not self.uniform(atom)]
        match varying:
            case [(Op("mod", (x, m), _), 1 | -1 as sign)] if self.uniform(m):
                others = tuple((a, -sign * f) for a, f in difference.terms if self.uniform(a))
                rest = scaled_sum(list(others), -sign * difference.constant)
                ends = self.interval(x)
                if ends.low is not None and ends.high is not None:
                    reached = op("mul", op("floordiv", op("sub", ends.high, rest), m), m)
                    found = op("le", op("sub", ends.low, rest), reached)
                    return found if plainly_positive(m) else op("or", op("le", m, ZERO), found)
        return TRUE

    # integers

    def linear(self, expr: Expr) -> Linear:
        return linear(expr, self.bounds)

    def gathered(self, form: Linear) -> Linear:
        """The form with the terms of one side, where one reads a table, as one vector: its ends are exact."""
        for side in ("row", "column"):
            own = tuple(t for t in form.terms if self.vectors.only(t[0], side))
            if len(own) > 1 and any(self.vectors.side(atom) for atom, _ in own):
                sign = 1 if own[0][1] > 0 else -1
                vector = scaled_sum([(atom, sign * factor) for atom, factor in own], 0)
                rest = tuple(t for t in form.terms if t not in own)
                form = Linear((*rest, (vector, sign)), form.constant)
        return form

    def end(self, atom: Expr, least: bool) -> Expr | None:
        bounds = self.atom(atom)
        return bounds.low if least else bounds.high

    def interval(self, expr: Expr) -> Interval:
        if self.uniform(expr):
            return Interval(expr, expr)
        form = self.linear(expr)
        return self.atom(expr) if form.terms == ((expr, 1),) else self.ends(form)

    def ends(self, form: Linear) -> Interval:
        """The least and the greatest value of a form."""
        form = self.gathered(form)
        ends: list[Expr | None] = []
        for least in (True, False):
            parts = [(self.end(atom, least == (factor > 0)), factor) for atom, factor in form.terms]
            known = [(end, factor) for end, factor in parts if end is not None]
            ends.append(scaled_sum(known, form.constant) if len(known) == len(parts) else None)
        return Interval(ends[0], ends[1])

    def atom(self, expr: Expr) -> Interval:
        if expr in self.bounds:
            return self.bounds[expr]
        if self.uniform(expr):
            return Interval(expr, expr)
        match expr:
            case Op("segment", (row, count, x), _) if self.uniform(row):
                return _segment(row, count, self.interval(x))
        if side := self.vectors.side(expr):
            return Interval(*self.vectors.ends(expr, side))
        match expr:
            case Op("floordiv", (x, y), _) if self.uniform(y):
                return _divide(self.interval(x), y)
            case Op("mod", (x, y), _) if self.uniform(y):
                return _modulo(self.interval(x), y)
            case Op("pow", (x, y), Kind.INT) if plainly_positive(x) and self.uniform(x):
                ends = self.interval(y)
                return Interval(*(None if e is None else op("pow", x, e) for e in (ends.low, ends.high)))
            case Op("mul", (x, y), Kind.INT):
                return _times(self.interval(x), self.interval(y))
            case Op("abs", (x,), Kind.INT):
                return _absolute(self.interval(x))
            case Op("min" | "max" as name, (x, y), Kind.INT):
                return self.extreme(name, self.interval(x), self.interval(y))
            case Op("clamp", (x, low, high), Kind.INT):
                raised = self.extreme("max", self.interval(x), self.interval(low))
                return self.extreme("min", raised, self.interval(high))
            case Op("where", (condition, x, y), Kind.INT):
                chosen, a, b = self.truth(condition), self.interval(x), self.interval(y)
                return Interval(self.choose(chosen, "min", a.low, b.low), self.choose(chosen, "max", a.high, b.high))
            case Load(_, indices, Kind.INT) if (at := self.one_element(indices)) is not None:
                return Interval(
                    op("where", at, self.element(expr), integer(-FAR)),
                    op("where", at, self.element(expr), integer(FAR)),
                )
            case _:
                return UNKNOWN

    def one_element(self, indices: tuple[Expr, ...]) -> Expr | None:
        """Whether all pairs of the rectangle read the same element; None where that cannot be told."""
        condition: Expr = TRUE
        for index in indices:
            ends = self.interval(index)
            if ends.low is None or ends.high is None:
                return None
            if ends.low != ends.high:
                condition = _and(condition, op("eq", ends.low, ends.high))
        return condition

    def element(self, load: Load) -> Expr:
        """The one element that the pairs read."""
        ends = [self.interval(index).low for index in load.indices]
        return Load(load.tensor, tuple(e for e in ends if e is not None), load.kind)

    @staticmethod
    def extreme(name: str, x: Interval, y: Interval) -> Interval:
        """Where one operand is unbounded, the other still bounds the result on one side."""
        low, high = (_fold, _known) if name == "min" else (_known, _fold)
        return Interval(low(name, [x.low, y.low]), high(name, [x.high, y.high]))

    @staticmethod
    def choose(chosen: Verdict, name: str, x: Expr | None, y: Expr | None) -> Expr | None:
        if x is None or y is None:
            return None
        either = x if x == y else op(name, x, y)
        return op("where", chosen.must, x, op("where", chosen.may, either, y))
