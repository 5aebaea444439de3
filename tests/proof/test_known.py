"""Integers that choose data are data; tables that only tell a mask are taken as known, and a proof names them."""

from __future__ import annotations

import pytest

from irc.proof.properties import PropertyError, claims
from irc.proof.prove import prove
from tests.proof.test_flow import graph_of

EMBEDDED = """attention embedded {
  size B, S, D, V
  input ids[B,S]: int, doc[B,S]: int, time[B,S]: int
  param emb[V,D], slope
  assume 0 <= ids[b,s] < V, V >= 2
  project {
    at[b,s] over s: S = ids[b,SHIFT]
    x[b,s,d] = emb[at[b,s],d]
  }
  core o[b,i,d] {
    score x[b,i,c] * x[b,j,c]
    bias  BIAS
    allow MASK
    softmax j
    matmul x[b,j,d]
  }
  return o
  ensure PROPERTY
}"""


def said(mask: str, bias: str = "0", shift: str = "s", property: str = "causal") -> tuple[str, str]:
    text = EMBEDDED.replace("MASK", mask).replace("BIAS", bias).replace("SHIFT", shift).replace("PROPERTY", property)
    (verdict,) = prove(graph_of(text))
    return verdict.status, verdict.why


@pytest.mark.parametrize(
    ("mask", "bias", "shift", "status"),
    [
        ("j <= i", "0", "s", "proved"),
        ("j <= i + 1", "0", "s", "refuted"),
        ("j <= i", "0", "min(s + 1, S - 1)", "refuted"),
        ("j < i", "0", "min(s + 1, S - 1)", "refuted"),
        ("j <= i", "0", "max(s - 1, 0)", "proved"),
        ("j <= i", "slope * float(time[b,i] - time[b,j])", "s", "proved"),
        ("j <= i", "slope * float(time[b,S - 1])", "s", "refuted"),
        ("j <= i and doc[b,i] == doc[b,j]", "0", "s", "proved"),
        ("j <= i and ids[b,j] != 0", "0", "s", "proved"),
        ("j <= i and ids[b,S - 1] != 0", "0", "s", "refuted"),
    ],
)
def test_token_numbers_are_data(mask: str, bias: str, shift: str, status: str) -> None:
    assert said(mask, bias, shift)[0] == status


@pytest.mark.parametrize("property", ["causal", "window(S)"])
def test_a_table_that_tells_a_mask_from_elsewhere_is_named(property: str) -> None:
    for mask, named in [
        ("doc[b,i] == doc[b,j]", ""),
        ("doc[b,S - 1] == doc[b,j]", " (`doc[b,S - 1]` taken as known)"),
        ("doc[b,min(j + 1, S - 1)] == 0", " (`doc[b,min(j + 1, S - 1)]` taken as known)"),
    ]:
        status, why = said(f"j <= i and {mask}", property=property)
        assert status == "proved" and why.endswith(("its own" if not named else "") + named), why


def test_a_proof_names_what_it_supposes_of_floats() -> None:
    for property in ("causal", "window(2)", "allow == (0.5 * i <= 0.5 * j and j <= i)"):
        assert said("0.5 * i <= 0.5 * j and j <= i", property=property)[1].endswith("(floats taken as real numbers)")


def test_a_property_of_no_data_says_nothing() -> None:
    text = """attention masks { size B, S, D
      input doc[B,S]: int
      param w[D]
      core o[b,i,d] { score 1.0 * w[0] * float(i - j)
        allow doc[b,i] == doc[b,j]
        softmax j
        matmul w[d] * float(j) }
      return o
      ensure causal }"""
    graph = graph_of(text)
    with pytest.raises(PropertyError, match="no output depends on an input whose entries have positions"):
        claims(graph.properties[0], graph)


@pytest.mark.parametrize(("length", "status"), [("S + 1", "not decided"), ("D + 1", "proved")])
def test_an_entry_of_a_tensor_one_token_longer_has_no_position(length: str, status: str) -> None:
    text = f"""attention longer {{
  size B, S, D
  input x[B,S,D], z[B,{length},D]
  core o[b,i,d] {{
    score x[b,i,c] * x[b,j,c]
    allow j <= i
    softmax j
    matmul x[b,j,d]
  }}
  merge {{ y[b,s,d] = o[b,s,d] + z[b,{length[0]},d] }}
  return y
  ensure causal
}}"""
    (verdict,) = prove(graph_of(text))
    assert verdict.status == status
