"""The oracle itself: what counts as a state, and that looking at all small ones finds the first that breaks a claim."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from irc.codegen.expr import Index, integer, op
from irc.error import SpecError
from irc.proof.claim import Claim, Model
from irc.proof.exhaustive import breaks, counterexample, looked_at
from tests.proof.predicates import LEN, SORTED, Mask

PADDED = Mask("j < len[b]", False, False, LEN)
SIZES = {"B": 1, "H": 1, "S": 2, "D": 1}
HERE = Model(SIZES, {}, {"len": np.array([0])}, {"b": 0, "h": 0, "i": 1})


def nonempty(mask: Mask) -> Claim:
    (_, claim, _), *_ = mask.claims()
    return claim


def test_a_state_that_breaks_the_claim() -> None:
    assert breaks(nonempty(PADDED), PADDED.graph(), HERE)


@pytest.mark.parametrize(
    "model",
    [
        replace(HERE, tables={"len": np.array([1])}),
        replace(HERE, tables={"len": np.array([-1])}),
        replace(HERE, tables={"len": np.array([3])}),
        replace(HERE, indices={"b": 0, "h": 0, "i": 2}),
        replace(HERE, indices={"b": 1, "h": 0, "i": 0}),
    ],
    ids=["a key is left", "len below 0", "len above S", "no such row", "no such entry"],
)
def test_what_keeps_the_claim_or_is_no_state_breaks_nothing(model: Model) -> None:
    assert not breaks(nonempty(PADDED), PADDED.graph(), model)


def test_tables_that_decrease_are_no_state() -> None:
    mask = Mask("doc[b,j] == doc[b,i] and j != i", False, False, SORTED)
    model = Model(SIZES, {}, {"doc": np.array([[1, 0]])}, {"b": 0, "h": 0, "i": 0})
    assert not breaks(nonempty(mask), mask.graph(), model)
    assert breaks(nonempty(mask), mask.graph(), replace(model, tables={"doc": np.array([[0, 1]])}))


def test_the_first_state_is_found() -> None:
    bound, model = counterexample(nonempty(PADDED), PADDED.graph())
    assert (bound, model) == (0, Model({**SIZES, "S": 1}, {}, {"len": np.array([0])}, {"b": 0, "h": 0, "i": 0}))


def test_every_size_up_to_the_bound_is_looked_at() -> None:
    mask = Mask("j <= i and i < 6", False, True)
    bound, model = counterexample(nonempty(mask), mask.graph(), fixed={"B": 1, "H": 1})
    assert bound == 6 and model is not None and model.sizes["S"] == 7 and model.indices["i"] == 6
    short = Claim("", nonempty(mask).free, op("lt", Index("i"), integer(9)))
    assert counterexample(short, mask.graph(), fixed={"B": 1, "H": 1}) == (8, None)


def test_what_was_looked_at_is_said_in_full() -> None:
    mask = Mask("j < len[b] + w", True, None, LEN + "\n scalar w: int, t: float\n assume t > 0.0")
    assert looked_at(nonempty(mask), mask.graph(), 3) == (
        "all sizes up to 3, scalars from -3 to 4, table entries from -1 to 3, floats of 0.0, 0.5, 1.0, -1.0"
    )


def test_no_call_has_an_empty_table_where_an_entry_is_assumed() -> None:
    mask = Mask("j <= i", True, True, "input doc[B,S]: int\n assume doc[b,0] == 0")
    assert counterexample(nonempty(mask), mask.graph(), 2) == (2, None)


def test_no_call_has_a_table_of_negative_size() -> None:
    mask = Mask("j <= i", True, True, "size N\n input t[N - 3]: int\n assume t[0] == S")
    assert counterexample(nonempty(mask), mask.graph(), 2) == (2, None)
    with pytest.raises(SpecError, match=r"index 1 of `t` is N, and the axis has size N - 3"):
        Mask("j <= i", True, True, "size N\n input t[N - 3]: int\n assume t[N] == S").graph()
