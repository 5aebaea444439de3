"""Expressions as C++ text: the shape of the tree survives, and nothing else is written."""

from __future__ import annotations

import math

import pytest

from irc.codegen.expr import Const, Expr, Index, Kind, Load, Local, Op, Size, flat, integer, number, op
from irc.codegen.printer import print_expr, print_scalar, scalar_leaf

i, j = Index("i"), Index("j")
x, y = Local("x"), Local("y")
S = Size("S")


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (op("sub", op("sub", i, j), integer(1)), "i - j - 1"),
        (op("sub", i, op("sub", j, integer(1))), "i - (j - 1)"),
        (op("add", i, op("add", j, integer(1))), "i + (j + 1)"),
        (op("sub", i, integer(-1)), "i - -1"),
        (op("mul", op("add", x, y), x), "(x + y)*x"),
        (op("div", x, op("mul", y, x)), "x/(y*x)"),
        (op("neg", op("add", x, y)), "-(x + y)"),
        (Op("neg", (Op("neg", (x,), Kind.FLOAT),), Kind.FLOAT), "-(-x)"),
        (Op("neg", (integer(-2),), Kind.INT), "-(-2)"),
        (op("not", op("lt", i, j)), "!(i < j)"),
        (op("and", op("le", j, i), op("or", op("lt", i, S), op("eq", i, j))), "j <= i && (i < size_S || i == j)"),
        (op("eq", op("lt", i, j), op("lt", j, i)), "i < j == j < i"),
        (op("floordiv", i, op("mod", j, integer(3))), "irc::floordiv(i, irc::mod(j, 3))"),
        (op("float", op("add", i, j)), "irc::to_float<T>(i + j)"),
        (op("mul", x, number(0.1)), "x*T(0.1)"),
        (op("mul", x, number(1e30)), "x*T(1e+30)"),
        (op("max", x, number(-math.inf)), "irc::max(x, -irc::inf<T>())"),
        (op("add", x, number(math.nan)), "x + irc::nan<T>()"),
        (flat(((i, S), (j, integer(4)), (Index("k"), op("add", S, integer(1))))), "(i*4 + j)*(size_S + 1) + k"),
        (flat(((op("add", i, j), S), (op("sub", i, j), S))), "(i + j)*size_S + (i - j)"),
        (op("where", op("lt", i, j), x, y), "i < j ? x : y"),
        (op("exp", op("where", op("lt", i, j), x, y)), "irc::exp(i < j ? x : y)"),
        (Const(True, Kind.BOOL), "true"),
        (op("segment", Load("cu", (integer(0),), Kind.INT), S, j), "irc::segment(cu_ptr, cu_s0, size_S, j)"),
        (
            op("segment", Load("cu", (i, integer(0)), Kind.INT), S, j),
            "irc::segment(cu_ptr + i*cu_s0, cu_s1, size_S, j)",
        ),
    ],
)
def test_text(expr: Expr, text: str) -> None:
    assert print_scalar(expr) == text


def test_where_is_a_call_unless_lazy() -> None:
    assert print_expr(op("where", op("lt", i, j), x, y), scalar_leaf) == "irc::where(i < j, x, y)"


def test_loads() -> None:
    table = Load("page", (i, op("floordiv", j, integer(16))), Kind.INT)
    load = Load("k", (table, integer(0), integer(1), op("sub", j, i)))
    page = "irc::load<int64_t>(page_ptr[i*page_s0 + irc::floordiv(j, 16)*page_s1])"
    assert print_scalar(load) == f"irc::load<T>(k_ptr[{page}*k_s0 + k_s2 + (j - i)*k_s3])"
    assert print_scalar(Load("c", ())) == "irc::load<T>(c_ptr[0])"
    assert print_scalar(Load("on", (i,), Kind.BOOL)) == "irc::load<bool>(on_ptr[i*on_s0])"


def test_a_leaf_may_answer_for_an_operation() -> None:
    score = op("mul", x, y)
    text = print_expr(op("exp", score), lambda e: "score" if e == score else scalar_leaf(e))
    assert text == "irc::exp(score)"


def test_a_leaf_without_text_is_the_compilers_mistake() -> None:
    with pytest.raises(ValueError, match="printer"):
        print_expr(i, lambda e: None)
