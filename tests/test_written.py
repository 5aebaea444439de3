"""Sums of what is made of each pair: written out, or added up in a tensor of pairs."""

from __future__ import annotations

import numpy as np
import pytest

import irc
from irc.graph.interpret import interpret
from irc.graph.ir import is_tile
from irc.passes.written import written_out
from irc.runtime.plan import Plan
from tests.test_kernels import arrays, both, same_bits

pytestmark = pytest.mark.optimise("-O0")

INDEXER = """
attention indexer {
  size B, S, H, C, D
  input qi[B,S,H,C], ki[B,S,C], w[B,S,H], v[B,S,D]
  core o[b,i,d], lse[b,i] {
    score sum(h: w[b,i,h] * max(sum(c: qi[b,i,h,c] * ki[b,j,c]), 0))
    allow j < i
    softmax j
    matmul v[b,j,d]
  }
  return o, lse
}
"""  # DeepSeek-V3.2's, as a score
FEW, MANY = {"H": 5, "C": 4, "D": 4}, {"H": 17, "C": 4, "D": 4}
MIXED = """
attention mixed {
  size B, H, S, D
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D], z[B,H,S,S]
  param P[H,H]
  core o[b,h,i,d] {
    score q[b,h,i,c] * k[b,h,j,c]
    bias sum(g: P[h,g] * tanh(z[b,g,i,j] * sum(c: q[b,g,i,c] * k[b,g,j,c])))
    softmax j
    matmul v[b,h,j,d]
  }
  return o
}
"""
CONVOLVED = """
attention convolved {
  size B, H, S, D, U = 2, W = 3
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]
  param K[H,U,W]
  core o[b,h,i,d] over i: S, j: S {
    let row = i - u
    let key = j - w + 1
    let there = row >= 0 and key >= 0 and key <= row
    score sum(u w: K[h,u,w] * where(there, sum(c: q[b,h,max(row, 0),c] * k[b,h,clamp(key, 0, S - 1),c]), 0.0))
    allow j <= i
    softmax j
    matmul v[b,h,j,d]
  }
  return o
}
"""  # multi-token attention's


def of_pairs(plan: Plan) -> list[str]:
    """The tensors of the plan with a size of tokens more than once."""
    return [t.name for t in plan.tensors if sum(repr(size).count("'S'") for size in t.shape) > 1]


@pytest.mark.optimise("-O3")
@pytest.mark.parametrize("target", ["cpu", "emulator"])
@pytest.mark.parametrize("sizes", [FEW, MANY])
def test_sums_over_heads_of_what_is_made_of_each_pair(sizes: dict[str, int], target: str) -> None:
    """Short ones without a tensor of pairs, and long ones; pairs that do not exist play no part in either."""
    rng = np.random.default_rng(2)
    program = irc.compile(INDEXER, sizes=sizes, target=target)
    given = arrays(program, {"B": 2, "S": 37, **sizes}, rng)
    both(INDEXER, given, "f32", rng, sizes=sizes, target=target)
    compiled = program.built({}).compiled
    assert compiled.backward is not None
    assert len(of_pairs(compiled.forward.plan)) == (0 if sizes is FEW else 1)
    assert bool(of_pairs(compiled.backward.plan)) == (sizes is MANY)
    other = {n: a.copy() for n, a in given.items()}
    other["ki"][:, -1] = other["qi"][:, 0] = np.nan  # of a key that no query sees, and a query that sees none
    same_bits(program, given, other, rng.standard_normal((2, 37, 4)).astype(np.float32), 0)


def test_sizes_that_tell_whether_a_sum_is_written_out_are_constants_of_kernels() -> None:
    assert set(irc.compile(INDEXER).features) == {"H", "C", "D"}
    assert "S" not in irc.compile(INDEXER.replace("B,S,H,C", "B,S,S,C").replace("w[B,S,H]", "w[B,S,S]")).features


def test_heads_mixed_behind_a_function() -> None:
    rng = np.random.default_rng(3)
    program = irc.compile(MIXED, target="reference")
    both(MIXED, arrays(program, {"B": 1, "H": 2, "S": 19, "D": 4}, rng), "f32", rng)


def test_convolutions_inside_of_a_score() -> None:
    rng = np.random.default_rng(4)
    program = irc.compile(CONVOLVED, target="reference")
    both(CONVOLVED, arrays(program, {"B": 1, "H": 2, "S": 19, "D": 4, "U": 2, "W": 3}, rng), "f32", rng)


def test_sums_over_sizes_that_define_each_other() -> None:
    """As many terms as a definition says; none where there are none."""
    text = INDEXER.replace("H, C, D", "G, H = 2 * G, C, D")
    for heads, tiles in ((0, 2), (1, 4)):  # the score and its weight, and a dot for each term
        graph = irc.compile(text, sizes={"G": heads, "C": 4, "D": 4}).built({}).compiled.forward_graph
        assert sum(is_tile(node) for node in graph) == tiles


@pytest.mark.parametrize("name", ["first", "before"])
def test_an_index_may_have_any_name(name: str) -> None:
    """Of partial sums too, of which a sum over two indices has some for each point of one."""
    text = INDEXER.replace("sum(h: w[b,i,h] *", "sum(h e: w[b,i,h] * t[e] *").replace(
        "\n  core", "\n  param t[2]\n  core", 1
    )
    text = text.replace("[b,i,h", f"[b,i,{name}").replace("sum(h", f"sum({name}")
    sizes, program = {"B": 1, "S": 7, "H": 9, "C": 2, "D": 2}, irc.compile(text, target="reference")
    given = {n: a.astype(float) for n, a in arrays(program, sizes, np.random.default_rng(6)).items()}
    made = written_out(program.graph, sizes)
    assert len(made.nodes) > 9
    got = interpret(made, given, sizes)[dict(made.outputs)["o"]]
    np.testing.assert_allclose(got, program.forward(**given).outputs["o"], rtol=1e-6)
