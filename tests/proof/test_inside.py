"""Accesses that polynomials do not prove are proved by z3, and then no call checks them."""

from __future__ import annotations

import pytest

from irc.codegen.expr import loads
from irc.error import SpecError
from tests.proof.predicates import CACHE, SAME, Mask


@pytest.mark.parametrize(
    ("declare", "allow", "tensors"),
    [
        ("input T[S]: bool", "T[where(j <= i, i - j, 0)]", SAME),
        ("input T[S]: bool", "T[max(i, j) - min(i, j)]", SAME),
        ("input T[N]: bool\n assume S <= 16 * N", "T[j // 16]", SAME.replace("D\n", "D, N\n", 1)),
        ("input T[N]: bool\n scalar w: int\n assume w >= 1, S <= w * N", "T[j // w]", SAME.replace("D\n", "D, N\n", 1)),
        ("input T[Sk]: bool", "T[i + Sk - Sq]", CACHE),
        ("input T[S]: bool, at[B,S]: int\n assume 0 <= at[b,s] <= s", "T[at[b,i] + (S - 1 - i)]", SAME),
        ("input T[S]: bool, n[B]: int\n assume 0 <= n[b], n[b] + n[b] <= S", "T[clamp(j, n[b], S - 1)]", SAME),
    ],
)
def test_an_access_within_its_axis_is_proved(declare: str, allow: str, tensors: str) -> None:
    assert Mask(allow, True, None, declare, tensors).graph().accesses == ()


@pytest.mark.parametrize(
    ("declare", "allow"),
    [
        ("input T[S]: bool, at[B,S]: int\n assume 0 <= at[b,s]", "T[at[b,i]]"),
        ("input T[S]: bool\n scalar w: int", "T[where(j <= i, i - j, w)]"),
        ("input T[N]: bool\n assume S <= 17 * N", "T[j // 16]"),
    ],
)
def test_an_access_that_may_leave_its_axis_is_left_to_the_call(declare: str, allow: str) -> None:
    assert len(Mask(allow, True, None, declare, SAME.replace("D\n", "D, N\n", 1)).graph().accesses) == 1


U = "\n scalar u: float\n assume 0 <= u and u < 1, 0 <= floor(u * S) and floor(u * S) < S"


@pytest.mark.parametrize(
    "index",
    [
        "floor(j + 0.99999999)",
        "floor(u * S)",
        "min(floor(u * S), S - 1)",
        "floor(u + 0.9) - floor(u + 0.1)",
        "min(floor(log(float(max(i - j, 1)))), S - 1)",
        "min(floor(log(float(i - j))), S - 1)",
    ],
)
def test_floats_are_no_real_numbers_where_they_choose_an_entry(index: str) -> None:
    with pytest.raises(SpecError, match=r"comes from a float[^$]*clamp"):
        Mask(f"T[{index}]", True, None, "input T[S]: bool" + U).graph()


@pytest.mark.parametrize(
    "index",
    [
        "clamp(floor(u * S), 0, S - 1)",
        "max(min(floor(j + u), S - 1), 0)",
        "clamp(i + floor(u), i, S - 1)",
        "floor(u) % S",
        "where(u < 0.5, i, j)",
        "where(floor(j + u) < S and floor(j + u) >= 0, floor(j + u), 0)",
        "max(min(6 + floor(log(max(abs(i - j), 1) / 8.0) / log(16.0) * 8), S - 1) - 12, 0)",
        "where(abs(i - j) < S, min(8 + floor(log(max(abs(i - j), 1) / 8.0) / log(16.0) * 8), S - 1), 0)",
    ],
)
def test_what_is_around_a_float_bounds_it(index: str) -> None:
    assert Mask(f"T[{index}]", True, None, "input T[S]: bool" + U).graph().accesses == ()


@pytest.mark.parametrize(
    "index",
    [
        "floor(log(float(i + 1) * 1e-60)) + 140",
        "floor(float(min(j, 7)) * 1e-45 * 1e45)",
        "floor(float(min(j, 7)) * 1e-25 * 1e-25 * 1e25 * 1e25)",
        "floor(exp(float(-min(i, 2) - 100)) * 1e44)",
        "floor(199.9999999)",
    ],
)
def test_what_a_float_cannot_hold_bounds_nothing(index: str) -> None:
    """In double they would be at least 0, and below 200."""
    with pytest.raises(SpecError, match=r"comes from a float[^$]*clamp"):
        Mask(f"T[{index}]", True, None, "input T[200]: bool").graph()


def test_a_float_that_only_chooses_leaves_the_access_to_the_call() -> None:
    declare = "input T[S]: bool, at[B]: int\n scalar u: float"
    assert len(Mask("T[where(u < 0.5, at[b], 0)]", True, None, declare).graph().accesses) == 1


def test_a_fact_does_not_prove_its_own_access() -> None:
    declare = "input T[S]: int, at[B]: int\n assume T[at[b]] >= 0 and at[b] >= 0 and at[b] < S"
    assert len(Mask("j <= i", True, None, declare).graph().accesses) == 1


def test_an_access_out_of_range_is_shown_in_the_smallest_state() -> None:
    with pytest.raises(SpecError, match=r"with S = 2, i = 0, j = 1 it is -1, and the axis has 3 entries"):
        Mask("T[i - j]", True, None, "input T[2 * S - 1]: bool").graph()


def test_a_divisor_that_is_positive_everywhere_needs_no_check() -> None:
    graph = Mask("i % (1 + max(i, j) - min(i, j)) == 0", True, None).graph()
    assert graph.facts == ()
    with pytest.raises(SpecError, match=r"with i = 0, j = 0 it is 0"):
        Mask("i % (max(i, j) - min(i, j)) == 0", True, None).graph()


@pytest.mark.parametrize(
    ("promise", "declare"),
    [
        ("j <= i and i // i == 1", ""),
        ("j <= i and j % (i - i % 2) == 0", ""),
        ("j <= i", "input t[S]: int\n assume s == 0 or t[s] % s == 0"),
    ],
)
def test_what_is_promised_or_assumed_divides_by_positive_numbers(promise: str, declare: str) -> None:
    with pytest.raises(SpecError, match=r"the divisor `.*` is not at least 1 for every value of its indices"):
        Mask("j <= i", True, True, declare, equal=(promise, True)).graph()


def test_a_divisor_that_is_computed_is_assumed_of_what_it_is_computed_from() -> None:
    before = "input len[B]: int\n project { n[b] over b: B = len[b] + 1 }"
    (fact,) = Mask("j // n[b] <= i", True, None, before).graph().facts
    assert {load.tensor for load in loads(fact.predicate)} == {"len"}


def test_a_promise_reads_within_its_tables() -> None:
    declare = "input T[S]: bool"
    with pytest.raises(SpecError, match="index 1 of `T` goes up to S, and the axis has size S"):
        Mask("T[j]", True, None, declare, equal=("T[j + 1]", True)).graph()
