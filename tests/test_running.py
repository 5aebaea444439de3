"""Sums of what came before, or comes after, are running ones, and their gradients are too."""

from __future__ import annotations

import numpy as np
import pytest

import irc
from irc.codegen.kernel import LoopKernel
from tests.cuda.test_emulated import assert_same_bits_under_every_schedule
from tests.test_kernels import arrays, both

pytestmark = pytest.mark.optimise("-O0")

SPEC = """
attention sums {
  size B, S, E
  input x[B,S,E], u[B,S,S], ok[B,S]: bool
  param w[E]
  project { BODY }
  return y
}
"""
RUNNING = {
    "up to": "y[b,s,e] over s: S = sum(t: where(t <= s, x[b,t,e] * w[e], 0))",
    "before": "y[b,s,e] over s: S = sum(t: where(t < s, x[b,t,e] * w[e], 0))",
    "from": "y[b,s,e] over s: S = sum(t: where(t >= s, x[b,t,e] * w[e], 0))",
    "after": "y[b,s,e] over s: S = sum(t: where(s + 1 <= t, x[b,t,e] * w[e], 0))",
    "last axis": "y[b,e,s] over s: S = sum(t: where(t <= s, x[b,t,e] * w[e], 0))",
    "one dimension": "y[b,(s e)] over s: S = sum(t: where(t <= s, x[b,t,e] * w[e], 0))",
    "gates": "y[b,s,e] over s: S = sum(t: where(t <= s, log(sigmoid(x[b,t,e] * w[e])), 0)) * x[b,s,e]",
    "times one of the token": "y[b,s] over s: S = sum(t: where(t <= s, x[b,t,1] * x[b,s,0] * w[0], 0))",
    "of some": "y[b,s,e] over s: S = sum(t: where(t <= s and ok[b,t], x[b,t,e] ^ 2 * w[e], 0))",
    "for some": "y[b,s,e] over s: S = sum(t: where(t <= s and ok[b,s], x[b,t,e] ^ 2 * w[e], 0))",
    "few features": "y[b,s,e] over s: S, e: 3 = sum(t: where(t <= s, x[b,t,e % E] * w[e % E], 0))",
    "sines": "y[b,s] over s: S = sum(t: where(t <= s, cos(0.3 * t) * x[b,t,0] * w[0], 0))",
    "of pairs": "y[b,r,s] over r: S, s: S = sum(t: where(t <= s, u[b,r,t] * w[0], 0))",
    "mean": "y[b,s,e] over s: S = sum(t: where(t <= s, x[b,t,e] * w[e], 0)) / (s + 1)",
    "count": "y[b,s] over s: S = sum(t: where(t <= s and ok[b,t], 1.0, 0)) * x[b,s,0] * w[0]",
}
OTHERS = {
    "window": "y[b,s] over s: S = sum(t: where(t <= s and t > s - 3, x[b,t,0] * w[0], 0))",
    "apart by three": "y[b,s] over s: S = sum(t: where(t + 3 <= s, x[b,t,0] * w[0], 0))",
    "of both": "y[b,s] over s: S = sum(t: where(t <= s, tanh(x[b,t,0] + x[b,s,0]) * w[0], 0))",
}


@pytest.mark.parametrize("target", ["cpu", "emulator"])
@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16"])
@pytest.mark.parametrize("name", RUNNING | OTHERS)
def test_running_sums(name: str, dtype: str, target: str) -> None:
    spec, rng = SPEC.replace("BODY", (RUNNING | OTHERS)[name]), np.random.default_rng(2)
    inputs = arrays(irc.compile(spec, target="reference"), {"B": 2, "S": 13, "E": 5}, rng, dtype)
    inputs["ok"] = rng.random((2, 13)) < 0.7
    both(spec, inputs, dtype, rng, target=target)
    runs = irc.compile(spec, dtype=dtype, target=target).built({}).compiled.runs
    kernels = [kernel for run in runs for kernel in run.kernels if isinstance(kernel, LoopKernel)]
    loops = [loop for kernel in kernels for loop in kernel.loops]
    quadratic = [loop for loop in loops if any(a.size == b.size for a in loop.axes for b in loop.over)]
    assert bool(quadratic) == (name in OTHERS)


@pytest.mark.parametrize("name", ["from", "before", "last axis"])
def test_blocks_of_a_device_have_a_row_each(name: str) -> None:
    """Of several steps, whose threads take some neighbours each, under every schedule."""
    spec = SPEC.replace("BODY", RUNNING[name]).replace(" u[B,S,S],", "")
    program = irc.compile(spec, dtype="f32", target="emulator")
    given = arrays(program, {"B": 1, "S": 1100, "E": 2}, np.random.default_rng(2), "f32")
    given["ok"] = np.ones((1, 1100), bool)
    both(spec, given, "f32", np.random.default_rng(3), target="emulator")
    given = {n: a[:, :600] if a.ndim > 1 else a for n, a in given.items()}
    assert_same_bits_under_every_schedule(program, given, {})


@pytest.mark.parametrize("target, length", [("cpu", 9), ("emulator", 9), ("emulator", 90)])
def test_what_is_not_summed_plays_no_part(target: str, length: int) -> None:
    spec = SPEC.replace("BODY", RUNNING["gates"]).replace(" u[B,S,S],", "")
    clean = np.ones((1, length, 2), np.float32)
    program = irc.compile(spec, target=target)
    others = {"ok": np.ones((1, length), bool), "w": np.ones(2, np.float32)}
    late, cotangent = clean.copy(), np.zeros_like(clean)
    late[0, 5] = cotangent[0, 3] = np.nan
    forward = program.forward(x=late, **others).outputs["y"]
    np.testing.assert_array_equal(np.isnan(forward[0, :, 0]), np.arange(length) >= 5)
    gradient = program.forward(x=clean, **others).backward(y=cotangent)["x"]
    np.testing.assert_array_equal(np.isnan(gradient[0, :, 0]), np.arange(length) <= 3)


@pytest.mark.optimise("-O3")
def test_no_bit_depends_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads share out what is summed apart, however long its terms take."""
    spec = SPEC.replace("BODY", RUNNING["sines"]).replace(" u[B,S,S],", "")
    x = np.random.default_rng(4).standard_normal((3, 4000, 2))
    given = {"x": x, "ok": np.ones((3, 4000), bool), "w": np.ones(2)}
    program = irc.compile(spec, dtype="f64")
    found = []
    for threads in ("1", "2"):
        monkeypatch.setenv("IRC_THREADS", threads)
        found.append(program.forward(**given).outputs["y"])
    np.testing.assert_array_equal(*found)
    np.testing.assert_allclose(found[0], np.cumsum(np.cos(0.3 * np.arange(4000)) * x[:, :, 0], 1), rtol=1e-9, atol=1e-9)


def test_stick_breaking_is_a_running_sum_of_pairs() -> None:
    """As the error of `weight[b,h,i,l]` says: each key takes its share of what the keys after it have left (Tan et al.
    2025)."""
    spec = """
    attention sticks {
      size B, S, D
      input q[B,S,D], k[B,S,D], v[B,S,D]
      project {
        z[b,i,j] = q[b,i,c] * k[b,j,c]
        left[b,i,j] over j: S = sum(t: where(j < t and t < i, log(sigmoid(-z[b,i,t])), 0))
      }
      core o[b,i,d] {
        score log(sigmoid(z[b,i,j]))
        bias left[b,i,j]
        map exp(score)
        allow j < i
        linear j
        matmul v[b,j,d]
      }
      return o
      ensure causal
    }
    """
    rng = np.random.default_rng(5)
    inputs = {name: rng.standard_normal((2, 21, 4)).astype(np.float32) for name in "qkv"}
    share, expected, left = 1 / (1 + np.exp(-inputs["q"] @ inputs["k"].swapaxes(1, 2))), 0, np.ones((2, 21))
    for j in reversed(range(21)):
        weight = np.where(np.arange(21) > j, left * share[..., j], 0)
        expected, left = expected + weight[..., None] * inputs["v"][:, None, j], left - weight
    both(spec, inputs, "f32", rng)
    np.testing.assert_allclose(irc.compile(spec)(**inputs), expected, rtol=1e-5, atol=1e-6)
