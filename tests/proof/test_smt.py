"""Terms mean what the interpreter says, operation by operation; a wrong encoder is noticed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import z3

from irc.codegen.expr import Expr, Index, Kind, Load, Op, Size, flat, integer, number, op
from irc.graph.interpret import Grid, evaluate
from irc.proof import smt

X, Y = Index("i"), Index("j")
N, M = Size("N"), Size("M")
NEAR = range(-4, 5)
EXPRESSIONS: list[Expr] = [
    *(op(name, X, Y) for name in ("add", "sub", "mul", "min", "max", "lt", "le", "eq", "ne")),
    *(op(name, X) for name in ("neg", "abs")),
    *(op(name, X, integer(d)) for name in ("floordiv", "mod") for d in (1, 2, 3, -1, -2, -3)),
    *(op(name, X, N) for name in ("floordiv", "mod")),
    *(op(name, op("add", op("mul", X, N), Y), N) for name in ("floordiv", "mod")),
    op("floordiv", op("sub", X, op("mul", N, op("mul", M, Y))), op("mul", M, N)),
    op("clamp", X, integer(-2), Y),
    op("where", op("lt", X, Y), op("mul", integer(2), X), op("neg", Y)),
    op("and", op("lt", X, Y), op("or", op("eq", X, integer(0)), op("not", op("le", Y, N)))),
    flat(((X, N), (Y, M), (op("abs", X), integer(3)))),
    op("floor", op("mul", op("float", X), number(0.25))),
    op("le", op("mul", op("float", X), number(0.5)), op("add", op("float", Y), number(-0.75))),
]


def check(expr: Expr, most: dict[Expr, range] | None = None) -> None:
    """Every value of i and j near 0, sizes from 1 to 3."""
    encoder = smt.Encoder(z3.Context(), most)
    term = encoder(expr)
    symbols = [encoder(s) for s in (X, Y, N, M)]
    solver = z3.SimpleSolver(ctx=encoder.context)
    solver.add(*encoder.lemmas)
    for n, m in ((1, 1), (2, 3), (3, 2)):
        grid = Grid(("i", "j"), {"N": n, "M": m}, {}, (NEAR, NEAR))
        values = np.broadcast_to(evaluate(expr, grid), grid.shape)
        for (a, b), value in zip(np.ndindex(*grid.shape), values.ravel(), strict=True):
            numbers = [z3.IntVal(x, encoder.context) for x in (NEAR[a], NEAR[b], n, m)]
            found = z3.simplify(z3.substitute(term, *zip(symbols, numbers, strict=True)))
            assert str(found) == str(value), (expr, NEAR[a], NEAR[b], n, m)
    # the lemmas exclude nothing: each of these points keeps them
    for point in ((0, 0, 1, 1), (-5, 6, 3, 2), (6, -5, 2, 3), (4, 4, 3, 3)):
        solver.push()
        solver.add(*(s == x for s, x in zip(symbols, point, strict=True)))
        assert solver.check() == z3.sat
        solver.pop()


@pytest.mark.parametrize("expr", EXPRESSIONS, ids=str)
def test_terms_mean_what_the_interpreter_says(expr: Expr) -> None:
    check(expr)


def test_cases_by_value_change_no_meaning() -> None:
    for expr in (op("mul", N, op("add", X, M)), op("floordiv", X, N), flat(((X, N), (Y, M)))):
        check(expr, {N: range(0, 4), M: range(0, 4)})


def euclidean(name: str, a: Any, divisor: int) -> Any:
    return a / divisor if name == "floordiv" else a % divisor


def truncated(name: str, a: Any, divisor: int) -> Any:
    quotient = z3.If(a >= 0, a / divisor, -((-a) / divisor))
    return quotient if name == "floordiv" else a - divisor * quotient


@pytest.mark.parametrize("wrong", [euclidean, truncated])
@pytest.mark.parametrize("name", ["floordiv", "mod"])
def test_a_division_that_does_not_floor_is_noticed(wrong: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smt, "_by_number", wrong)
    with pytest.raises(AssertionError):
        for expr in EXPRESSIONS:
            if isinstance(expr, Op) and expr.name == name:
                check(expr)


@pytest.mark.parametrize("name", ["lt", "max", "abs", "clamp", "where"])
def test_a_wrong_operation_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"lt": "le", "max": "min", "abs": "neg", "clamp": "max", "where": "where"}
    honest = smt.Encoder._operation

    def wrong(self: smt.Encoder, expr: Op) -> Any:
        if expr.name != name:
            return honest(self, expr)
        args = (expr.args[0], expr.args[2], expr.args[1]) if name == "where" else expr.args[:2]
        return honest(self, Op(other[name], args, expr.kind))

    monkeypatch.setattr(smt.Encoder, "_operation", wrong)
    with pytest.raises(AssertionError):
        for expr in EXPRESSIONS:
            if isinstance(expr, Op) and expr.name == name:
                check(expr)


def test_floats_without_a_rule_are_functions() -> None:
    """exp(t) equals exp(t), whatever it is, and nothing else is known of it."""
    encoder = smt.Encoder(z3.Context())
    t, u = Load("t", (), Kind.FLOAT), Load("u", (), Kind.FLOAT)
    solver = z3.SimpleSolver(ctx=encoder.context)
    solver.add(encoder(op("eq", t, u)))
    assert solver.check(encoder(op("ne", op("exp", t), op("exp", u)))) == z3.unsat
    assert solver.check(encoder(op("lt", op("exp", t), number(0.0)))) == z3.sat


@pytest.mark.parametrize(
    ("table", "function"),
    [
        (Load("pow", (X, Y), Kind.INT), op("pow", X, Y)),
        (Load("exp", (X,), Kind.FLOAT), op("exp", op("float", X))),
        (Load("random", (X, Y, N, M), Kind.FLOAT), op("random", X, Y, N, M)),
    ],
)
def test_a_table_is_no_function_of_the_language(table: Expr, function: Expr) -> None:
    encoder = smt.Encoder(z3.Context())
    solver = z3.SimpleSolver(ctx=encoder.context)
    solver.add(encoder(table) != encoder(function))
    assert solver.check() == z3.sat
