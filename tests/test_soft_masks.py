"""Large negative numbers that are meant for masks are told from others."""

from __future__ import annotations

import pytest

from irc.elaborate.build import build
from irc.grammar.source import Source
from irc.prepared import parse

SPEC = """
attention soft {
  size B, S, D
  input q[B,S,D], k[B,S,D], v[B,S,D], m[B,S]
  core o[b,i,d] {
    score q[b,i,c] * k[b,j,c]
    STAGE
    softmax j
    matmul v[b,j,d]
  }
  return o
}
"""


@pytest.mark.parametrize(
    ("stage", "warns"),
    [
        ("map where(j <= i, score, -1e9)", True),
        ("map score - 1e9 * where(j <= i, 0.0, 1.0)", True),
        ("bias (m[b,j] - 1.0) * 1e9", True),
        ("bias (1.0 - m[b,j]) * -10000.0", True),
        ("bias log(where(j <= i, 1.0, 0.0))", True),
        ("bias log(m[b,j])", False),
        ("bias -0.5 * (i - j)", False),
        ("map clamp(score, -1e5, 1e5)", False),
        ("map max(score, -1e9)", False),
        ("map score * 20000.0", False),
    ],
)
def test_what_is_meant_for_a_mask(stage: str, warns: bool) -> None:
    graph = build(parse(Source("soft", SPEC.replace("STAGE", stage)))[0])
    assert ("W001" in [d.code for d in graph.warnings]) is warns
