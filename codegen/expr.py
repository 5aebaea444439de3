"""Scalar expressions: typed, immutable, compared by structure; shared by every stage from graph to printed kernel.

Not a computer algebra system: nothing is reordered or rounded behind the writer's back, integers stay
integers, and `//` and `%` floor as in Python. Derivatives are in
`irc/passes/derivative.py`, printing in `codegen/printer.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import reduce
from typing import Literal, TypeGuard


class Kind(Enum):
    """The type of a scalar."""

    BOOL = "bool"
    INT = "int"
    FLOAT = "float"


@dataclass(frozen=True, slots=True)
class Const:
    value: bool | int | float
    kind: Kind


@dataclass(frozen=True, slots=True)
class Index:
    """An index variable: it runs from 0 to the size of its axis."""

    name: str

    @property
    def kind(self) -> Kind:
        return Kind.INT


@dataclass(frozen=True, slots=True)
class Size:
    """A symbolic size: a natural number."""

    name: str

    @property
    def kind(self) -> Kind:
        return Kind.INT


@dataclass(frozen=True, slots=True)
class Load:
    """One element of a named tensor. A scalar argument is a tensor with no indices."""

    tensor: str
    indices: tuple[Expr, ...]
    kind: Kind = Kind.FLOAT


@dataclass(frozen=True, slots=True)
class Local:
    """A value that a kernel has computed for the present point: a tile value, a weight, a tile bound. `wide`: a float
    that is kept in double, for what is computed in double."""

    name: str
    kind: Kind = Kind.FLOAT
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Op:
    """An operation. `OPS` lists the names; arguments have already been brought to the kinds that the name asks for."""

    name: str
    args: tuple[Expr, ...]
    kind: Kind


Expr = Const | Index | Size | Load | Local | Op

ARITHMETIC = ("add", "sub", "mul", "pow", "neg", "min", "max", "abs", "clamp")  # int -> int or float -> float
INTEGER = ("floordiv", "mod", "flat", "segment")
FLOATING = ("div", "exp", "share", "log", "sqrt", "rsqrt", "sin", "cos", "tanh", "sigmoid", "erf", "relu", "floor")
COMPARISON = ("lt", "le", "eq", "ne")  # a > b is written lt(b, a)
LOGIC = ("and", "or", "not")
OTHER = ("where", "float", "random")  # where(condition, a, b); float(int); random(seed, i, j, k) -> [0, 1)
WRITTEN = ("exp2", "narrow", "widen", "saturate")  # by passes over kernels alone
OPS = ARITHMETIC + INTEGER + FLOATING + COMPARISON + LOGIC + OTHER + WRITTEN
"""`flat(i, I, j, J, …)` is the position of (i, j, …) in a product axis whose last index runs fastest: (i*J + j)…;
`random(seed, i, j, k)` is the same number in [0, 1) for the same four integers, on every target; `clamp(x, low,
high)`; `min`/`max` take two arguments; an integer `pow` is held within ±2^62, and an exponent below 0 counts as 0;
`floor` is float -> int; `and`/`or` take two; `not` takes one; `share` is `exp` of a logit less its logsumexp, which
roundings alone make more than 0: at most 1; `exp2` is written by powers.py alone; by narrow.py `narrow` and `widen`, an
integer with 32 bits, which hold it, and with 64; and `saturate`, with 32, held within ±2^30.

`segment(t, n, p)` is the number of the segment in which position p lies. Its table is the row that begins with the
element t (a Load whose last index is 0, and of which only the place counts), of n offsets that do not decrease; its
value is how many of these, from the second on, are at most p: 0 … max(n - 1, 0), whatever they and p are."""

TRUE = Const(True, Kind.BOOL)
FALSE = Const(False, Kind.BOOL)


def integer(value: int) -> Const:
    return Const(value, Kind.INT)


def number(value: float) -> Const:
    return Const(float(value), Kind.FLOAT)


def op(name: str, *args: Expr) -> Expr:
    """An operation, its kind inferred, constants folded and neutral elements dropped (0 + x, 1 * x, true and p)."""
    from irc.codegen.fold import fold

    return fold(name, args)


def flat(parts: tuple[tuple[Expr, Expr], ...]) -> Expr:
    """The position of the (index, size) pairs in their product axis; a single pair is its index."""
    if len(parts) == 1:
        return parts[0][0]
    return Op("flat", tuple(e for part in parts for e in part), Kind.INT)


def is_lookup(expr: Expr) -> TypeGuard[Load | Op]:
    """Whether a table gives the value: an element, or the segment of a position."""
    return isinstance(expr, Load) or (isinstance(expr, Op) and expr.name == "segment")


def offset(row: Load, n: Expr) -> Load:
    """Entry n of the table of a `segment` that begins with the element `row`."""
    return Load(row.tensor, (*row.indices[:-1], n), row.kind)


def children(expr: Expr) -> tuple[Expr, ...]:
    match expr:
        case Load():
            return expr.indices
        case Op():
            return expr.args
        case _:
            return ()


def rebuild(expr: Expr, fn: Callable[[Expr], Expr | None]) -> Expr:
    """Replace top down: where `fn` answers an expression it stands, not entered again; else children are rebuilt."""
    new = fn(expr)
    if new is not None:
        return new
    match expr:
        case Load(tensor, indices, kind):
            return Load(tensor, tuple(rebuild(e, fn) for e in indices), kind)
        case Op(name, args, _):
            parts = tuple(rebuild(e, fn) for e in args)
            return expr if parts == args else op(name, *parts)
        case _:
            return expr


def substitute(expr: Expr, mapping: dict[Expr, Expr]) -> Expr:
    """Replace each occurrence of a key, top down, by its value."""
    return rebuild(expr, mapping.get) if mapping else expr


def walk(expr: Expr) -> Iterator[Expr]:
    """The expression and everything below it, parents first."""
    yield expr
    for child in children(expr):
        yield from walk(child)


def indices(expr: Expr) -> frozenset[str]:
    """Names of the index variables that the expression reads."""
    return frozenset(e.name for e in walk(expr) if isinstance(e, Index))


def joined(name: str, parts: Iterable[Expr]) -> Expr:
    """One or more parts under an operation of two: joined("max", (x, y, z)) is max(max(x, y), z)."""
    first, *others = parts
    return reduce(lambda x, y: op(name, x, y), others, first)


def conjuncts(expr: Expr) -> tuple[Expr, ...]:
    """The parts of a conjunction."""
    match expr:
        case Op("and", (x, y), _):
            return conjuncts(x) + conjuncts(y)
    return (expr,)


def loads(expr: Expr) -> tuple[Load, ...]:
    """Every distinct tensor element that the expression reads, in order, those inside index expressions too."""
    return tuple(dict.fromkeys(e for e in walk(expr) if isinstance(e, Load)))


Role = Literal["", "row", "column"]


@dataclass(frozen=True, slots=True)
class Axis:
    """An index and its extent. `role` marks the query (row) and key (column) indices of an attention core."""

    name: str
    size: Expr
    role: Role = ""

    @property
    def index(self) -> Index:
        return Index(self.name)
