"""Bounds of integer expressions for all sizes: polynomials that are never above, or never below, a value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from irc.codegen.expr import Axis, Const, Expr, Index, Kind, Load, Op, Size, conjuncts, op, rebuild, walk
from irc.elaborate.floats import FAR, floor_bounds
from irc.graph.ir import Fact
from irc.graph.size import Polynomial, constant, divide, expression, nonnegative, polynomial

ONE = constant(1)
MOST = 4  # candidates kept a side: enough for nested min and max


@dataclass(frozen=True, slots=True)
class Range:
    """Each of `low` is at most the value, each of `high` at least; `exact` where both ends are reached."""

    low: tuple[Polynomial, ...] = ()
    high: tuple[Polynomial, ...] = ()
    exact: bool = False


UNKNOWN = Range()


def below(a: Polynomial, b: Polynomial) -> bool:
    """Whether a <= b is plain for all sizes."""
    return nonnegative(b - a)


def possibly_zero(
    exprs: Iterable[Expr], axes: Iterable[Axis], sizes: Mapping[str, Expr | None], facts: Iterable[Fact]
) -> tuple[str, ...]:
    """Names of open sizes in some expressions that may be 0 though none of the axes is empty."""
    positive: set[Expr] = set()
    for axis in axes:
        terms = polynomial(axis.size, sizes).terms
        positive |= set(terms[0][0]) if len(terms) == 1 else set()
    for predicate in (p for f in facts if not f.free for p in conjuncts(f.predicate)):
        match predicate:
            case Op("le", (Const(least, _), Size() as size), _) if least >= 1:
                positive.add(size)
            case Op("lt", (Const(least, _), Size() as size), _) if least >= 0:
                positive.add(size)
            case Op("eq", (Op("mod", (_, Size() as size), _), _), _):  # nothing is a multiple of 0
                positive.add(size)
    atoms = (part for e in exprs for m, _ in polynomial(e, sizes).terms for a in m for part in walk(a))
    return tuple(dict.fromkeys(a.name for a in atoms if isinstance(a, Size) and a not in positive))


def from_zero(sizes: Mapping[str, Expr | None], names: Iterable[str]) -> dict[str, Expr | None]:
    """The sizes, some of them from 0 on: each is one less than a size."""
    one = Const(1, Kind.INT)
    return {**sizes, **{n: op("sub", Size(f"{n} + 1"), one) for n in names}}


def of_floats(part: Expr) -> bool:
    """Whether it makes an integer or a truth of floats."""
    return isinstance(part, Op) and part.kind is not Kind.FLOAT and any(a.kind is Kind.FLOAT for a in part.args)


def told_by_floats(e: Expr) -> bool:
    """Whether floats, which are rounded, decide the value of an integer or a truth."""
    return any(of_floats(part) for part in walk(e))


@dataclass
class Bounds:
    """Knows the sizes, the extents of indices, and what assumptions say of sizes and tables."""

    sizes: dict[str, Expr | None]
    facts: tuple[Fact, ...] = ()
    tables: dict[str, Range] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sizes = dict(self.sizes)
        predicates = [p for f in self.facts if f.nondecreasing is None for p in conjuncts(f.predicate)]
        for predicate in predicates:
            self._size_fact(predicate)
        for predicate in predicates:
            self._table_fact(predicate)

    def _size_fact(self, predicate: Expr) -> None:
        """`H % G == 0` makes H a multiple of G; `Sq <= Sk` makes Sk what Sq is, and more. Rewriting one size by
        another and a fresh one (again at least 1) keeps polynomials deciding."""
        match predicate:
            case Op("eq", (Op("mod", (Size(whole), part), _), Const(0, _)), _) if self._open(whole, part):
                self.sizes[whole] = op("mul", part, Size(f"{whole}/{_name(part)}"))
            case Op("le" | "lt" as sign, (less, Size(more)), _) if self._open(more, less):
                fresh = op("add", less, Size(f"{more}-{_name(less)}"))
                self.sizes[more] = op("sub", fresh, Const(1, Kind.INT)) if sign == "le" else fresh

    def _open(self, name: str, other: Expr) -> bool:
        if self.sizes.get(name) is not None or not isinstance(other, Size | Const):
            return False
        if isinstance(other, Const):
            return int(other.value) >= 1
        return Size(name) not in [a for m, _ in polynomial(other, self.sizes).terms for a in m]

    def _table_fact(self, predicate: Expr) -> None:
        match predicate:
            case Op("le" | "lt" as sign, (Load() as table, limit), _) if _everywhere(table):
                shift = constant(0) if sign == "le" else ONE
                self._table(table, Range(high=tuple(h - shift for h in self.range(limit, {}).high)))
            case Op("le" | "lt" as sign, (limit, Load() as table), _) if _everywhere(table):
                shift = constant(0) if sign == "le" else ONE
                self._table(table, Range(low=tuple(x + shift for x in self.range(limit, {}).low)))

    def _table(self, table: Load, new: Range) -> None:
        old = self.tables.get(table.tensor, UNKNOWN)
        self.tables[table.tensor] = Range(old.low + new.low, old.high + new.high)

    def range(self, e: Expr, extents: Mapping[str, Expr]) -> Range:
        """The bounds of an integer expression whose indices have these extents."""
        return self._polynomial(polynomial(_unfolded(e), self.sizes), extents)

    def _polynomial(self, p: Polynomial, extents: Mapping[str, Expr]) -> Range:
        """Linear in what is no size, with coefficients of one sign."""
        rest = constant(0)
        linear: dict[Expr, Polynomial] = {}
        for monomial, coefficient in p.terms:
            moving = [a for a in monomial if not self._is_size(a)]
            fixed = Polynomial(((tuple(a for a in monomial if self._is_size(a)), coefficient),))
            if len(moving) > 1:
                return UNKNOWN
            if moving:
                linear[moving[0]] = linear.get(moving[0], constant(0)) + fixed
            else:
                rest = rest + fixed
        low: tuple[Polynomial, ...] = (rest,)
        high: tuple[Polynomial, ...] = (rest,)
        for atom, by in linear.items():
            inner = self._atom(atom, extents)
            if nonnegative(by):
                first, last = inner.low, inner.high
            elif nonnegative(constant(0) - by):
                first, last = inner.high, inner.low
            else:
                return UNKNOWN
            low = tuple(x + by * y for x in low for y in first)[:MOST]
            high = tuple(x + by * y for x in high for y in last)[:MOST]
        return Range(low, high, all(isinstance(a, Index) for a in linear))

    def _is_size(self, atom: Expr) -> bool:
        if isinstance(atom, Op):
            return all(self._is_size(a) for a in atom.args)
        return isinstance(atom, Size | Const)

    def _atom(self, e: Expr, extents: Mapping[str, Expr]) -> Range:
        match e:
            case Index(name):
                size = extents.get(name)
                return UNKNOWN if size is None else Range((constant(0),), (polynomial(size, self.sizes) - ONE,), True)
            case Load(tensor, _, _):
                return self.tables.get(tensor, UNKNOWN)
            case Op("floordiv", (a, b), _):
                return self._quotient(self.range(a, extents), polynomial(b, self.sizes))
            case Op("mod", (a, b), _):
                return self._remainder(self.range(a, extents), polynomial(b, self.sizes))
            case Op("pow", (a, b), _):
                return self._power(self.range(a, extents), self.range(b, extents))
            case Op("min", (a, b), _):
                x, y = self.range(a, extents), self.range(b, extents)
                return Range(_lower(x.low, y.low), (x.high + y.high)[:MOST])
            case Op("max", (a, b), _):
                x, y = self.range(a, extents), self.range(b, extents)
                return Range((x.low + y.low)[:MOST], _upper(x.high, y.high))
            case Op("clamp", (a, b, c), _):
                return self._atom(Op("max", (b, Op("min", (a, c), Kind.INT)), Kind.INT), extents)
            case Op("where", (_, a, b), _):
                x, y = self.range(a, extents), self.range(b, extents)
                return Range(_lower(x.low, y.low), _upper(x.high, y.high))
            case Op("floor", (x,), _):
                ends = self.rounded_down(x, extents)
                return UNKNOWN if ends is None else Range((constant(ends[0]),), (constant(ends[1]),))
            case Op("segment", (_, count, _), _):
                last = polynomial(count, self.sizes) - ONE
                return Range((constant(0),), (last,) if nonnegative(last) else ())
            case Op("abs", (a,), _):
                x = self.range(a, extents)
                return Range((constant(0), *x.low)[:MOST], _upper(x.high, tuple(constant(0) - p for p in x.low)))
            case _:
                return UNKNOWN

    def rounded_down(self, x: Expr, extents: Mapping[str, Expr]) -> tuple[int, int] | None:
        """Numbers that floor(x) is never below, and never above."""
        return floor_bounds(x, lambda part: self._numbers(part, extents))

    def _numbers(self, e: Expr, extents: Mapping[str, Expr]) -> tuple[float, float]:
        """The bounds as numbers, for all sizes."""
        found = self.range(e, extents)
        low = [p.value if p.value is not None else 0 for p in found.low if p.value is not None or nonnegative(p)]
        high = [p.value for p in found.high if p.value is not None]
        return max(low, default=-FAR), min(high, default=FAR)

    def _quotient(self, a: Range, b: Polynomial) -> Range:
        if not nonnegative(b - ONE):
            return UNKNOWN
        positive = any(nonnegative(x) for x in a.low)
        low = (constant(0),) if positive else ()
        high: list[Polynomial] = []
        for x in a.high:
            whole = divide(x + ONE, b)
            if whole is not None:
                high.append(whole - ONE)
            elif x.value is not None and b.value is not None:
                high.append(constant(x.value // b.value))
            else:
                rounded = op("floordiv", expression(x), expression(b))
                high.append(polynomial(rounded, self.sizes))
                if nonnegative(x):
                    high.append(x)
        return Range(low, tuple(high)[:MOST])

    def _power(self, a: Range, b: Range) -> Range:
        """The exponent is never negative, or the power would be none of integers."""
        if not any(nonnegative(x) for x in a.low):
            return UNKNOWN
        positive = any(nonnegative(x - ONE) for x in a.low)
        high = [polynomial(op("pow", expression(x), expression(y)), self.sizes) for x in a.high for y in b.high]
        return Range((ONE if positive else constant(0),), tuple(high if positive else ())[:MOST])

    def _remainder(self, a: Range, b: Polynomial) -> Range:
        if not nonnegative(b - ONE):
            return UNKNOWN
        positive = any(nonnegative(x) for x in a.low)
        return Range((constant(0),), (b - ONE, *(x for x in a.high if positive))[:MOST])


def _lower(a: tuple[Polynomial, ...], b: tuple[Polynomial, ...]) -> tuple[Polynomial, ...]:
    """Bounds below both of two values."""
    pairs = [(x, y) for x in a for y in b]
    return tuple(x if below(x, y) else y for x, y in pairs if below(x, y) or below(y, x))[:MOST]


def _upper(a: tuple[Polynomial, ...], b: tuple[Polynomial, ...]) -> tuple[Polynomial, ...]:
    """Bounds above both of two values."""
    pairs = [(x, y) for x in a for y in b]
    return tuple(y if below(x, y) else x for x, y in pairs if below(x, y) or below(y, x))[:MOST]


def _unfolded(e: Expr) -> Expr:
    """Positions in product axes written out."""

    def fn(part: Expr) -> Expr | None:
        if not isinstance(part, Op) or part.name != "flat":
            return None
        total: Expr = Const(0, Kind.INT)
        for index, size in zip(part.args[::2], part.args[1::2], strict=True):
            total = op("add", op("mul", total, size), rebuild(index, fn))
        return total

    return rebuild(e, fn)


def _everywhere(table: Load) -> bool:
    """Whether a fact about this element is one about all: its indices are distinct variables."""
    return all(isinstance(i, Index) for i in table.indices) and len(set(table.indices)) == len(table.indices)


def _name(e: Expr) -> str:
    return e.name if isinstance(e, Size) else str(getattr(e, "value", ""))
