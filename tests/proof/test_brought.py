"""Tensors that receive no gradient are data where their entries are tokens; weights are the same for every call."""

from __future__ import annotations

import numpy as np
import pytest

from irc.proof.prove import prove
from tests.proof.dependence import changed, states
from tests.proof.test_flow import graph_of

SPEC = """attention t {
  size B, S, D, N, Z
  input q[B,S,D], page[B,N]: int
  ROLE  k[DIMS], v[DIMS]
  core o[b,i,d] over j: S {
    align first
    score q[b,i,c] * KEY
    allow MASK
    softmax j
    matmul VALUE
  }
  return o
  ensure PROPERTY
}"""


def program(role: str, property: str, mask: str, key: str, value: str, dims: str = "B,S,D") -> str:
    text = SPEC.replace("ROLE", role).replace("MASK", mask).replace("KEY", key).replace("VALUE", value)
    return text.replace("DIMS", dims).replace("PROPERTY", property)


CASES = {
    "no mask": ("j >= 0", "k[b,j,c]", "v[b,j,d]", ("refuted", "proved", "refuted")),
    "causal": ("j <= i", "k[b,j,c]", "v[b,j,d]", ("proved", "proved", "proved")),
    "the next": ("j <= i", "k[b,j,c]", "v[b,min(j + 1, S - 1),d]", ("refuted", "proved", "refuted")),
    "another entry's": ("j <= i", "k[(b + 1) % B,j,c]", "v[b,j,d]", ("proved", "refuted", "proved")),
}


@pytest.mark.parametrize("role", ["input", "const", "param"])
@pytest.mark.parametrize("name", CASES)
def test_entries_that_are_tokens_of_a_batch_are_data(name: str, role: str) -> None:
    *parts, expected = CASES[name]
    graph = graph_of(program(role, "causal, batch independent, incremental", *parts))
    assert tuple(v.status for v in prove(graph)) == expected
    later = across = False
    for sizes, inputs in states(graph, {"B": (2,), "S": (3,), "D": (2,), "N": (1,), "Z": (1,)}):
        for tensor in ("k", "v"):
            for at, seen in enumerate(changed(graph, inputs, sizes, tensor, 1)["o"]):
                later |= bool(seen[:, :at].any())
            for entry, seen in enumerate(changed(graph, inputs, sizes, tensor, 0)["o"]):
                across |= bool(np.delete(seen, entry, 0).any())
    assert (later, across) == (expected[0] == "refuted", expected[1] == "refuted")


@pytest.mark.parametrize(("shift", "status"), [("j", "proved"), ("(j + 1)", "not decided")])
def test_a_pool_without_gradients(shift: str, status: str) -> None:
    key, value = "k[page[b,j // Z],j % Z,c]", f"v[page[b,{shift} // Z],{shift} % Z,d]"
    verdicts = prove(graph_of(program("const", "causal, incremental", "j <= i", key, value, "N,Z,D")))
    assert {v.status for v in verdicts} == {status}


@pytest.mark.parametrize("past", ["input", "const", "param"])
def test_a_cache_is_read_where_it_is_filled(past: str) -> None:
    text = f"""attention t {{
      size B, Sq, Sk, D
      input q[B,Sq,D], past[B]: int
      {past} k[B,Sk,D], v[B,Sk,D]
      assume 0 <= past[b], past[b] + Sq <= Sk
      core o[b,i,d] {{
        align offset past[b]
        score q[b,i,c] * k[b,j,c]
        allow j <= pos(i)
        softmax j
        matmul v[b,Sk - 1 - j,d]
      }}
      return o
      ensure causal, incremental
    }}"""
    assert [v.status for v in prove(graph_of(text))] == ["refuted", "refuted"]


@pytest.mark.parametrize(
    ("role", "bias", "said"),
    [
        ("const", "w[j] * w[i]", "proved"),
        ("const", "w[S - 1 - j]", "refuted"),
        ("param", "w[j] * w[i]", "proved"),
        ("param", "w[S - 1 - j]", "proved (`w[S - 1 - j]` taken as known)"),
        ("const", "w[max(i - j, 0)]", "proved (`w[max(i - j, 0)]` taken as known)"),
    ],
)
def test_weights_with_an_entry_a_token(role: str, bias: str, said: str) -> None:
    text = program("input", "causal", "j <= i", "k[b,j,c]", "v[b,j,d]")
    text = text.replace("  input q", f"  {role} w[S]\n  input q").replace("allow", f"bias {bias}\n    allow")
    (verdict,) = prove(graph_of(text))
    known = verdict.why.partition(" (")[1:]
    assert verdict.status + "".join(known) == said
