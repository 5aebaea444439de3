"""Bounds of index expressions against every point of small sizes."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from irc.codegen.expr import Const, Expr, Index, Kind, Load, Size, integer, op, substitute
from irc.elaborate.bounds import Bounds
from irc.graph.ir import Fact
from irc.graph.size import expression

NAMES: list[Expr] = [Index("i"), Index("j"), Size("A"), Size("B"), *map(integer, range(-2, 5))]
ATOMS: st.SearchStrategy[Expr] = st.sampled_from(NAMES)
DIVISORS: st.SearchStrategy[Expr] = st.sampled_from([Size("A"), Size("B"), integer(1), integer(3)])


def larger(e: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    return st.one_of(
        st.builds(op, st.sampled_from(["add", "sub", "mul", "min", "max"]), e, e),
        st.builds(op, st.just("abs"), e),
        st.builds(op, st.sampled_from(["floordiv", "mod"]), e, DIVISORS),
    )


EXPRESSIONS: st.SearchStrategy[Expr] = st.recursive(ATOMS, larger, max_leaves=6)
EXTENTS: dict[str, Expr] = {"i": Size("A"), "j": op("add", Size("A"), Size("B"))}


def value(e: Expr, **names: int) -> int:
    where: dict[Expr, Expr] = {Index(n): integer(v) for n, v in names.items()}
    where |= {Size(n): integer(v) for n, v in names.items()}
    found = substitute(e, where)
    assert isinstance(found, Const)
    return int(found.value)


@settings(deadline=None, max_examples=300)
@given(EXPRESSIONS)
def test_no_value_lies_outside_its_bounds(e: Expr) -> None:
    found = Bounds({"A": None, "B": None}).range(e, EXTENTS)
    for a, b in product((1, 2, 4), (1, 3)):
        values = [value(e, A=a, B=b, i=i, j=j) for i in range(a) for j in range(a + b)]
        assert all(value(expression(low), A=a, B=b) <= min(values) for low in found.low)
        assert all(value(expression(high), A=a, B=b) >= max(values) for high in found.high)


def test_an_exact_range_is_reached() -> None:
    found = Bounds({"A": None, "B": None}).range(op("sub", Index("i"), Index("j")), EXTENTS)
    assert found.exact
    assert [value(expression(x), A=4, B=2) for x in (*found.low, *found.high)] == [-5, 3]


def test_assumptions_bound_tables_and_divide_sizes() -> None:
    page = Load("page", (Index("b"),), Kind.INT)
    facts = (
        Fact(op("le", integer(0), page), (), ""),
        Fact(op("lt", page, Size("P")), (), ""),
        Fact(op("eq", op("mod", Size("H"), Size("G")), integer(0)), (), ""),
    )
    bounds = Bounds({"P": None, "H": None, "G": None}, facts)
    found = bounds.range(page, {})
    assert [expression(x) for x in (*found.low, *found.high)] == [integer(0), op("sub", Size("P"), integer(1))]
    head = op("floordiv", Index("h"), op("floordiv", Size("H"), Size("G")))
    group = bounds.range(head, {"h": Size("H")})
    assert expression(group.high[0]) == op("sub", Size("G"), integer(1))
