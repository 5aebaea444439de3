"""Masks that nobody would write: no small state breaks what is proved, and every counterexample is one."""

from __future__ import annotations

from random import Random

import pytest

from irc.proof.decide import decide
from irc.proof.exhaustive import breaks, counterexample
from tests.proof.predicates import CU, FLAT, IMAGE, OFFSETS, SAME, TOKENS, Mask, W

TABLES = "scalar w: int\n input len[B]: int, at[B,S]: int, doc[B,S]: int\n assume w >= 1"
SORTED = TABLES + ", nondecreasing doc[b,s] over s, 0 <= len[b] <= S, 0 <= at[b,s] <= s"
ROW = ("i", "j", "w", "S", "0", "1", "2", "len[b]", "at[b,i]", "at[b,j]", "doc[b,i]", "doc[b,j]")
SEGMENTS = ("segment(cu, i)", "segment(cu, j)", "cu[segment(cu, i)]", "cu[segment(cu, j)]", "segment(cu, i - j)", "N")
PIXEL = ("yi", "xi", "yj", "xj", "w", "Y", "X", "0", "1", "2", "g[yi]", "g[yj]")


def term(rng: Random, leaves: tuple[str, ...], depth: int = 2) -> str:
    if depth == 0 or rng.random() < 0.45:
        return rng.choice(leaves)
    a, b, c = (term(rng, leaves, depth - 1) for _ in range(3))
    return rng.choice(
        [
            f"({a} + {b})",
            f"({a} - {b})",
            f"(w * {a})",
            f"({a} // {rng.choice(('2', '3', 'w', '(w + 1)', f'max({b}, 1)'))})",
            f"({a} % {rng.choice(('2', '3', 'w', '(w + 1)', f'max({b}, 1)'))})",
            f"min({a}, {b})",
            f"max({a}, {b})",
            f"abs({a} - {b})",
            f"where({a} <= {b}, {a}, {c})",
        ]
    )


def predicate(rng: Random, leaves: tuple[str, ...], depth: int = 2) -> str:
    if depth == 0 or rng.random() < 0.4:
        return f"{term(rng, leaves)} {rng.choice(('<', '<=', '==', '!='))} {term(rng, leaves)}"
    a, b = (predicate(rng, leaves, depth - 1) for _ in range(2))
    return rng.choice((f"({a} and {b})", f"({a} or {b})", f"not ({a})"))


@pytest.mark.parametrize("seed", range(40))
def test_random_masks_are_decided_soundly(seed: int) -> None:
    rng = Random(seed)
    if seed % 4 == 3:
        mask = Mask(
            predicate(rng, PIXEL), True, True, "scalar w: int\n input g[Y]: int\n assume w >= 1", IMAGE, core=FLAT
        )
    elif seed % 4 == 2:
        leaves = (*ROW[:7], *SEGMENTS)
        mask = Mask(predicate(rng, leaves), True, True, rng.choice((OFFSETS, CU)) + "\n " + W, TOKENS)
    else:
        guard = rng.choice(("", "j <= i and "))
        mask = Mask(f"{guard}({predicate(rng, ROW)})", True, True, rng.choice((TABLES, SORTED)), SAME)
    graph = mask.graph()
    for name, claim, _ in mask.claims():
        answer = decide(claim, graph)
        if answer.model is not None:
            assert breaks(claim, graph, answer.model), (name, mask.allow)
        if answer.status == "proved":
            _, state = counterexample(claim, graph, most=4, fixed={"B": 1, "H": 1, "D": 1}, budget=200_000)
            assert state is None, (name, mask.allow)
