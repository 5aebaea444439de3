"""Tokens that are a part of a dimension, `x[B,(P N),D]`: chunks of one sequence, or heads; nothing says which."""

from __future__ import annotations

import pytest

from irc.error import SpecError
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


LAST = "m == 0 and p >= 1 or m == 1 and j <= i"


@pytest.mark.parametrize(
    ("chunk", "mask", "of_chunks", "of_phases"),
    [
        ("p", "j <= i", "proved", "proved"),
        ("p", "j <= i + 1", "refuted", "refuted"),
        ("(p + 1) % P", "j <= i", "not decided", "not decided"),
        ("max(p - 1 + m, 0)", LAST, "proved", "refuted"),
        ("max(p - 1 + m, 0)", LAST.replace("<= i", "<= i + 1"), "refuted", "refuted"),
        ("max(p - 1 + m, 0)", "p >= 1 - m and j <= i", "proved", "proved"),
    ],
)
@pytest.mark.parametrize("order", ["p n", "n p"])
def test_what_follows_what(chunk: str, mask: str, of_chunks: str, of_phases: str, order: str) -> None:
    (found,) = prove(graph_of(program(chunk, mask, order)))
    assert found.status == (of_chunks if order == "p n" else of_phases)
    if found.status == "not decided":
        size = "*".join(order.upper().split())
        assert found.why.startswith(
            f"tokens of `x` lie in a dimension of {size}: nothing says how its parts of P follow"
        )
    if found.status == "proved" and chunk != "p":
        assert found.why.endswith(f"({'*'.join(order.upper().split())} taken as one sequence)")


def program(chunk: str, mask: str, order: str = "p n", property: str = "causal", merged: bool = False) -> str:
    spec = SPEC if "m" in mask else SPEC.replace("m: 2, ", "").replace("(m j)", "j")
    text = spec.replace("CHUNK", chunk).replace("MASK", mask).replace("AT", f"({order})").replace("causal", property)
    if merged:
        text = text.replace("return y", f"merge {{ w[b,({order}),d] = y[b,p,n,d] }}\n  return w")
    return text.replace("DIM", f"({order.upper()})")


@pytest.mark.parametrize(
    ("chunk", "mask", "order", "property", "expected"),
    [
        ("max(p - 1 + m, 0)", LAST, "p n", "window(2 * N)", "proved"),
        ("max(p - 1 + m, 0)", LAST, "p n", "window(2 * N - 1)", "not decided"),
        ("max(p - 1 + m, 0)", LAST.replace("p >= 1", "p >= 1 and j > i"), "p n", "window(N)", "proved"),
        ("p", "j <= i and i - j < 2", "p n", "window(2)", "proved"),
        ("p", "j <= i and i - j < 2", "n p", "window(2)", "not decided"),
        ("p", "j <= i and i - j < 2", "n p", "window(2 * P)", "proved"),
    ],
)
def test_distances_along_a_sequence_of_chunks(chunk: str, mask: str, order: str, property: str, expected: str) -> None:
    for merged in (False, True):
        (found,) = prove(graph_of(program(chunk, mask, order, property, merged)))
        assert found.status == expected, merged


def test_a_dimension_that_changes_its_order_is_no_sequence() -> None:
    text = program("p", "j <= i", merged=True).replace("w[b,(p n),d]", "w[b,(n p),d]")
    (found,) = prove(graph_of(text))
    assert found.status == "not decided"


def test_a_chunk_is_no_place_among_the_tokens_of_all_chunks() -> None:
    graph = graph_of(program("m", "m <= p", property="window(2 * P)").replace("m: 2", "m: P"))
    with pytest.raises(SpecError, match=r"queries of core `y` run over P and keys over P\*N"):
        prove(graph)


TWICE = """attention t {
  size B, P, N, D
  input x[B,(P N),D], w[P]
  core o[b,p,i,d] {
    score x[b,(p i),c] * x[b,(p j),c]
    allow j <= i
    softmax j
    matmul x[b,(p j),d]
  }
  merge { y[b,p,WHERE,d] = VALUE }
  return y
  ensure causal
}"""


@pytest.mark.parametrize(
    ("where", "value", "expected"),
    [
        ("(q i)", "o[b,q,i,d] * w[p]", "proved"),
        ("(q i)", "o[b,p,i,d] * w[q]", "not decided"),
        ("q,i", "o[b,p,i,d] * w[q]", "proved"),
        ("q,i", "o[b,p,i,d] + o[b,q,i,d]", "not decided"),
    ],
)
def test_an_outputs_part_is_one_of_its_axes(where: str, value: str, expected: str) -> None:
    (found,) = prove(graph_of(TWICE.replace("WHERE", where).replace("VALUE", value)))
    assert found.status == expected
