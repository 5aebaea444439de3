"""Long functions of fewer indices than what reads them are made once, and mean what they did."""

from __future__ import annotations

import numpy as np
import pytest

import irc
from irc.codegen.expr import Op, walk
from irc.codegen.kernel import LoopKernel, TileKernel, is_expression, pieces
from irc.grammar.source import Source
from irc.graph.ir import Map
from irc.passes.differentiate import differentiate
from irc.pipeline import front
from tests.test_kernels import DTYPE, both

pytestmark = pytest.mark.optimise("-O0")

# A rotary embedding of learned frequencies; halves are exchanged by 1 - t.
ROTARY = """
attention rotary {
  size B, H, S, P
  input q[B,H,S,2,P], k[B,H,S,2,P], v[B,H,S,2,P]
  param f[P]
  project {
    angle[s,p] = s * exp(f[p])
    qr[b,h,s,t,p] = cos(angle[s,p]) * q[b,h,s,t,p] + (2 * t - 1) * sin(angle[s,p]) * q[b,h,s,1 - t,p]
    kr[b,h,s,t,p] = cos(angle[s,p]) * k[b,h,s,t,p] + (2 * t - 1) * sin(angle[s,p]) * k[b,h,s,1 - t,p]
  }
  core o[b,h,i,u,d] {
    score qr[b,h,i,t,c] * kr[b,h,j,t,c]
    allow j <= i
    softmax j
    matmul v[b,h,j,u,d]
  }
  return o
}
"""
# The same of given frequencies, where queries meet keys.
INSIDE = """
attention inside {
  size B, H, S, P
  input q[B,H,S,2,P], k[B,H,S,2,P], v[B,H,S,2,P]
  const f[P]
  core o[b,h,i,u,d] {
    let qr = cos(i * f[c]) * q[b,h,i,t,c] + (2 * t - 1) * sin(i * f[c]) * q[b,h,i,1 - t,c]
    let kr = cos(j * f[c]) * k[b,h,j,t,c] + (2 * t - 1) * sin(j * f[c]) * k[b,h,j,1 - t,c]
    score sum(t c: qr * kr)
    allow j <= i
    softmax j
    matmul v[b,h,j,u,d]
  }
  return o
}
"""
SIZES = {"B": 2, "H": 3, "S": 70, "P": 8}


def given(rng: np.random.Generator) -> dict[str, np.ndarray]:
    shape = [SIZES[n] for n in "BHS"] + [2, SIZES["P"]]
    inputs = {n: rng.standard_normal(shape).astype(np.float32) for n in "qkv"}
    return inputs | {"f": -rng.random(SIZES["P"]).astype(np.float32)}


def turns(kernel: LoopKernel | TileKernel) -> set[Op]:
    """The sines and cosines that the kernel computes."""
    made = (e for piece in pieces(kernel) if is_expression(piece) for e in walk(piece))
    return {e for e in made if isinstance(e, Op) and e.name in ("sin", "cos")}


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("text", [ROTARY, INSIDE])
def test_kernels_agree_with_the_interpreter(text: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    both(text, {n: a.astype(DTYPE[dtype]) for n, a in given(rng).items()}, dtype, rng)


@pytest.mark.parametrize("text", [ROTARY, INSIDE])
def test_sines_are_made_for_places_and_features_alone(text: str) -> None:
    for kernel in irc.compile(text, sizes={"P": 8}).kernels:
        if turns(kernel):
            assert isinstance(kernel, LoopKernel)
            assert all(len(loop.axes) == 2 for loop in kernel.loops if loop.reduce == "")


def test_a_gradient_of_both_halves_is_one_sum() -> None:
    backward = differentiate(front(Source("rotary", ROTARY)))
    assert isinstance(backward["d.q"], Map) and isinstance(backward["d.k"], Map)


def test_what_a_condition_shields_stays_inside() -> None:
    """log(x) of an x that is not positive, of which no element is wanted: its gradient is 0, not NaN."""
    text = """
    attention shielded {
      size B, S, D
      input q[B,S,D], k[B,S,D], v[B,S,D], x[S]
      project { y[b,s,d] = where(x[s] > 0, log(x[s]), 0) * q[b,s,d] }
      core o[b,i,d] {
        score y[b,i,c] * k[b,j,c]
        softmax j
        matmul v[b,j,d]
      }
      return o
    }
    """
    rng = np.random.default_rng(1)
    inputs = {n: rng.standard_normal((2, 9, 4)).astype(np.float32) for n in "qkv"}
    both(text, inputs | {"x": np.array([1, 0, -1, 2, 0.5, -3, 3, 0, 1], np.float32)}, "f32", rng)


def test_sines_that_a_condition_chooses_are_made_once() -> None:
    """Rotations as matrices, by angles of places that a table tells: no angle has a gradient."""
    text = """
    attention placed {
      size B, H, S, P
      input q[B,H,S,(2 P)], place[B,S]: int
      project {
        angle[b,s,p] over p: P = float(place[b,s]) * 10000 ^ (-float(p) / P)
        let a = angle[b,s,p]
        turn[b,s,p,t,u] over t: 2, u: 2 = where(t == u, cos(a), where(t < u, -sin(a), sin(a)))
        r[b,h,s,(t p)] = q[b,h,s,(u p)] * turn[b,s,p,t,u]
      }
      return r
    }
    """
    rng = np.random.default_rng(3)
    inputs = {"q": rng.standard_normal((2, 3, 5, 8)).astype(np.float32)}
    both(text, inputs | {"place": np.arange(10, dtype=np.int32).reshape(2, 5)}, "f32", rng)
    loops = [loop for k in irc.compile(text).kernels if isinstance(k, LoopKernel) and turns(k) for loop in k.loops]
    assert loops and all(len(loop.axes) == 3 for loop in loops)


def test_an_empty_batch_has_no_gradient_of_what_is_made_once() -> None:
    text = """
    attention empty {
      size B, S, D
      input q[B,S,D], k[B,S,D], v[B,S,D], x[S]
      project { y[b,s,d] = q[b,s,d] * log(x[s]) }
      core o[b,i,d] {
        score y[b,i,c] * k[b,j,c]
        softmax j
        matmul v[b,j,d]
      }
      return o
    }
    """
    inputs = {n: np.zeros((0, 9, 4), np.float32) for n in "qkv"}
    both(text, inputs | {"x": np.arange(9, dtype=np.float32)}, "f32", np.random.default_rng(2))
