"""`causal` and `window` of programs put together at random, against what changing an input shows."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tests.proof.dependence import furthest, states
from tests.proof.test_flow import block, graph_of, verdict

BEFORE = {
    "as it is": "z[b,s,e] = x[b,s,e]",
    "reversed": "z[b,s,e] = x[b,S - 1 - s,e] * one[s]",
    "next": "z[b,s,e] = x[b,min(s + 1, S - 1),e] * one[s]",
    "previous": "z[b,s,e] = where(s > 0, x[b,max(s - 1, 0),e], 0) * one[s]",
    "running": "z[b,s,e] = sum(t: where(t <= s, x[b,t,e], 0)) * one[s]",
}
ALLOW = (
    "j <= i",
    "j < i + 2",
    "j >= i",
    "j < i",
    "i - 2 < j and j <= i",
    "j <= i and (i - j) % 2 == 0",
    "j // 2 <= i // 2",
    "j >= S - 1 - i",
    "j + i < S",
    "j <= i and not (j == 1 and i > 2)",
)
AFTER = {
    "as it is": "y[b,s,(h d)] = o[b,h,s,d]",
    "reversed": "y[b,s,(h d)] = o[b,h,S - 1 - s,d] * one[s]",
    "next": "y[b,s,(h d)] = o[b,h,min(s + 1, S - 1),d] * one[s]",
    "residual": "y[b,s,(h d)] = o[b,h,s,d] + x[b,s,(h d)]",
}
PROPERTIES = ("causal", "window(3)")
EVERY = list(product(BEFORE, ALLOW, AFTER, PROPERTIES))
CHOSEN = [EVERY[k] for k in np.random.default_rng(7).choice(len(EVERY), 40, replace=False)]


@pytest.mark.parametrize(("before", "allow", "after", "ensure"), CHOSEN)
def test_programs_put_together_at_random(before: str, allow: str, after: str, ensure: str) -> None:
    agrees(before, allow, after, ensure)


def agrees(before: str, allow: str, after: str, ensure: str) -> None:
    graph = graph_of(block(allow, BEFORE[before], "z", AFTER[after], ensure))
    found = verdict(graph)
    broken = False
    # a row with one key does not depend on its query, as its weight is 1: rows must be long enough to have two
    for sizes, inputs in states(graph, {"B": (1,), "S": (1, 7), "H": (1,), "D": (1,)}):
        for at, seen in furthest(graph, inputs, sizes, {"x": (1, 0)}, {"y": (1, 0)}):
            broken |= seen > at if ensure == "causal" else seen <= at - 3
    assert found == ("refuted" if broken else "proved")
