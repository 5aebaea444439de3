"""Construction of operations: kinds inferred, constants folded, neutral elements dropped. Never reassociates."""

from __future__ import annotations

import math

from irc.codegen.expr import (
    COMPARISON,
    FALSE,
    FLOATING,
    INTEGER,
    LOGIC,
    TRUE,
    Const,
    Expr,
    Kind,
    Op,
)


def kind_of(name: str, args: tuple[Expr, ...]) -> Kind:
    if name in COMPARISON or name in LOGIC:
        return Kind.BOOL
    if name in INTEGER or name == "floor":
        return Kind.INT
    if name in FLOATING or name in ("float", "random", "exp2"):
        return Kind.FLOAT
    return args[1].kind if name == "where" else args[0].kind


def _is(expr: Expr, value: float) -> bool:
    return isinstance(expr, Const) and not isinstance(expr.value, bool) and expr.value == value


def fold(name: str, args: tuple[Expr, ...]) -> Expr:
    """The operation in its shortest exact form."""
    kind = kind_of(name, args)
    match name, args:
        case "float", (Const(value, _),):
            return Const(float(value), Kind.FLOAT)
        case ("add", (x, y)) if _is(x, 0) or _is(y, 0):
            return y if _is(x, 0) else x
        case ("sub", (x, y)) if _is(y, 0):
            return x
        case ("mul", (x, y)) if _is(x, 1) or _is(y, 1):
            return y if _is(x, 1) else x
        case "neg", (Op("neg", (x,), _),):
            return x
        case ("div" | "floordiv", (x, y)) if _is(y, 1):
            return x
        case "and", (x, y) if TRUE in (x, y):
            return y if x == TRUE else x
        case "and", (x, y) if FALSE in (x, y):
            return FALSE
        case "and" | "or", (x, y) if x == y:
            return x
        case "or", (x, y) if FALSE in (x, y):
            return y if x == FALSE else x
        case "or", (x, y) if TRUE in (x, y):
            return TRUE
        case "not", (Op("not", (x,), _),):
            return x
        case "where", (condition, x, y) if condition in (TRUE, FALSE) or x == y:
            return x if condition == TRUE else y
    if args and all(isinstance(a, Const) for a in args):
        folded = _constant(name, tuple(a.value for a in args if isinstance(a, Const)))
        if folded is not None:
            return Const(folded, kind)
    return Op(name, args, kind)


FAR = 62  # the power of two at which a power of integers is held


def whole_power(base: int, exponent: int) -> int:
    """A power of integers, as every target has it."""
    if abs(base) > 1 and exponent > FAR:
        exponent = FAR + (exponent - FAR) % 2
    value: int = base ** max(exponent, 0)
    return min(max(value, -(1 << FAR)), 1 << FAR)


def _constant(name: str, v: tuple[bool | int | float, ...]) -> bool | int | float | None:
    """The value of an operation on constants, or None where it is left to run time (a division by zero, say)."""
    match name:
        case "add":
            return v[0] + v[1]
        case "sub":
            return v[0] - v[1]
        case "mul":
            return v[0] * v[1]
        case "pow" if all(isinstance(x, int) for x in v):
            return whole_power(int(v[0]), int(v[1]))
        case "neg":
            return -v[0]
        case "min":
            return min(v[0], v[1])
        case "max":
            return max(v[0], v[1])
        case "abs":
            return abs(v[0])
        case "floordiv" if v[1] != 0:
            return v[0] // v[1]
        case "mod" if v[1] != 0:
            return v[0] % v[1]
        case "div" if v[1] != 0:
            return v[0] / v[1]
        case "sqrt" if v[0] >= 0:
            return math.sqrt(v[0])
        case "rsqrt" if v[0] > 0:
            return 1.0 / math.sqrt(v[0])
        case "lt":
            return v[0] < v[1]
        case "le":
            return v[0] <= v[1]
        case "eq":
            return v[0] == v[1]
        case "ne":
            return v[0] != v[1]
        case "not":
            return not v[0]
        case "flat":
            position = 0
            for index, size in zip(v[::2], v[1::2], strict=True):
                position = position * int(size) + int(index)
            return position
    return None
