"""Biases with an entry for each pair that a program projects, as AlphaFold's: their gradient is a tensor, as they are,
however their indices are called and whichever way round a core reads them; and sums inside scores without a query."""

from __future__ import annotations

import numpy as np
import pytest

import irc
from tests.test_kernels import arrays, both

pytestmark = pytest.mark.optimise("-O0")

PAIRS = """
attention pairs {
  size B, M, N, H, D, C
  input q[B,M,N,H,D], k[B,M,N,H,D], v[B,M,N,H,D], z[B,N,N,C]
  param W[C,H]
  project { PROJECT }
  core o[b,m,i,h,d] {
    score  q[b,m,i,h,c] * k[b,m,j,h,c]
    bias   BIAS
    allow  j <= i + 3
    softmax j
    matmul v[b,m,j,h,d]
  }
  return o
}
"""
FORMS = {
    "the core's names": ("bias[b,h,i,j] = z[b,i,j,c] * W[c,h]", "bias[b,h,i,j]"),
    "heads last": ("bias[b,i,j,h] = z[b,i,j,c] * W[c,h]", "bias[b,i,j,h]"),
    "names of its own": ("bias[b,h,x,y] = z[b,x,y,c] * W[c,h]", "bias[b,h,i,j]"),
    "names exchanged": ("bias[b,h,j,i] = z[b,j,i,c] * W[c,h]", "bias[b,h,i,j]"),
    "turned": ("bias[b,h,i,j] = z[b,i,j,c] * W[c,h]", "bias[b,h,j,i]"),
    "both ways": ("bias[b,h,i,j] = z[b,i,j,c] * W[c,h]", "bias[b,h,j,i] - 2 * bias[b,h,i,j]"),
    "and its diagonal": ("bias[b,h,x,y] = z[b,x,y,c] * W[c,h]", "bias[b,h,i,i] + bias[b,h,i,j]"),
    "where it is read": (
        "twice[b,i,j,c] = 2 * z[b,i,j,c]",
        "sum(f: z[b,i,j,f] * W[f,h]) + sum(f: twice[b,j,i,f] * W[f,h])",
    ),
    "not linear": ("bias[b,h,x,y] = tanh(sum(c: z[b,x,y,c] * W[c,h]))", "exp(0.5 * bias[b,h,i,j])"),
}
TWICE = """
attention twice {
  size B, N, H, D, C
  input q[B,N,H,D], k[B,N,H,D], v[B,N,H,D], z[B,N,N,C]
  param W[C,H], V[C,C]
  project { gate[b,h,i,j] = z[b,i,j,c] * W[c,h] }
  core o[b,i,h,d] {
    score  q[b,i,h,r] * k[b,j,h,r]
    bias   sum(c e: z[b,i,j,c] * V[c,e] * W[e,h])
    softmax j
    matmul v[b,j,h,d] * gate[b,h,i,j]
  }
  return o
}
"""  # the gradient of W is made for each e, beside a score that sums over e
WITHOUT_QUERY = """
attention interest {
  size B, T, C, E, F
  input candidate[B,F], history[B,T,C], v[B,T,E]
  param W[C,F], w[F]
  core o[b,e] {
    score SCORE
    softmax t
    matmul v[b,t,e]
  }
  return o
}
"""


@pytest.mark.parametrize("target", ["cpu", "emulator"])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("form", FORMS)
def test_biases_that_a_program_projects(form: str, dtype: str, target: str) -> None:
    project, bias = FORMS[form]
    spec = PAIRS.replace("PROJECT", project).replace("BIAS", bias)
    sizes = {"B": 2, "M": 1 if form == "the core's names" else 3, "N": 21, "H": 2, "D": 8, "C": 6}
    rng = np.random.default_rng(3)
    both(spec, arrays(irc.compile(spec, target="reference"), sizes, rng, dtype), dtype, rng, target=target)


@pytest.mark.parametrize("target", ["cpu", "emulator"])
@pytest.mark.parametrize("bias", ["bias[b,h,i,j]", "tanh(other[b,h,i,j])", "sum(f: z[b,i,j,f] * W[f,h])"])
def test_what_is_projected_where_no_pair_exists_plays_no_part(bias: str, target: str) -> None:
    project = "bias[b,h,x,y] = z[b,x,y,c] * W[c,h]  other[b,h,i,j] = exp(sum(c: z[b,i,j,c] * W[c,h]))"
    spec = PAIRS.replace("PROJECT", project.replace("  other", "\n    other")).replace("BIAS", bias)
    sizes, rng = {"B": 2, "M": 3, "N": 21, "H": 2, "D": 8, "C": 6}, np.random.default_rng(5)
    inputs = arrays(irc.compile(spec, target="reference"), sizes, rng)
    inputs["z"][:, ~np.tri(21, k=3, dtype=bool)] = np.nan
    both(spec, inputs, "f32", rng, target=target)


@pytest.mark.parametrize("target", ["cpu", "emulator"])
def test_an_index_of_a_sum_may_be_one_of_a_gradient(target: str) -> None:
    rng = np.random.default_rng(6)
    inputs = arrays(irc.compile(TWICE, target="reference"), {"B": 2, "N": 11, "H": 2, "D": 8, "C": 6}, rng, "f64")
    both(TWICE, inputs, "f64", rng, target=target)


@pytest.mark.parametrize("target", ["cpu", "emulator"])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize(
    "score",
    [
        "sum(f: w[f] * tanh(candidate[b,f] + sum(c: history[b,t,c] * W[c,f])))",
        "sum(f: candidate[b,f] * sum(c: history[b,t,c] * W[c,f]))",
        "sum(f: candidate[b,f] * max(sum(c: history[b,t,c] * W[c,f]), 0))",
    ],
)
def test_sums_inside_scores_without_a_query(score: str, dtype: str, target: str) -> None:
    spec, rng = WITHOUT_QUERY.replace("SCORE", score), np.random.default_rng(4)
    sizes = {"B": 3, "T": 29, "C": 8, "E": 5, "F": 6}
    inputs = arrays(irc.compile(spec, target="reference"), sizes, rng, dtype)
    both(spec, inputs, dtype, rng, target=target)
