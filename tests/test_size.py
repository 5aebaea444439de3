"""Size polynomials against brute force over small sizes."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from irc.codegen.expr import Expr, Size, integer, op
from irc.graph.size import constant, divide, equal, evaluate, expression, nonnegative, polynomial

ATOMS = st.one_of(st.sampled_from([Size("A"), Size("B"), Size("C")]), st.integers(-3, 4).map(integer))
EXPRESSIONS: st.SearchStrategy[Expr] = st.recursive(
    ATOMS, lambda e: st.builds(op, st.sampled_from(["add", "sub", "mul"]), e, e), max_leaves=6
)
DEFINITIONS: dict[str, Expr | None] = {"A": None, "B": None, "C": op("mul", Size("A"), integer(2))}
VALUES = [{"A": a, "B": b} for a, b in product((1, 2, 3, 7), repeat=2)]


@given(EXPRESSIONS)
def test_the_canonical_form_has_the_same_value(e: Expr) -> None:
    back = expression(polynomial(e, DEFINITIONS))
    assert all(evaluate(e, v, DEFINITIONS) == evaluate(back, v, DEFINITIONS) for v in VALUES)


@given(EXPRESSIONS, EXPRESSIONS)
def test_equal_sizes_are_equal_everywhere(a: Expr, b: Expr) -> None:
    everywhere = all(
        evaluate(a, v, DEFINITIONS) == evaluate(b, v, DEFINITIONS)
        for v in [{"A": x, "B": y} for x in range(1, 9) for y in range(1, 9)]
    )
    assert equal(a, b, DEFINITIONS) == everywhere


@given(EXPRESSIONS)
def test_what_is_called_nonnegative_is_so(e: Expr) -> None:
    if nonnegative(polynomial(e, DEFINITIONS)):
        assert all(evaluate(e, v, DEFINITIONS) >= 0 for v in VALUES)


@given(EXPRESSIONS, EXPRESSIONS)
def test_an_exact_quotient_multiplies_back(a: Expr, b: Expr) -> None:
    p, q = polynomial(a, DEFINITIONS), polynomial(b, DEFINITIONS)
    found = divide(p * q, q)
    assert found is None or found * q == p * q
    if len(q.terms) == 1:
        assert found == p


def test_quotients_of_sizes_cancel() -> None:
    whole = op("mul", Size("A"), Size("B"))
    assert equal(op("floordiv", whole, Size("B")), Size("A"), DEFINITIONS)
    assert polynomial(op("mod", whole, Size("A")), DEFINITIONS) == constant(0)
