"""`batch independent`: each verdict against entries of the batch changed one by one."""

from __future__ import annotations

import numpy as np
import pytest

from irc.codegen.expr import Kind, Size
from irc.contract import check_facts
from irc.error import InputError
from irc.proof.properties import PropertyError, claims
from irc.proof.prove import prove
from tests.proof.dependence import Array, entries, outputs, states
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


BESIDE = """attention beside {{
  size H, B, S, D
  input x[H,B,S,D], m[B,S]
  param slope[{of}]
  core o[h,b,i,d] {{
    score x[h,b,i,c] * x[{at},j,c]
    bias {bias}
    softmax j
    matmul x[h,b,j,d]
  }}
  return o
  ensure batch independent
}}"""


def beside(at: str = "h,b", bias: str = "m[b,j]", of: str = "S") -> str:
    return BESIDE.format(at=at, bias=bias, of=of)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (beside(), "proved: no output entry reads another entry of an input along H or B"),
        (beside("h, B - 1 - b"), "refuted: entry 0 of output `o` along B reads entry 1 of `x`"),
        (beside("H - 1 - h, b"), "refuted: entry 0 of output `o` reads entry 1 of `x`"),
        (beside(bias="m[B - 1 - b, j]"), "refuted: entry 0 of output `o` along B reads entry 1 of `m`"),
        (
            beside(bias="slope[b]", of="B"),
            "proved: no output entry reads another entry of an input along H (B taken for heads)",
        ),
    ],
)
def test_every_dimension_that_the_cores_run_along_is_looked_at(text: str, expected: str) -> None:
    (found,) = prove(graph_of(text))
    assert str(found) == expected


def test_heads_may_mix() -> None:
    text = """attention mixed {
  size B, H, S, D
  input x[B,H,S,D]
  project { m[b,s,d] = sum(g: x[b,g,s,d]) }
  core o[b,h,i,d] { score x[b,h,i,c] * m[b,j,c]
    softmax j
    matmul x[b,h,j,d] }
  return o
  ensure batch independent
}"""
    (found,) = prove(graph_of(text))
    assert str(found) == "proved: no output entry reads another entry of an input along B (H taken for heads)"


def test_tokens_whose_keys_a_table_chooses_are_no_batch() -> None:
    text = """attention chosen {
  size B, S, K, D
  input q[B,S,D], k[B,S,D], top[B,S,K]: int
  assume 0 <= top[b,s,n] < S
  core o[b,i,d] { score q[b,i,c] * k[b,top[b,i,n],c]
    softmax n
    matmul k[b,top[b,i,n],d] }
  return o
  ensure batch independent
}"""
    (found,) = prove(graph_of(text))
    assert str(found) == "proved: no output entry reads another entry of an input along B"
