"""Integers of pairs in 32 bits, for devices whose registers have no more: where every value provably fits; elsewhere in
64, as everywhere else.

A position is below POSITIONS, and the sizes that are read here are at most MOST: each call is checked
(runtime/launches.py). Scalars and entries of tables may be any integer of 32 bits. So the distance of two positions
fits, and the sum of a position and a scalar does not; but a comparison with such a sum is put so that it stands alone,
on one side: there it is made once a row or a column, in 64 bits, and held within ±POSITIONS, beyond which no position
lies.
"""

from __future__ import annotations

from itertools import product

from irc.codegen.expr import (
    COMPARISON,
    Const,
    Expr,
    Index,
    Kind,
    Load,
    Local,
    Op,
    Size,
    children,
    indices,
    integer,
    op,
    rebuild,
)
from irc.codegen.kernel import Storage, TileKernel
from irc.codegen.positions import size

POSITIONS = 1 << 30
MOST = POSITIONS - 256  # of a side: tiles reach beyond its end
NEAR = 1 << 28  # what a call may be asked of a value, so that sums with it have 32 bits
INT = Kind.INT
BASE, STEP = Local("column base", INT), Local("column step", INT)
"""The position of a column is their sum; the second is known to the compiler for every element of a fragment."""

Range = tuple[int, int]
FITS: Range = (-(1 << 31), (1 << 31) - 1)
INSIDE: Range = (FITS[0] + 1, FITS[1] - 1)
BELOW: Range = (1 - POSITIONS, POSITIONS - 1)
STORED: dict[Storage, Range] = {
    "i8": (-128, 127),
    "u8": (0, 255),
    "i16": (-(1 << 15), (1 << 15) - 1),
    "u16": (0, (1 << 16) - 1),
}
WHOLE = ("add", "sub", "mul", "neg", "min", "max", "abs", "clamp", "floordiv", "mod", "where")
"""Operations on integers of either width, whose result has that of the wider argument."""


class Narrow:
    """Rewrites expressions of a kernel's pairs; `bounded` are the sizes that may be MOST in a call.

    inner: names of further indices, whose sizes are at most MOST too. assume: whether values are taken to be as the
    program assumes. Whoever prints them declares positions of rows and columns with 32 bits, and the rest with 64."""

    def __init__(self, kernel: TileKernel, inner: frozenset[str] = frozenset(), *, assume: bool = False) -> None:
        self._rows, self._columns = ({a.name for a in axes} for axes in (kernel.rows, kernel.columns))
        self._inner = inner
        self._bounds = {t.name: STORED[t.storage] for t in kernel.tensors if t.storage in STORED}
        self._bounds |= {name: (least, most) for name, least, most in kernel.bounds if assume}
        self._batch = {a.name for a in kernel.batch}
        self._column = kernel.columns[0].index if len(kernel.columns) == 1 else None
        self.bounded = dict.fromkeys((size(kernel.rows), size(kernel.columns), *(a.size for a in kernel.batch)))
        ends = {f"{s} {end}": (0, POSITIONS - 1) for s in ("row", "column") for end in ("first", "last")}
        values = {f"{s.name} {end}": FITS for s in kernel.summaries if self.fits(s.value) for end in ("low", "high")}
        self._ends: dict[str, Range] = ends | values

    def __call__(self, expr: Expr) -> Expr:
        return self._typed(expr)[0]

    def entries(self, value: Expr) -> Expr:
        """The value with the entries of tables, of which it makes floats, read in 32 bits where all that is computed of
        them fits: loops over such become vectors."""

        def place(part: Expr) -> Expr | None:
            match part:
                case Op("float", (whole,), kind) if self._fits_whole(whole):
                    return Op("float", (rebuild(whole, read),), kind)
            return None

        def read(part: Expr) -> Expr | None:
            return Op("narrow", (part,), INT) if isinstance(part, Load) and part.kind is INT else None

        return rebuild(value, place)

    def _fits_whole(self, e: Expr) -> bool:
        """Whether an integer of entries and constants has 32 bits, with all on the way to it."""
        match e:
            case Load(_, _, Kind.INT) | Const():
                return self.fits(e)
            case Op(name, args, Kind.INT) if name in WHOLE:
                return self.fits(e) and all(self._fits_whole(a) for a in args if a.kind is INT)
            case _:
                return False

    def fits(self, expr: Expr, ends: Range = FITS) -> bool:
        """Whether an integer, rewritten or not, has a value of 32 bits, or between the ends."""
        return _inside(self._range(expr), ends)

    def is_narrow(self, e: Expr) -> bool:
        """Whether what is printed for an integer, rewritten, has 32 bits."""
        match e:
            case Op("narrow" | "saturate", _, _):
                return True
            case Op(name, args, _) if name in WHOLE:
                return all(self.is_narrow(a) for a in args if a.kind is INT)
            case _:
                return self._typed(e)[1]

    def near(self, number: int) -> Local:
        """What stands for an integer within ±NEAR, one for each number."""
        name = f"near {number}"
        self._ends[name] = -NEAR, NEAR
        return Local(name, INT)

    def _typed(self, e: Expr) -> tuple[Expr, bool]:
        """The expression rewritten, and whether what is printed for it has 32 bits."""
        match e:
            case Const():
                return e, e.kind is INT and _inside(self._range(e), FITS)
            case Index(name):
                return e, name in self._rows | self._columns
            case Load(tensor, at, kind):
                return Load(tensor, tuple(self(index) for index in at), kind), False
            case Op("segment", (row, *others), kind):
                return Op("segment", (row, *(self(o) for o in others)), kind), False
            case Op(name, (x, y), _) if name in COMPARISON and x.kind is INT:
                return self._compared(name, x, y), False
            case Op(name, args, Kind.INT) if name in WHOLE:
                return self._computed(name, args)
            case Op("flat", (first, *others), kind):
                return Op("flat", (self._widened(first), *(self(o) for o in others)), kind), False
            case Op(name, args, kind):
                return Op(name, tuple(self(a) for a in args), kind), False
            case Local(name, Kind.INT):
                return e, name in self._ends
            case _:
                return e, False

    def _computed(self, name: str, args: tuple[Expr, ...]) -> tuple[Expr, bool]:
        whole = [a for a in args if a.kind is INT]
        if all(self.fits(e) for e in (Op(name, args, INT), *whole)):
            return Op(name, tuple(self._fitted(a) if a.kind is INT else self(a) for a in args), INT), True
        first = whole[0]
        return Op(name, tuple(self._widened(a) if a is first else self(a) for a in args), INT), False

    def _fitted(self, e: Expr) -> Expr:
        """What fits, in 32 bits."""
        made, narrow = self._typed(e)
        return made if narrow else Op("narrow", (made,), INT)

    def _widened(self, e: Expr) -> Expr:
        made, narrow = self._typed(e)
        return Op("widen", (made,), INT) if narrow else made

    def _compared(self, name: str, x: Expr, y: Expr) -> Expr:
        """A comparison, in 32 bits where what depends on columns can stand alone on one side, or all of it fits."""
        match x:
            case Op("abs", (inner,), _) if name in ("lt", "le") and not self.fits(x):
                both = (self._compared(name, e, y) for e in (inner, Op("neg", (inner,), INT)))
                return Op("and", tuple(both), Kind.BOOL)
        if (apart := self.apart(x, y)) is not None:
            columns, others, turned = apart
            if columns == self._column:
                sides = STEP, Op("sub", (self.held(others), BASE), INT)
                return Op(name, sides[::-1] if turned else sides, Kind.BOOL)
            if not (self.fits(x) and self.fits(y)):
                x, y = (others, columns) if turned else (columns, others)
        if self.fits(x) and self.fits(y):
            return Op(name, (self._fitted(x), self._fitted(y)), Kind.BOOL)
        if _inside(self._range(x), BELOW) and not self._is_mixed(y):
            return Op(name, (self._fitted(x), self.held(y)), Kind.BOOL)
        if _inside(self._range(y), BELOW) and not self._is_mixed(x):
            return Op(name, (self.held(x), self._fitted(y)), Kind.BOOL)
        return Op(name, (self(x), self(y)), Kind.BOOL)

    def apart(self, x: Expr, y: Expr) -> tuple[Expr, Expr, bool] | None:
        """Of x - y the terms of columns, and what these are compared with, `turned` where that comes first; None where
        a term depends on both sides, or on what is not known here. What depends on neither stands with the rows, but
        with the columns where that leaves one side BELOW."""
        terms = [*_terms(x, 1), *_terms(y, -1)]
        columns = [t for t in terms if indices(t[1]) & self._columns]
        rows = [t for t in terms if indices(t[1]) & self._rows]
        rest = [t for t in terms if t not in columns and t not in rows]
        known = self._rows | self._columns | self._batch
        if not columns or any(t in rows for t in columns):
            return None
        if any(indices(t) - known or not _is_plain(t) for _, t in terms):
            return None
        turned = columns[0][0] < 0
        own = -1 if turned else 1
        if not _inside(self._range(_sum(columns, own)), BELOW) and _inside(self._range(_sum(rows, -own)), BELOW):
            return _sum(columns + rest, own), _sum(rows, -own), turned
        return _sum(columns, own), _sum(rows + rest, -own), turned

    def _is_mixed(self, e: Expr) -> bool:
        return bool(indices(e) & self._rows and indices(e) & self._columns)

    def held(self, e: Expr) -> Expr:
        """What is compared with values within BELOW: held at their ends and one more."""
        if _inside(self._range(e), (-POSITIONS, POSITIONS)):
            return self._fitted(e)
        return Op("saturate", (self._widened(e),), INT)

    def _range(self, e: Expr) -> Range | None:
        """Least and greatest value of an integer, too wide, never too narrow; None where 32 bits say nothing of it."""
        match e:
            case Const(value, _):
                return int(value), int(value)
            case Size():
                self.bounded[e] = None
                return 0, POSITIONS - 1
            case Index(name) if name in self._rows | self._columns | self._batch | self._inner:
                return 0, POSITIONS - 1
            case Load(tensor, _, Kind.INT):
                return self._bounds.get(tensor, FITS)
            case Local(name, Kind.INT):
                return self._ends.get(name)
            case Op("segment", (_, count, _), _):
                number = self._range(count)
                return number and (0, max(number[1] - 1, 0))
            case Op("saturate", _, _):
                return -POSITIONS, POSITIONS
            case Op(name, args, Kind.INT):
                parts = [self._range(a) for a in args if a.kind is INT]
                known = [p for p in parts if p is not None]
                return _result(name, known) if len(known) == len(parts) else None
            case _:
                return None


def _result(name: str, v: list[Range]) -> Range | None:
    match name, v:
        case (("narrow" | "widen"), [x]):
            return x
        case "neg", [(a, b)]:
            return -b, -a
        case "add", [(a, b), (c, d)]:
            return a + c, b + d
        case "sub", [(a, b), (c, d)]:
            return a - d, b - c
        case "mul", [x, y]:
            corners = [m * n for m, n in product(x, y)]
            return min(corners), max(corners)
        case "floordiv", [(a, b), (c, d)] if c > 0:
            return min(a // c, a // d), max(b // c, b // d)
        case "floordiv", [(a, b), _]:
            return -max(-a, b), max(-a, b)
        case "mod", [(a, _), (c, d)]:  # the least integer has no remainder by -1 where machines divide
            return (min(c, 0), max(d - 1, 0)) if c >= 0 or a > FITS[0] else None
        case ("min" | "max") as name, [(a, b), (c, d)]:
            return (min(a, c), min(b, d)) if name == "min" else (max(a, c), max(b, d))
        case "clamp", [x, low, high]:
            return _result("min", [r for r in (_result("max", [x, low]), high) if r is not None])
        case "abs", [(a, b)]:
            return max(a, -b, 0), max(-a, b)
        case "where", [(a, b), (c, d)]:
            return min(a, c), max(b, d)
        case _:
            return None


def _inside(inner: Range | None, outer: Range) -> bool:
    return inner is not None and outer[0] <= inner[0] and inner[1] <= outer[1]


def _terms(e: Expr, sign: int) -> list[tuple[int, Expr]]:
    """What a sum adds and subtracts."""
    match e:
        case Op("add", (x, y), _):
            return _terms(x, sign) + _terms(y, sign)
        case Op("sub", (x, y), _):
            return _terms(x, sign) + _terms(y, -sign)
        case Op("neg", (x,), _):
            return _terms(x, -sign)
        case _:
            return [(sign, e)]


def _sum(terms: list[tuple[int, Expr]], by: int) -> Expr:
    """The sum of the terms, or where `by` is -1 its negative; what is added comes first."""
    total: Expr = integer(0)
    for sign, term in sorted(terms, key=lambda each: -by * each[0]):
        total = op("add" if sign == by else "sub", total, term)
    return total


def _is_plain(e: Expr) -> bool:
    """Whether it reads no value that the kernel has computed."""
    return not isinstance(e, Local) and all(_is_plain(child) for child in children(e))
