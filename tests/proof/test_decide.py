"""Every verdict agrees with what a person says, and with all small states looked at one by one."""

from __future__ import annotations

import pytest

from irc.proof.decide import decide
from irc.proof.exhaustive import breaks, counterexample
from tests.proof.predicates import MASKS


@pytest.mark.parametrize("mask", MASKS)
def test_masks_are_decided_as_brute_force_finds(mask: str) -> None:
    graph = MASKS[mask].graph()
    for name, claim, holds in MASKS[mask].claims():
        answer = decide(claim, graph)
        assert answer.status == ("proved" if holds else "refuted"), f"{name}: {answer}"
        checked, state = counterexample(claim, graph, most=8, fixed={"B": 1, "H": 1, "D": 1}, budget=1_000_000)
        if holds:
            assert state is None, name
            assert checked >= 1 and answer.queries
            continue
        assert answer.model is not None and breaks(claim, graph, answer.model)
        if state is not None:
            assert answer.model.sizes == state.sizes, name
