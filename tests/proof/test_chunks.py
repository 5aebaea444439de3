"""Tokens that are a part of a dimension, `x[B,(P N),D]`: chunks of one sequence, or heads; nothing says which."""

from __future__ import annotations

import pytest

from irc.proof.prove import prove
from tests.proof.test_flow import graph_of

SPEC = """attention t {
  size B, P, N, D
  input x[B,DIM,D]
  project { z[b,p,n,e] = x[b,AT,e] }
  core y[b,p,i,d] over m: 2, j: N {
    score z[b,p,i,c] * z[b,CHUNK,j,c]
    allow MASK
    softmax (m j)
    matmul z[b,CHUNK,j,d]
  }
  return y
  ensure causal
}"""


@pytest.mark.parametrize("order", ["p n", "n p"])
@pytest.mark.parametrize(
    ("chunk", "mask", "status"),
    [
        ("p", "j <= i", "proved"),
        ("p", "j <= i + 1", "refuted"),
        ("(p + 1) % P", "j <= i", "not decided"),
        ("max(p - 1 + m, 0)", "m == 0 and p >= 1 or m == 1 and j <= i", "not decided"),
    ],
)
def test_tokens_are_compared_within_a_chunk(chunk: str, mask: str, status: str, order: str) -> None:
    spec = SPEC if "m" in mask else SPEC.replace("m: 2, ", "").replace("(m j)", "j")
    text = spec.replace("CHUNK", chunk).replace("MASK", mask).replace("AT", f"({order})")
    (found,) = prove(graph_of(text.replace("DIM", f"({order.upper()})")))
    assert found.status == status
    if status == "not decided":
        size = "*".join(order.upper().split())
        assert found.why.startswith(
            f"tokens of `x` lie in a dimension of {size}: nothing says how its parts of P follow"
        )
