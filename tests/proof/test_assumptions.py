"""Contradictory assumptions are found, and the least of them that contradict each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from irc.error import SpecError
from irc.graph.ir import Property
from irc.proof.assumptions import contradiction
from irc.proof.decide import decide
from irc.proof.prove import prove
from tests.proof.predicates import CACHE, MASKS, SAME, Mask

LEN = "input len[B]: int\n"


@pytest.mark.parametrize(
    ("declare", "core"),
    [
        ("scalar w: int\n assume w >= 1, w < 1", ["w >= 1", "w < 1"]),
        ("scalar w: int, u: int\n assume w >= 5, u > w, S >= 1, u <= 5", ["w >= 5", "u > w", "u <= 5"]),
        (LEN + "assume 0 <= len[b] <= S, len[b] > S", ["0 <= len[b] <= S", "len[b] > S"]),
        (LEN + "assume len[b] >= 3, len[0] < 2, H % 2 == 0", ["len[b] >= 3", "len[0] < 2"]),
        ("assume S <= 0", ["S <= 0"]),
        (
            "input doc[B,S]: int\n assume nondecreasing doc[b,s] over s, doc[b,S - 1] < doc[b,0]",
            ["nondecreasing doc[b,s] over s", "doc[b,S - 1] < doc[b,0]"],
        ),
        ("input a[S]: int\n assume a[s] < a[t]", ["a[s] < a[t]"]),
        ("input a[S]: int\n assume n < a[n] < S", ["n < a[n] < S"]),
        ("input a[S,H]: int\n assume n < a[n,h] < h + S", ["n < a[n,h] < h + S"]),
        ("assume S % 2 == 0, S % 4 == 1, S % 3 == 0", ["S % 2 == 0", "S % 4 == 1"]),
    ],
)
def test_the_least_contradiction_is_named(declare: str, core: list[str]) -> None:
    graph = Mask("j <= i", True, True, declare, SAME).graph()
    assert [f.text for f in contradiction(graph)] == core


def test_a_divisor_that_cannot_be_positive_contradicts() -> None:
    graph = Mask("i // w == j // w", True, True, "scalar w: int\n assume w <= 0", SAME).graph()
    assert [f.text for f in contradiction(graph)] == ["w <= 0", "w >= 1 (a divisor)"]


def test_what_a_proof_reads_contradicts_too() -> None:
    declare = "input a[S]: int\n assume S >= 4, a[n] > 5 or n != 3, a[n] < 5 or n != 3"
    mask = Mask("j <= i and a[3] > j", True, True, declare, SAME, equal=("j <= i and a[3] < j", True))
    graph = mask.graph()
    assert contradiction(graph) == ()
    (*_, (_, claim, _)) = mask.claims()
    facts = ["S >= 4", "a[n] > 5 or n != 3", "a[n] < 5 or n != 3"]
    assert [f.text for f in contradiction(graph, claim, decide(claim, graph).read)] == facts
    with pytest.raises(SpecError, match="E603"):
        prove(replace(graph, properties=(Property("causal", "causal"),)))


@pytest.mark.parametrize("mask", MASKS)
def test_what_a_proof_reads_does_not_contradict(mask: str) -> None:
    graph = MASKS[mask].graph()
    for _, claim, _ in MASKS[mask].claims():
        assert contradiction(graph, claim, decide(claim, graph).read) == ()


@pytest.mark.parametrize("mask", MASKS)
def test_sound_assumptions_do_not_contradict(mask: str) -> None:
    assert contradiction(MASKS[mask].graph()) == ()


def test_assumptions_that_need_large_sizes_do_not_contradict() -> None:
    graph = Mask("j <= pos(i)", True, True, "assume Sq >= 100000, Sk % 4096 == 0", CACHE, "align last").graph()
    assert contradiction(graph) == ()
