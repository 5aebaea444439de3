"""Scalar expressions as C++ text, the same for scalars, vectors and devices: operators, and functions `irc::…`.

The text names the arithmetic type `T`; the templates declare it. Sums and products keep the order in which they
were written, since rounding depends on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import assert_never

from irc.codegen.expr import Const, Expr, Index, Kind, Load, Local, Op, Size, walk
from irc.codegen.names import identifier, pointer_name, size_name, stride_name

Leaf = Callable[[Expr], str | None]
"""The text of an expression, or None for "print it by its parts". It must answer for Index, Size, Load and Local,
and may answer for any Op whose value is already at hand. A text other than a name, a literal, a call or a subscript
must bring its own parentheses."""

_BINARY = {
    "or": ("||", 1),
    "and": ("&&", 2),
    "eq": ("==", 3),
    "ne": ("!=", 3),
    "lt": ("<", 4),
    "le": ("<=", 4),
    "add": ("+", 5),
    "sub": ("-", 5),
    "mul": ("*", 6),
    "div": ("/", 6),
}
_TERNARY, _ADD, _MUL, _UNARY, _ATOM = 0, 5, 6, 7, 8


def print_expr(expr: Expr, leaf: Leaf, *, lazy: bool = False) -> str:
    """The C++ text of an expression. With `lazy` (scalars only), `where` evaluates the chosen branch alone."""
    return _print(expr, leaf, lazy)[0]


def scalar_leaf(expr: Expr) -> str | None:
    """Names as scalar code declares them; a Load reads its element where it stands."""
    match expr:
        case Index(name) | Local(name, _):
            return identifier(name)
        case Size(name):
            return size_name(name)
        case Load():
            return address(expr, scalar_leaf, lazy=True)
        case _:
            return None


def print_scalar(expr: Expr) -> str:
    """The text of an expression in scalar code."""
    return print_expr(expr, scalar_leaf, lazy=True)


def offset(indices: tuple[Expr, ...], tensor: str, leaf: Leaf, *, lazy: bool = False) -> str:
    """The distance of tensor[indices] from the tensor's first element, in elements."""
    terms = []
    for dimension, index in enumerate(indices):
        stride = stride_name(tensor, dimension)
        match index:
            case Const(0, _):
                continue
            case Const(1, _):
                terms.append(stride)
            case _:
                terms.append(f"{_at_least(_MUL, index, leaf, lazy)}*{stride}")
    return " + ".join(terms) or "0"


def element(tensor: str, indices: tuple[Expr, ...], leaf: Leaf, *, lazy: bool = False) -> str:
    """The element as it is stored, an lvalue."""
    return f"{pointer_name(tensor)}[{offset(indices, tensor, leaf, lazy=lazy)}]"


def address(load: Load, leaf: Leaf, *, lazy: bool = False) -> str:
    """The element's value, converted from its storage: to `T`, to int64_t, or to bool."""
    kind = {Kind.FLOAT: "T", Kind.INT: "int64_t", Kind.BOOL: "bool"}[load.kind]
    return f"irc::load<{kind}>({element(load.tensor, load.indices, leaf, lazy=lazy)})"


def _constant(value: bool | int | float, kind: Kind) -> tuple[str, int]:
    match kind:
        case Kind.BOOL:
            return ("true" if value else "false"), _ATOM
        case Kind.INT:
            return str(int(value)), (_ATOM if value >= 0 else _UNARY)
        case Kind.FLOAT if math.isnan(value):
            return "irc::nan<T>()", _ATOM
        case Kind.FLOAT if math.isinf(value):
            return ("irc::inf<T>()", _ATOM) if value > 0 else ("-irc::inf<T>()", _UNARY)
        case Kind.FLOAT:
            return f"T({float(value)!r})", _ATOM
        case _:
            assert_never(kind)


def _at_least(level: int, expr: Expr, leaf: Leaf, lazy: bool) -> str:
    text, own = _print(expr, leaf, lazy)
    return text if own >= level else f"({text})"


def _print(expr: Expr, leaf: Leaf, lazy: bool) -> tuple[str, int]:
    """The text and how tightly it binds."""
    if isinstance(expr, Const):
        return _constant(expr.value, expr.kind)
    text = leaf(expr)
    if text is not None:
        return text, _ATOM
    if not isinstance(expr, Op):
        raise ValueError(f"printer: no text for {expr}")

    def sub(part: Expr, level: int) -> str:
        return _at_least(level, part, leaf, lazy)

    match expr.name, expr.args:
        case "neg", (x,):
            return f"-{sub(x, _ATOM)}", _UNARY
        case "not", (x,):
            return f"!{sub(x, _ATOM)}", _UNARY
        case "flat", parts:
            return _flat(parts, leaf, lazy)
        case "where", (condition, x, y) if lazy:
            return f"{sub(condition, 1)} ? {sub(x, 1)} : {sub(y, 0)}", _TERNARY
        case "float", (x,):
            return f"irc::to_float<T>({sub(x, 0)})", _ATOM
        case "sin" | "cos", (x,) if lazy and in_double(expr):
            return f"T([&] {{ using T = double; return irc::{expr.name}({sub(x, 0)}); }}())", _ATOM
        case "narrow" | "widen" as width, (x,):
            return f"{'int32_t' if width == 'narrow' else 'int64_t'}({sub(x, 0)})", _ATOM
        case "share", (x,):
            return f"irc::exp(irc::min({sub(x, 0)}, T(0)))", _ATOM
        case "exp2", (x,):  # of tile values alone: see powers.py
            return f"irc::exp2<Form>({sub(x, 0)})", _ATOM
        case "segment", (Load(tensor, row, _), count, position):
            first = f"{pointer_name(tensor)} + {offset(row, tensor, leaf, lazy=lazy)}".removesuffix(" + 0")
            stride = stride_name(tensor, len(row) - 1)
            return f"irc::segment({first}, {stride}, {sub(count, 0)}, {sub(position, 0)})", _ATOM
        case "random", args:
            return f"irc::random<T>({', '.join(sub(a, 0) for a in args)})", _ATOM
        case name, (x, y) if name in _BINARY:
            symbol, level = _BINARY[name]
            space = "" if level == _MUL else " "
            return f"{sub(x, level)}{space}{symbol}{space}{sub(y, level + 1)}", level
        case name, args:
            return f"irc::{name}({', '.join(sub(a, 0) for a in args)})", _ATOM


def in_double(expr: Op) -> bool:
    """Whether scalar code computes it in double, and rounds once: a sine or a cosine. An angle is long for a far
    position, and a float of it keeps no digits of where in its turn it stands."""
    return expr.name in ("sin", "cos") and not any(_is_rounded(part) for part in walk(expr))


def _is_rounded(expr: Expr) -> bool:
    """Whether it is a value that a kernel has computed in `T`."""
    return isinstance(expr, Local) and expr.kind is Kind.FLOAT and not expr.wide


def _flat(parts: tuple[Expr, ...], leaf: Leaf, lazy: bool) -> tuple[str, int]:
    """(i, I, j, J, k, K) becomes (i*J + j)*K + k; the first size plays no part."""
    text, level = _print(parts[0], leaf, lazy)
    for index, size in zip(parts[2::2], parts[3::2], strict=True):
        scaled = text if level >= _MUL else f"({text})"
        text = f"{scaled}*{_at_least(_UNARY, size, leaf, lazy)} + {_at_least(_ADD + 1, index, leaf, lazy)}"
        level = _ADD
    return text, level
