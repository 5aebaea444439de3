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


PARTS = """attention t {
  size B, S, R, T = R * S, D
  input q[B,S,D], x[B,LONG,D], w[B,S,LONG]
  assume R >= 1
  core own[INDICES] over j: S {
    score q[b,i,c] * OWN
    allow j ONLY i
    softmax j
    matmul q[b,j,d]
  }
  core o[b,i,d] {
    score q[b,i,c] * x[b,m,c]
    bias BIAS
    softmax m
    matmul x[b,m,d]
  }
  project { y[b,i,d] = o[b,i,d] * OTHER }
  return OUTPUTS
  ensure causal
}"""


def parts(
    own: str = "q[b,j,c]",
    only: str = "<=",
    bias: str = "0",
    other: str = "1",
    outputs: str = "own, y",
    long: str = "T",
    indices: str = "b,i,d",
) -> str:
    text = PARTS.replace("OWN", own).replace("ONLY", only).replace("BIAS", bias).replace("OTHER", other)
    return text.replace("OUTPUTS", outputs).replace("LONG", long).replace("INDICES", indices)


@pytest.mark.parametrize(
    "text",
    [
        parts(own="x[b,(r j),c]", only="==", long="(R S)", indices="b,r,i,d"),
        parts(own="x[b,max(j, 0),c]", only="=="),
        parts(other="x[b,min(i + 1, T - 1),d]"),
    ],
)
def test_what_the_own_sequence_reads_is_no_other_one(text: str) -> None:
    (verdict,) = prove(graph_of(text))
    assert verdict.status == "not decided"
    assert "nothing says where the ones sit among the others" in verdict.why


def test_another_sequence_is_named_where_nothing_else_is_to_be_shown() -> None:
    (verdict,) = prove(graph_of(parts(only="==", outputs="y")))
    assert verdict.status == "proved" and verdict.why.endswith("its own (`x` taken as another sequence)")


@pytest.mark.parametrize(("row", "expected"), [("i", "proved"), ("S - 1 - i", "refuted")])
def test_pairs_with_another_sequence_have_a_place_in_the_own_one(row: str, expected: str) -> None:
    (verdict,) = prove(graph_of(parts(bias=f"w[b,{row},m]")))
    assert verdict.status == expected
