"""Bounds of floats that integers tell, as of `log(max(a, 1) / 8.0)` in the buckets of T5 (Raffel, Shazeer and others
2020): wide enough for whatever type they are rounded to on the way, and for any function that is nearly right.

Kernels have floats, in which less than 2^-126 may be 0, and more than 2^128 is infinite. So no value with bounds is
beyond MOST, and what may be nearer to 0 than LEAST may be 0 too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from irc.codegen.expr import Const, Expr, Kind, Op

Interval = tuple[float, float]
FAR = 2.0**62  # beyond every integer
LEAST, MOST = 2.0**-100, 2.0**100
DIGITS = 24  # binary ones of a float
SLACK = 2.0**-7  # of a value, that an operation may be off by: bf16 has eight bits


def floor_bounds(value: Expr, integers: Callable[[Expr], Interval]) -> tuple[int, int] | None:
    """Least and greatest value of a float once it is rounded down, if both are known and have 32 bits; `integers`: of
    the integers that it is made of."""
    found = _interval(value, integers)
    return None if found is None or max(map(abs, found)) >= 2**31 else (math.floor(found[0]), math.floor(found[1]))


def _interval(e: Expr, integers: Callable[[Expr], Interval]) -> Interval | None:
    """Of a float that is a number, and finite; None where that is not known."""
    match e:
        case Const(value, _):
            exact = (math.frexp(value)[0] * 2.0**DIGITS).is_integer()
            return _rounded((float(value), float(value)), 0.0 if exact else SLACK)
        case Op("where", (_, x, y), Kind.FLOAT):
            args = [_interval(x, integers), _interval(y, integers)]
        case Op("float", (x,)):
            args = [integers(x)]
        case Op(_, parts, Kind.FLOAT):
            args = [_interval(part, integers) for part in parts]
        case _:
            return None
    known = [found for found in args if found is not None]
    made = _operate(e.name, known) if len(known) == len(args) else None
    return None if made is None else _rounded(made, SLACK)


def _rounded(ends: Interval, slack: float) -> Interval | None:
    """The bounds of what is between, once it is a float."""
    if not all(abs(end) <= MOST for end in ends):
        return None
    low, high = ends
    return -_least_above(slack * abs(low) - low), _least_above(high + slack * abs(high))


def _least_above(end: float) -> float:
    """The least end above that is 0 or of a size that floats have."""
    if end >= LEAST or end <= -LEAST or end == 0:
        return end
    return LEAST if end > 0 else 0.0


def _operate(name: str, v: list[Interval]) -> Interval | None:
    match name, v:
        case "float", [x]:
            return x
        case "add", [(a, b), (c, d)]:
            return a + c, b + d
        case "sub", [(a, b), (c, d)]:
            return a - d, b - c
        case "neg", [(a, b)]:
            return -b, -a
        case "mul", [x, y]:
            corners = [s * t for s in x for t in y]
            return min(corners), max(corners)
        case "div", [x, (c, d)] if c > 0 or d < 0:
            corners = [s / t for s in x for t in (c, d)]
            return min(corners), max(corners)
        case "log", [(a, b)] if a > 0:
            return math.log(a), math.log(b)
        case "exp", [(a, b)] if b < 80:
            return math.exp(a), math.exp(b)
        case "sqrt", [(a, b)] if a >= 0:
            return math.sqrt(a), math.sqrt(b)
        case "abs", [(a, b)]:
            return (0.0 if a <= 0 <= b else min(abs(a), abs(b))), max(abs(a), abs(b))
        case "min", [(a, b), (c, d)]:
            return min(a, c), min(b, d)
        case "max", [(a, b), (c, d)]:
            return max(a, c), max(b, d)
        case "clamp", [(a, b), (c, d), (f, g)]:
            return min(max(a, c), f), min(max(b, d), g)
        case "where", [(a, b), (c, d)]:
            return min(a, c), max(b, d)
    return None
