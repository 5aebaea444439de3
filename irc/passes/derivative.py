"""Derivatives of scalar expressions, one rule an operation, with the language's tie rules at kinks:
abs'(0) = 0, relu'(0) = 0, min and max share equally, clamp passes on its closed interval, and floor,
comparisons and index expressions pass nothing."""

from __future__ import annotations

import math

from irc.codegen.expr import Const, Expr, Index, Kind, Load, Local, Op, Size, number, op

ZERO = number(0.0)
ONE = number(1.0)


def partial(expr: Expr, variable: Load) -> Expr:
    """The derivative of a floating expression with respect to one tensor element that it reads."""
    if expr == variable:
        return ONE
    match expr:
        case Const() | Index() | Size() | Load() | Local():
            return ZERO
        case Op(name, args, Kind.FLOAT):
            return _chain(name, args, expr, variable)
        case Op():
            return ZERO


def _chain(name: str, args: tuple[Expr, ...], expr: Expr, variable: Load) -> Expr:
    total: Expr = ZERO
    if name == "mul" and args[0] == args[1]:
        return times(op("mul", number(2.0), args[0]), partial(args[0], variable))
    for position, arg in enumerate(args):
        inner = partial(arg, variable) if arg.kind is Kind.FLOAT else ZERO
        if inner != ZERO:
            slope = _slope(name, args, position, expr)
            total = op("add", total, mul_where(inner, slope) if name == "where" else times(slope, inner))
    return total


def times(a: Expr, b: Expr) -> Expr:
    """a * b, without the products that a 0 or -1 makes needless. (0 * x is 0 here: the slope, not the value, is 0.)"""
    if ZERO in (a, b):
        return ZERO
    for one, other in ((a, b), (b, a)):
        if one == number(-1.0):
            return op("neg", other)
    return op("mul", a, b)


def _choose(condition: Expr) -> Expr:
    return op("where", condition, ONE, ZERO)


def _share(a: Expr, b: Expr, first_wins: Expr) -> Expr:
    return op("where", op("eq", a, b), number(0.5), _choose(first_wins))


def _slope(name: str, args: tuple[Expr, ...], k: int, value: Expr) -> Expr:
    """The derivative of the operation with respect to argument `k`; `value` is the operation itself."""
    x = args[0]
    match name, k:
        case "add", _:
            return ONE
        case "sub", _:
            return ONE if k == 0 else number(-1.0)
        case "neg", _:
            return number(-1.0)
        case "mul", _:
            return args[1 - k]
        case "div", 0:
            return op("div", ONE, args[1])
        case "div", _:
            return op("neg", op("div", value, args[1]))
        case "pow", 0:
            slope = times(args[1], op("pow", x, op("sub", args[1], ONE)))
            return slope if isinstance(args[1], Const) else op("where", op("eq", args[1], ZERO), ZERO, slope)
        case "pow", _:  # 0 ^ p is 0 for all p > 0
            flat = op("and", op("eq", x, ZERO), op("le", ZERO, args[1]))
            return op("where", flat, ZERO, op("mul", value, op("log", x)))
        case "exp" | "share", _:
            return value
        case "log", _:
            return op("div", ONE, x)
        case "sqrt", _:
            return op("div", number(0.5), value)
        case "rsqrt", _:
            return op("mul", number(-0.5), op("div", value, x))
        case "sin", _:
            return op("cos", x)
        case "cos", _:
            return op("neg", op("sin", x))
        case "tanh", _:
            return op("sub", ONE, op("mul", value, value))
        case "sigmoid", _:
            return op("mul", value, op("sub", ONE, value))
        case "erf", _:
            return op("mul", number(2.0 / math.sqrt(math.pi)), op("exp", op("neg", op("mul", x, x))))
        case "relu", _:
            return _choose(op("lt", ZERO, x))
        case "abs", _:
            return op("where", op("lt", x, ZERO), number(-1.0), _choose(op("lt", ZERO, x)))
        case "min", _:
            return _share(args[k], args[1 - k], op("lt", args[k], args[1 - k]))
        case "max", _:
            return _share(args[k], args[1 - k], op("lt", args[1 - k], args[k]))
        case "clamp", 0:
            return _choose(op("and", op("le", args[1], x), op("le", x, args[2])))
        case "clamp", 1:
            return _choose(op("lt", x, args[1]))
        case "clamp", 2:
            return _choose(op("lt", args[2], x))
        case "where", 1:
            return _choose(args[0])
        case "where", 2:
            return op("where", args[0], ZERO, ONE)
    raise AssertionError(f"no derivative rule for {name}")


def mul_where(cotangent: Expr, slope: Expr) -> Expr:
    """cotangent * slope; where the slope chooses 0 the product is chosen to be 0, so that no 0 multiplies a NaN."""
    match slope:
        case Op("where", (condition, a, b), _) if ZERO in (a, b):
            return op("where", condition, mul_where(cotangent, a), mul_where(cotangent, b))
    return times(cotangent, slope)
