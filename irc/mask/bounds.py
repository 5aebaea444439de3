"""Which part of one side a tile of the other can touch: a few intervals, their ends integer expressions.

Each comparison that is linear in the walked index gives an end; `and` intersects, `or` adds intervals to the list.
Sound for every size and value: a supported pair lies in one of the intervals, whatever the tile. What gives no end
bounds nothing; the verdict on each tile (`interval.py`) sorts out what the intervals leave open.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

from irc.codegen.expr import (
    FALSE,
    TRUE,
    Expr,
    Index,
    Kind,
    Load,
    Op,
    conjuncts,
    flat,
    integer,
    joined,
    offset,
    op,
    walk,
)
from irc.codegen.kernel import Side, Span
from irc.graph.ir import product
from irc.mask.equality import implied
from irc.mask.interval import Rectangle, last_of, plainly_positive
from irc.mask.linear import Linear

ZERO, ONE = integer(0), integer(1)

MOST = 4
"""Intervals of one list; more are drawn together."""


@dataclass(frozen=True, slots=True)
class _Interval:
    """Positions that are at least all of `firsts` and at most all of `lasts`, where all `guards` hold."""

    firsts: tuple[Expr, ...] = ()
    lasts: tuple[Expr, ...] = ()
    guards: tuple[Expr, ...] = ()

    def meet(self, other: _Interval) -> _Interval:
        def both(a: tuple[Expr, ...], b: tuple[Expr, ...]) -> tuple[Expr, ...]:
            return tuple(dict.fromkeys((*a, *b)))

        return _Interval(
            both(self.firsts, other.firsts), both(self.lasts, other.lasts), both(self.guards, other.guards)
        )


EVERYTHING = _Interval()
_Intervals = tuple[_Interval, ...]


class Walk:
    """The analysis of one walk along the flattened positions of a side; the rectangle bounds what the tile fixes."""

    def __init__(self, rectangle: Rectangle, walked: Side) -> None:
        self.rectangle = rectangle
        self.walked = walked
        axes = rectangle.vectors.axes[walked]
        self.names = {a.name for a in axes}
        self.position = flat(tuple((a.index, a.size) for a in axes))
        self.outermost = axes[0].index
        self.below = product(tuple(a.size for a in axes[1:]))
        self.extent = op("mul", axes[0].size, self.below)

    def spans(self, support: Expr) -> tuple[Span, ...] | None:
        """What a tile of the other side can touch; None where that may be everything."""
        found = self.union(support, True)
        return None if EVERYTHING in found else tuple(self.span(i) for i in found)

    def span(self, interval: _Interval) -> Span:
        """The interval by its two ends."""
        last_of_all = op("sub", self.extent, ONE)
        first = joined("max", interval.firsts) if interval.firsts else ZERO
        last = joined("min", interval.lasts) if interval.lasts else last_of_all
        for guard in interval.guards:
            last = op("where", guard, last, integer(-1))
        return Span(first, last)

    def walks(self, expr: Expr) -> bool:
        return any(isinstance(e, Index) and e.name in self.names for e in walk(expr))

    # predicates

    def union(self, expr: Expr, wanted: bool) -> _Intervals:
        """Intervals that cover the positions at which the expression may be `wanted` for a pair of the tile."""
        if not self.walks(expr):
            verdict = self.rectangle.truth(expr)
            return self.guarded(verdict.may if wanted else op("not", verdict.must))
        match expr:
            case Op("not", (x,), _):
                return self.union(x, not wanted)
            case Op("and", _, _) if wanted:
                parts = conjuncts(expr)
                return reduce(self.intersect, (self.union(p, True) for p in (*parts, *implied(parts))))
            case Op("and" | "or" as name, (x, y), _):
                join = self.intersect if (name == "and") == wanted else self.add
                return join(self.union(x, wanted), self.union(y, wanted))
            case Op("where", (c, x, y), Kind.BOOL):
                return self.add(
                    self.intersect(self.union(c, True), self.union(x, wanted)),
                    self.intersect(self.union(c, False), self.union(y, wanted)),
                )
            case Op("lt" | "le" as name, (x, y), _) if x.kind is Kind.INT:
                difference = self.rectangle.linear(x).minus(self.rectangle.linear(y))
                if not wanted:
                    difference = difference.times(-1)
                strict = (name == "lt") == wanted
                return self.at_most_zero(difference.plus(Linear((), 1)) if strict else difference)
            case Op("eq" | "ne" as name, (x, y), _) if x.kind is Kind.INT:
                difference = self.rectangle.linear(x).minus(self.rectangle.linear(y))
                other = difference.times(-1)
                if (name == "eq") == wanted:
                    return self.intersect(self.at_most_zero(difference), self.at_most_zero(other))
                one = Linear((), 1)
                return self.add(self.at_most_zero(difference.plus(one)), self.at_most_zero(other.plus(one)))
            case _:
                return (EVERYTHING,)

    def guarded(self, condition: Expr) -> _Intervals:
        if condition == FALSE:
            return ()
        return (EVERYTHING,) if condition == TRUE else (_Interval(guards=(condition,)),)

    def add(self, x: _Intervals, y: _Intervals) -> _Intervals:
        together = tuple(dict.fromkeys((*x, *y)))
        if EVERYTHING in together:
            return (EVERYTHING,)
        return together if len(together) <= MOST else (self.hull(together),)

    def hull(self, intervals: _Intervals) -> _Interval:
        """One interval around all."""
        ends = [self.span(i) for i in intervals]
        firsts = [op("where", op("le", e.first, e.last), e.first, self.extent) for e in ends]
        lasts = [op("where", op("le", e.first, e.last), e.last, integer(-1)) for e in ends]
        return _Interval((joined("min", firsts),), (joined("max", lasts),))

    def intersect(self, x: _Intervals, y: _Intervals) -> _Intervals:
        """Every meeting of one of x with one of y; where those are too many, the shorter list is drawn together."""
        met = tuple(dict.fromkeys(a.meet(b) for a in x for b in y))
        if len(met) <= MOST:
            return met
        shorter, longer = sorted((x, y), key=len)
        around = self.hull(shorter)
        return tuple(dict.fromkeys(a.meet(around) for a in longer))

    # comparisons

    def at_most_zero(self, form: Linear) -> _Intervals:
        """Where the form may be <= 0."""
        for atom, factor in form.terms:
            if self.walks(atom) and atom not in self.rectangle.bounds:
                cases = self.cases(atom, factor, form)
                if cases is not None:
                    return cases
        return self.at_most(form, ZERO)

    def cases(self, atom: Expr, factor: int, form: Linear) -> _Intervals | None:
        """The form with a piecewise term written out: a greater one asks for both pieces, a lesser one for either."""
        rest = form.minus(Linear(((atom, factor),), 0))

        def with_piece(piece: Expr, sign: int = 1) -> _Intervals:
            return self.at_most_zero(self.rectangle.linear(piece).times(sign * factor).plus(rest))

        match atom:
            case Op("abs", (x,), _):
                return (self.intersect if factor > 0 else self.add)(with_piece(x), with_piece(x, -1))
            case Op("min" | "max" as name, (x, y), _):
                join = self.intersect if (factor > 0) == (name == "max") else self.add
                return join(with_piece(x), with_piece(y))
            case Op("clamp", (x, low, high), _):
                return with_piece(op("min", op("max", x, low), high))
            case Op("where", (c, x, y), _):
                return self.add(
                    self.intersect(self.union(c, True), with_piece(x)),
                    self.intersect(self.union(c, False), with_piece(y)),
                )
        return None

    def at_most(self, form: Linear, bound: Expr, valid: tuple[Expr, ...] = ()) -> _Intervals:
        """Where the form may be <= bound, a value of the tile. `valid`: the bound counts only where these hold."""
        form = self.rectangle.gathered(form)
        walked = [(atom, factor) for atom, factor in form.terms if self.walks(atom)]
        rest = Linear(tuple(t for t in form.terms if t not in walked), form.constant)
        least = self.rectangle.ends(rest).low
        if least is None or len(walked) > 1:
            return (EVERYTHING,)
        if not walked:
            condition = op("le", least, bound)
            for v in valid:
                condition = op("or", op("not", v), condition)
            return self.guarded(condition)
        room = op("neg", least) if bound == ZERO else op("sub", bound, least)
        (atom, factor), *_ = walked
        limit = op("floordiv", room, integer(abs(factor)))
        return self.limited(atom, factor > 0, limit if factor > 0 else op("neg", limit), valid)

    def limited(self, atom: Expr, above: bool, limit: Expr, valid: tuple[Expr, ...]) -> _Intervals:
        """Where the atom may be <= limit (`above`: the limit is a last value), or >= limit."""
        if atom == self.position:
            return self.ended(limit, above, valid)
        if atom == self.outermost:
            return self.quotient(Linear(((self.position, 1),), 0), self.below, above, limit, valid)
        match atom:
            case Op("segment", (Load() as row, count, x), _) if self.rectangle.uniform(row):
                return self.segment(row, count, self.rectangle.linear(x), above, limit, valid)
        if self.rectangle.vectors.nondecreasing(atom, self.walked):
            return self.ended(self.rectangle.vectors.search(atom, self.walked, above, limit), above, valid)
        match atom:
            case Op("floordiv", (x, y), _) if self.rectangle.uniform(y):
                if not plainly_positive(y):
                    valid = (*valid, op("lt", ZERO, y))
                return self.quotient(self.rectangle.linear(x), y, above, limit, valid)
        return (EVERYTHING,)

    def ended(self, end: Expr, above: bool, valid: tuple[Expr, ...]) -> _Intervals:
        """The positions up to an end, or from it on."""
        for v in valid:
            end = op("where", v, end, op("sub", self.extent, ONE) if above else ZERO)
        return (_Interval(lasts=(end,)) if above else _Interval(firsts=(end,)),)

    def segment(
        self, row: Load, count: Expr, x: Linear, above: bool, limit: Expr, valid: tuple[Expr, ...]
    ) -> _Intervals:
        """segment(x) <= l is x < offset l + 1, unless l is the last or beyond, and segment(x) >= l is x >= offset l,
        unless l is the first or before. (An offset is read only where that is `valid`.)"""
        last = last_of(count)
        own = limit.args[1] if isinstance(limit, Op) and limit.name == "segment" else None  # then 0 ... own - 1
        if above:
            least = limit if own is not None else op("max", limit, integer(-1))
            end = op("sub", offset(row, op("add", least, ONE)), ONE)
            return self.at_most(x, end, (*valid, op("lt", least, last)))
        most = limit if own == count else op("min", limit, last)
        return self.at_most(x.times(-1), op("neg", offset(row, most)), (*valid, op("lt", ZERO, most)))

    def quotient(self, form: Linear, divisor: Expr, above: bool, limit: Expr, valid: tuple[Expr, ...]) -> _Intervals:
        """x // d <= l is x <= l*d + d-1, x // d >= l is x >= l*d, for positive d."""
        scaled = op("mul", limit, divisor)
        if above:
            return self.at_most(form, op("add", scaled, op("sub", divisor, ONE)), valid)
        return self.at_most(form.times(-1), op("neg", scaled), valid)
