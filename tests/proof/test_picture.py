"""Counterexamples drawn."""

from __future__ import annotations

import numpy as np

from irc.elaborate.build import build
from irc.grammar.parser import parse
from irc.grammar.source import Source
from irc.graph.ir import Graph
from irc.proof.claim import Model
from irc.proof.picture import Picture, pairs, text

PLANE = """attention plane {
  size B, Y, X, D
  input q[B,(Y X),D], k[B,(Y X),D], v[B,(Y X),D], far[B]: int
  core o[b,(yi xi),d] {
    score q[b,(yi xi),c] * k[b,(yj xj),c]
    allow abs(yi - yj) <= far[b] and xi == xj
    softmax (yj xj)
    matmul v[b,(yj xj),d]
  }
  return o
}
"""
LONG = """attention long {
  size B, S, D
  input q[B,S,D], k[B,S,D], v[B,S,D], doc[B,S]: int
  core o[b,i,d] {
    score q[b,i,c] * k[b,j,c]
    allow j <= i and doc[b,i] == doc[b,j]
    softmax j
    matmul v[b,j,d]
  }
  return o
}
"""


def drawn(source: str, model: Model) -> Picture:
    graph: Graph = build(parse(Source("a.attn", source))[0])
    found = pairs(graph, graph.cores[0], model)
    assert found is not None
    return found


def test_product_axes_have_a_line_each() -> None:
    indices = {"b": 1, "yi": 0, "xi": 1, "yj": 1, "xj": 1}
    shown = drawn(PLANE, Model({"B": 2, "Y": 2, "X": 2, "D": 1}, {}, {"far": np.array([0, 1])}, indices))
    assert text(shown) == (
        "       yj  0 0 1 1",
        "yi xi  xj  0 1 0 1",
        " 0  0      ■ · ■ ·",
        " 0  1      · ■ · ✗",
        " 1  0      ■ · ■ ·",
        " 1  1      · ■ · ■",
        "",
        "■ allowed   · blocked   ✗ allowed, and must not be",
    )
    assert shown.given == "Y = 2, X = 2, far = [0, 1]"


def test_a_pair_that_should_be_allowed_is_marked_apart() -> None:
    model = Model({"B": 1, "S": 2, "D": 1}, {}, {"doc": np.array([[0, 1]])}, {"b": 0, "i": 1, "j": 0})
    shown = drawn(LONG, model)
    assert text(shown)[2:] == ("1     ○ ■", "", "■ allowed   · blocked   ○ blocked, and must be allowed")
    assert shown.given == "S = 2, doc[0] = [0, 1]"


def test_a_row_is_marked_at_its_end() -> None:
    model = Model({"B": 1, "S": 2, "D": 1}, {}, {"doc": np.zeros((1, 2), int)}, {"b": 0, "i": 1})
    assert text(drawn(LONG, model)) == (
        "i  j  0 1",
        "0     ■ ·",
        "1     ■ ■  ◂",
        "",
        "■ allowed   · blocked   ◂ no key is allowed",
    )


def test_large_matrices_are_cut_around_the_mark() -> None:
    model = Model({"B": 1, "S": 100, "D": 1}, {}, {"doc": np.zeros((1, 100), int)}, {"b": 0, "i": 50, "j": 7})
    lines = text(drawn(LONG, model))
    assert lines[0] == " i  j  0 1 2 … 5 6 7 8 9 … 99"
    assert lines[7] == "50     ■ ■ ■ … ■ ■ ✗ ■ ■ …  ·"
    assert max(map(len, lines)) < 80 and len(lines) < 20
    assert drawn(LONG, model).given.endswith("0, …]")


def test_without_keys_there_is_a_row_alone() -> None:
    cross = LONG.replace("k[B,S,D], v[B,S,D], doc[B,S]: int", "k[B,Sk,D], v[B,Sk,D]").replace(
        "size B, S", "size B, S, Sk"
    )
    shown = drawn(cross.replace("    allow j <= i and doc[b,i] == doc[b,j]\n", ""), Model(
        {"B": 1, "S": 1, "Sk": 0, "D": 1}, {}, {}, {"b": 0, "i": 0}
    ))  # fmt: skip
    assert text(shown)[:2] == ("i  j", "0       ◂")


def test_what_the_model_leaves_out_is_not_drawn() -> None:
    graph = build(parse(Source("a.attn", LONG))[0])
    assert pairs(graph, graph.cores[0], Model({"B": 1, "S": 2, "D": 1}, {}, {}, {"i": 0, "j": 0})) is None


def test_a_core_without_query_index_has_one_row() -> None:
    pooled = LONG.replace("o[b,i,d]", "o[b,d]").replace("q[b,i,c]", "w[c]").replace("allow j <= i and", "allow")
    pooled = pooled.replace("doc[b,i]", "doc[b,0]").replace("D\n", "D\n  param w[D]\n", 1)
    shown = drawn(pooled, Model({"B": 1, "S": 3, "D": 1}, {}, {"doc": np.array([[0, 1, 0]])}, {"b": 0}))
    assert text(shown) == ("  j  0 1 2", "     ■ · ■  ◂", "", "■ allowed   · blocked   ◂ no key is allowed")
    shown = drawn(pooled.replace("doc[b,0] == doc[b,j]", "true"), Model({"B": 1, "S": 0, "D": 1}, {}, {}, {"b": 0}))
    assert text(shown)[-1] == "■ allowed   · blocked   ◂ no key is allowed"
