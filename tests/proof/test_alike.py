"""Programs of which sizes or alignments could be mistaken: sizes of the same number, cores that need no `align`."""

from __future__ import annotations

import pytest

from irc.error import SpecError
from irc.proof.prove import prove
from tests.proof.test_flow import graph_of

CACHE = """attention cache {
  size B, T, M = 16, D = WIDTH
  input x[B,T,D], past[B]: int, k[B,M,D], v[B,M,D]
  assume 0 <= past[b], past[b] + T <= M
  core o[b,i,d] {
    align offset past[b]
    score x[b,i,c] * k[b,j,c]
    allow j < pos(i) + MORE
    softmax j
    matmul v[b,j,d]
  }
  return o
  ensure incremental
}"""
HEADS = """attention heads {
  size B = 4, S, H = 4, D = 4
  input x[B,S,H,D]
  core a[b,s,h,d] {
    score x[b,s,h,c] * x[b,s,g,c]
    softmax g
    matmul x[b,s,g,d]
  }
  core o[b,h,i,d] {
    score a[b,i,h,c] * a[b,j,h,c]
    allow j < i + MORE
    softmax j
    matmul a[b,j,h,d]
  }
  return o
  ensure incremental
}"""
FRAMES = """attention frames {
  size B, T, F, D = 4
  input q[B,F,D], k[B,F,T,D], v[B,F,T,D]
  core o[b,f,d] {
    score q[b,f,c] * k[b,g,t,c]
    allow g < f + MORE
    softmax (g t)
    matmul v[b,g,t,d]
  }
  return o
  ensure incremental
}"""
LATENT = """attention latent {
  size B, T, M, K, D = 4
  input x[B,T,D], past[B]: int, k[B,M,D], v[B,M,D], z[B,K,D]
  assume 0 <= past[b], past[b] + T <= M
  core a[b,i,d] {
    align offset past[b]
    score x[b,i,c] * k[b,j,c]
    allow j < pos(i) + MORE
    softmax j
    matmul v[b,j,d]
  }
  core o[b,i,d] {
    score a[b,i,c] * z[b,j,c]
    softmax j
    matmul z[b,j,d]
  }
  return o
  ensure causal
}"""


@pytest.mark.parametrize(("more", "expected"), [("1", "proved"), ("2", "refuted")])
@pytest.mark.parametrize("text", [CACHE.replace("WIDTH", "16"), HEADS, LATENT], ids=["cache", "heads", "latent"])
def test_a_cache_as_long_as_heads_are_wide_and_cores_of_no_tokens(text: str, more: str, expected: str) -> None:
    (verdict,) = prove(graph_of(text.replace("MORE", more)))
    assert verdict.status == expected


def test_a_batch_of_as_many_entries_as_tokens() -> None:
    text = HEADS.replace("size B = 4, S", "size B = 4, S = 4").replace("incremental", "batch independent")
    for entry, expected in (("b", "proved"), ("B - 1 - b", "refuted")):
        mixed = text.replace("MORE", "1").replace("matmul a[b,j,h,d]", f"matmul a[{entry},j,h,d]")
        assert prove(graph_of(mixed))[0].status == expected


@pytest.mark.parametrize(("more", "offered"), [("1", "with `align first` in the core it is proved; else "), ("2", "")])
def test_the_alignment_that_is_proved_is_offered(more: str, offered: str) -> None:
    with pytest.raises(SpecError) as raised:
        prove(graph_of(FRAMES.replace("MORE", more)))
    (found,) = raised.value.diagnostics
    assert found.help is not None and found.help.startswith(f"{offered}write `align last`")
