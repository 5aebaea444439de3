"""Programs of two sequences, as of a decoder that reads an encoder's tokens: each is in its own order."""

from __future__ import annotations

import pytest

from irc.proof.prove import prove
from tests.proof.dependence import furthest, states
from tests.proof.test_flow import graph_of

DECODER = """attention decoder {
  size B, S, T, D
  input x[B,S,D], e[B,T,D], len[B]: int
  project { z[b,t,d] over t: T = KEYS }
  core own[b,i,d] {
    score x[b,i,c] * x[b,j,c]
    allow MASK
    softmax j
    matmul x[b,j,d]
  }
  core o[b,i,d] {
    score own[b,i,c] * z[b,j,c]
    allow j < len[b]
    softmax j
    matmul z[b,j,d]
  }
  return OUTPUTS
  ensure causal
}"""
ENCODER = """  core enc[b,i,d] {
    score e[b,i,c] * e[b,j,c]
    softmax j
    matmul e[b,j,d]
  }
  project"""


@pytest.mark.parametrize(
    ("mask", "keys", "outputs", "expected"),
    [
        ("j <= i", "e[b,t,d]", "o", "proved"),
        ("j <= i", "enc[b,t,d]", "o", "proved"),
        ("j <= i", "enc[b,t,d]", "o, enc", "refuted"),
        ("j <= i + 1", "e[b,t,d]", "o", "refuted"),
        ("j <= i", "sum(u: x[b,u,d])", "o", "refuted"),
        ("j <= i", "x[b,min(t, S - 1),d]", "o", "refuted"),
    ],
)
def test_tokens_of_an_encoder_are_another_sequence(mask: str, keys: str, outputs: str, expected: str) -> None:
    text = DECODER.replace("MASK", mask).replace("KEYS", keys).replace("OUTPUTS", outputs)
    graph = graph_of(text.replace("  project", ENCODER, 1) if "enc" in keys else text)
    (verdict,) = prove(graph)
    assert verdict.status == expected
    if expected == "proved":
        assert verdict.why.endswith("its own (`e` taken as another sequence)")
        sizes = {"B": (1,), "S": (3,), "T": (2,), "D": (1,)}
        where = {"x": (1, 0)}, {"o": (1, 0)}
        for known, given in states(graph, sizes):
            assert all(read <= own for own, read in furthest(graph, given, known, *where))
