"""Keys and values of each pair that heads share: matrix products of tensors, with heads for rows."""

from __future__ import annotations

import re

import numpy as np
import pytest

import irc
from irc.codegen.kernel import InnerSum, TileKernel
from irc.runtime.plan import Product
from tests.test_kernels import Arrays, arrays, both, same_bits

pytestmark = pytest.mark.optimise("-O0")

SPEC = """
attention pairs {
  size B, S, H, D
  input q[B,S,H,D], k[B,S,H,D], v[B,S,H,D], e[B,S,S,D], z[B,S,S,D], ok[B,S]: bool
  core o[b,i,h,f] {
    score SCORE
    scale 1 / sqrt(D)
    allow ok[b,i] and ok[b,j]
    MASK
    NORMALISER j
    matmul VALUES
  }
  return o
}
"""
KEYS = "q[b,i,h,c] * k[b,j,h,c]"
EDGES = "q[b,i,h,c] * (k[b,j,h,c] + e[b,i,j,c])"
CASES = [
    (score, mask, values)
    for score in (KEYS, EDGES)
    for mask in ("", "allow j <= i + 3")
    for values in ("v[b,j,h,f]", "z[b,i,j,f]", "v[b,j,h,f] + z[b,i,j,f]")
    if "[b,i,j" in score + values
]


def written(score: str, mask: str, values: str, normaliser: str = "softmax") -> str:
    spec = SPEC.replace("SCORE", score).replace("VALUES", values).replace("NORMALISER", normaliser)
    spec = spec.replace("    MASK\n", f"    {mask}\n" if mask else "")
    for name, given in (("v", " v[B,S,H,D],"), ("e", " e[B,S,S,D],"), ("z", " z[B,S,S,D],")):
        spec = spec if f"{name}[b" in score + values else spec.replace(given, "")
    return spec


def drawn(spec: str, rng: np.random.Generator) -> Arrays:
    found = arrays(irc.compile(spec, target="reference"), {"B": 2, "S": 21, "H": 3, "D": 8}, rng)
    return {**found, "ok": np.arange(42).reshape(2, 21) % 21 != 4}


@pytest.mark.parametrize("target", ["cpu", "emulator"])
@pytest.mark.parametrize("normaliser", ["softmax", "linear"])
@pytest.mark.parametrize(("score", "mask", "values"), CASES)
def test_products_of_pairs(score: str, mask: str, values: str, normaliser: str, target: str) -> None:
    spec, rng = written(score, mask, values, normaliser), np.random.default_rng(1)
    both(spec, drawn(spec, rng), "f32", rng, target=target)
    program = irc.compile(spec, target=target)
    for run in program.built({name: 8 for name in program.features}).compiled.runs:
        assert any(isinstance(step, Product) for step in run.plan.steps)
        kernels = [kernel for kernel in run.kernels if isinstance(kernel, TileKernel)]
        assert not any(isinstance(step, InnerSum) for kernel in kernels for step in kernel.body)


@pytest.mark.optimise("-O3")
@pytest.mark.parametrize("target", ["cpu", "emulator"])
@pytest.mark.parametrize(("score", "mask", "values"), CASES)
def test_pairs_that_do_not_exist_may_hold_anything(score: str, mask: str, values: str, target: str) -> None:
    spec, rng = written(score, mask, values), np.random.default_rng(2)
    clean = drawn(spec, rng)
    dirty = {name: array.copy() for name, array in clean.items()}
    for name in dirty.keys() - {"ok"}:
        dirty[name][:, 4] = np.nan
        if name in "ez":
            dirty[name][:, :, 4] = np.inf
    cotangent = rng.standard_normal((2, 21, 3, 8)).astype(np.float32)
    same_bits(irc.compile(spec, target=target), clean, dirty, cotangent, 4)


SAMPLED = """
attention sampled {
  size B, N, H, D, P, Y, X
  input v[B,Y,X,H,D], at[B,N,H,P,2], weight[B,N,H,P]
  core o[b,i,h,d] {
    let y = at[b,i,h,p,0] * Y - 0.5
    let x = at[b,i,h,p,1] * X - 0.5
    let upper = where(floor(y) >= 0 and floor(y) < Y, 1 - (y - floor(y)), 0)
    let lower = where(floor(y) >= -1 and floor(y) < Y - 1, y - floor(y), 0)
    let left = clamp(floor(x), 0, X - 1)
    score weight[b,i,h,p]
    softmax p
    matmul upper * v[b,clamp(floor(y),0,Y - 1),left,h,d] + lower * v[b,clamp(floor(y) + 1,0,Y - 1),left,h,d]
  }
  return o
}
"""


@pytest.mark.parametrize("target", ["cpu", "emulator"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_values_sampled_between_tokens(dtype: str, target: str) -> None:
    """Deformable attention (Zhu et al. 2021): how much of each token is of a sample, not of its features."""
    rng = np.random.default_rng(3)
    sizes = {"B": 2, "N": 11, "H": 2, "D": 8, "P": 5, "Y": 4, "X": 6}
    given = arrays(irc.compile(SAMPLED, target="reference"), sizes, rng, dtype)
    given["at"] = rng.random(given["at"].shape).astype(given["at"].dtype)
    both(SAMPLED, given, dtype, rng, target=target)
    if target == "cpu":
        source = irc.compile(SAMPLED, dtype=dtype, sizes={"D": 8}).source
        features = re.findall(r"\*to\+\+ = (fixed_0\*.*)", source)
        assert features and not any("at_ptr" in line or "clamp" in line for line in features)


@pytest.mark.parametrize("target", ["cpu", "emulator"])
@pytest.mark.parametrize("values", ["z[b,i,j]", "z[b,i,j] * r[b,j]"])
def test_a_query_that_has_values_of_its_own_is_the_query(values: str, target: str) -> None:
    """Heads that share values of pairs are a kernel's rows; positions are those of what is compared with keys."""
    spec = f"""attention own {{
  size  B, H, S, D
  input q[B,H,S,D], k[B,H,S,D], z[B,S,S], r[B,S]
  core o[b,h,i], lse[b,h,i] {{
    score  q[b,h,i,c] * k[b,h,j,c]
    allow  j <= pos(i)
    softmax j
    matmul {values}
  }}
  return o, lse
  ensure causal, window(S)
}}"""
    rng = np.random.default_rng(1)
    both(
        spec,
        arrays(irc.compile(spec, target="reference"), {"B": 2, "H": 3, "S": 21, "D": 8}, rng),
        "f32",
        rng,
        target=target,
    )


@pytest.mark.parametrize("target", ["cpu", "emulator"])
def test_scores_that_become_a_tensor(target: str) -> None:
    """Their logsumexp is no kernel's of tiles, and has no remainder."""
    spec = """attention index {
  size  B, S, N, C
  input q[B,S,N,C], k[B,S,C], w[B,S,N]
  const p[B,S,S]
  core o[b,i,d], lse[b,i] {
    score sum(n: w[b,i,n] * max(sum(c: q[b,i,n,c] * k[b,j,c]), 0))
    softmax j
    matmul k[b,j,d]
  }
  core e[b,i] {
    score p[b,i,j]
    linear j
    matmul k[b,j,0]
  }
  return lse, e
}"""
    rng = np.random.default_rng(1)
    both(
        spec,
        arrays(irc.compile(spec, target="reference"), {"B": 2, "S": 21, "N": 2, "C": 8}, rng),
        "f32",
        rng,
        target=target,
    )
