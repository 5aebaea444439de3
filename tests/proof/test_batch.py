"""`batch independent`: each verdict against entries of the batch changed one by one."""

from __future__ import annotations

import numpy as np
import pytest

from irc.calls.contract import check_facts
from irc.codegen.expr import Kind, Size
from irc.error import InputError
from irc.proof.properties import PropertyError, Undecided, claims
from irc.proof.prove import prove
from tests.proof.dependence import Array, changed, entries, outputs, states
from tests.proof.test_flow import graph_of, verdict

CORE = """attention batch {{
  size B, S, H, D, N
  input q[B,H,S,D], k[{k},S,D], v[B,H,S,D]
  {more}
  core o[b,h,i,d] {{
    score q[b,h,i,c] * k[{at},j,c]
    allow {allow}
    softmax j
    matmul v[b,h,j,d]
  }}
  return o
  ensure batch independent
}}"""


def program(allow: str = "j <= i", k: str = "B,H", at: str = "b,h", more: str = "") -> str:
    return CORE.format(allow=allow, k=k, at=at, more=more)


LEN = "input len[B]: int\n assume 0 <= len[b] <= S"
SLOTS = "input slot[B]: int\n assume 0 <= slot[b] < N"
CASES = {
    "plain": (program(), True),
    "lengths": (program("j < len[b]", more=LEN), True),
    "length of another": (program("j < len[B - 1 - b]", more=LEN), False),
    "mirrored keys": (program(at="B - 1 - b,h"), False),
    "shared keys": (program(k="H", at="h"), True),
    "keys of a pool": (program(k="N,H", at="slot[b],h", more=SLOTS), True),
    "first entry's keys": (program(k="B,H", at="0,h"), False),
    "documents": (program("doc[b,i] == doc[b,j]", more="input doc[B,S]: int"), True),
    "documents of the neighbour": (program("doc[b,i] == doc[(b + 1) % B,j]", more="input doc[B,S]: int"), False),
}


@pytest.mark.parametrize("name", CASES)
def test_entries_of_the_batch_as_changing_inputs_shows(name: str) -> None:
    text, holds = CASES[name]
    graph = graph_of(text)
    assert verdict(graph) == ("proved" if holds else "refuted")
    rng = np.random.default_rng(2)
    broken = False
    for sizes, inputs in states(graph, {"B": (1, 2, 3), "S": (2, 3), "H": (1,), "D": (2,), "N": (2,)}):
        before = outputs(graph, inputs, sizes)["o"]
        for entry in range(sizes["B"]):
            others = dict(inputs)
            for node in graph.inputs:
                if node.shape[0] == Size("B"):
                    fresh: Array = entries(node, sizes, rng)
                    fresh = fresh if node.kind is Kind.FLOAT else fresh % (sizes["S"] + 1)
                    fresh[entry] = inputs[node.name][entry]
                    others[node.name] = fresh
            try:
                check_facts(graph, others, sizes)
            except InputError:
                continue
            broken |= not np.array_equal(before[entry], outputs(graph, others, sizes)["o"][entry])
    assert broken != holds


def test_packed_sequences_have_no_batch() -> None:
    text = """attention packed {
  size T, H, D
  input q[T,H,D], k[T,H,D], v[T,H,D]
  core o[i,h,d] { score q[i,h,c] * k[j,h,c]
    softmax j
    matmul v[j,h,d] }
  return o
  ensure batch independent
}"""
    graph = graph_of(text)
    with pytest.raises(PropertyError, match="T, is tokens"):
        claims(graph.properties[0], graph)


@pytest.mark.parametrize("first, second", ["BH", "HB"])
def test_the_evidence_says_of_which_dimension(first: str, second: str) -> None:
    """The first one of an output, whatever it is called; heads may mix."""
    (found,) = prove(
        graph_of(f"""attention mixed {{
  size {first}, {second}, S, D
  input x[{first},{second},S,D]
  project {{ m[a,s,d] = sum(n: x[a,n,s,d]) }}
  core o[a,n,i,d] {{ score x[a,n,i,c] * m[a,j,c]
    softmax j
    matmul x[a,n,j,d] }}
  return o
  ensure batch independent
}}""")
    )
    assert str(found) == f"proved: no output entry reads another entry of an input along {first}"


FOLDED = """attention folded {
  size B, H, S, D
  input q[(B H),S,D], k[KEYS,S,D]
  param w[H]
  core o[(b h),i,d] {
    score q[(b h),i,c] * k[AT,j,c] * w[h]
    softmax j
    matmul k[AT,j,d]
  }
  return o
  ensure batch independent
}"""


@pytest.mark.parametrize(
    ("keys", "at", "status"),
    [
        ("(B H)", "(b h)", "proved"),
        ("(B H)", "min(b, B * H - 1)", "refuted"),
        ("B", "b", "proved"),
        ("B", "(b + 1) % B", "not decided"),
        ("H", "(h + 1) % H", "proved"),
    ],
)
def test_a_batch_that_is_folded_with_heads(keys: str, at: str, status: str) -> None:
    graph = graph_of(FOLDED.replace("KEYS", keys).replace("AT", at))
    (found,) = prove(graph)
    assert found.status == status
    sizes = {"B": (2,), "H": (2,), "S": (2,), "D": (2,)}
    for known, inputs in states(graph, sizes):
        if keys == "(B H)":
            moved = changed(graph, inputs, known, "k", 0)["o"]
            assert any(seen[np.arange(4) != e].any() for e, seen in enumerate(moved)) == (status == "refuted")


@pytest.mark.parametrize(
    ("length", "at"), [("N", "(2 * b + 3) % N"), ("N", "2 * b"), ("(B 2)", "2 * b"), ("B + 1", "b + 1")]
)
def test_entries_within_a_dimension_made_of_the_batch(length: str, at: str) -> None:
    text = program(k=f"{length},H", at=f"{at},h").replace("B, S, H, D, N", "B, S, H, D, N = B * 2")
    graph = graph_of(text)
    with pytest.raises(Undecided, match="`k` has its entries of the batch within a longer dimension"):
        claims(graph.properties[0], graph)
