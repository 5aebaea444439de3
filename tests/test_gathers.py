"""Gradients of what is read at other places are sums over what reaches each element, where indices tell that."""

from __future__ import annotations

import numpy as np
import pytest

import irc
from irc.codegen.kernel import LoopKernel
from tests.test_kernels import Arrays, arrays, both

pytestmark = pytest.mark.optimise("-O0")

SPEC = """
attention moved {
  size B, S, E, K, L, M, G
  assume L <= S
  input x[B,S,E], u[B,S], z[B,L], wide[B,(L E)], heads[B,G]
  param w[E,K], bank[K,E,E], long[E,S]
  merge { BODY }
  return y
}
"""
TURNED = {
    "rolled": "y[b,s,e] over s: S = x[b,(s + 1) % S,e] * float(e) + x[b,s,e]",
    "rolled by a size": "y[b,s,e] over s: S = x[b,(s + S // 2) % S,e] * s",
    "from the end": "y[b,s,e] over s: S = x[b,S - 1 - s,e] * s + x[b,s,e]",
    "rolled from the end": "y[b,s,e] over s: S = x[b,(2 * S - 1 - s) % S,e] * s + x[b,s,e]",
    "taps": "y[b,s,e] over s: S = sum(m: where(s >= m, w[e,m] * x[b,max(s - m,0),e], 0))",
    "taps on both sides": "y[b,s,e] over s: S = sum(m: where((s + m >= K // 2) and (s + m - K // 2 < S), "
    "w[e,m] * x[b,clamp(s + m - K // 2,0,S - 1),e], 0))",
    "taps beside a condition": "y[b,s,e] over s: S = sum(m: w[e,m] * where(s >= m, x[b,max(s - m,0),e], 0))",
    "a long convolution": "y[b,s,e] over s: S = sum(t: where(t <= s, long[e,max(s - t,0)] * x[b,t,e], 0))",
    "neighbours": "y[b,s,e] over s: S = where(s > 0, x[b,max(s - 1,0),e], 0) - 2 * x[b,s,e] "
    "+ where(s < S - 1, x[b,min(s + 1,S - 1),e], 0)",
    "repeated": "y[b,s] over s: L * M = z[b,s // M] * s",
    "repeated and shifted": "y[b,s] over s: L * M - 1 = z[b,s // M] * s + z[b,(s + 1) // M]",
    "tiled": "y[b,s] over s: L * M = z[b,s % L] * s",
    "the last ones": "y[b,s] over s: L = x[b,S - 1 - s,0] * s",
    "some of a roll": "y[b,s] over s: L = x[b,(s + 3) % S,0] * s",
    "one place": "y[b,s] over s: S = x[b,0,0] * s",
    "along a diagonal": "y[m,e] over e: E = bank[m,e,e] * e",
    "tiled and shifted": "y[b,s] over s: L * M = u[b,s % L + S - L] * s",
    "tiled from the end": "y[b,s] over s: L * M = u[b,S - 1 - s % L] * s",
    "rolled and shifted": "y[b,s] over s: L = u[b,(s + 2) % L + S - L] * s",
    "rolled and from the end": "y[b,s] over s: L = u[b,S - 1 - (s + 2) % L] * s",
    "of groups": "y[b,h] over h: G * M = heads[b,h // M] * h",
    "two indices of a dimension": "y[b,l,e] over l: L = wide[b,(l e)] * l + wide[b,(l e)] ^ 2",
    "by a difference of two": "y[b,s,e] over s: S, e: E = x[b,(s + e) % S,e] * s",
}
OTHERS = {
    "held at an end": "y[b,s,e] over s: S = sum(m: w[e,m] * x[b,max(s - m,0),e])",
    "every other": "y[b,s] over s: L * M = z[b,s % L] * z[b,(2 * s) % L]",
    "along diagonals": "y[m,s] over s: S = bank[m,s % E,s % E]",
}


SIZES = {"B": 2, "S": 9, "E": 5, "K": 4, "L": 7, "M": 3, "G": 2}
FIXED = {"M": 3}  # no shape tells it


def drawn(spec: str, rng: np.random.Generator, dtype: str = "f32") -> Arrays:
    return arrays(irc.compile(spec, target="reference", sizes=FIXED), SIZES, rng, dtype)


@pytest.mark.parametrize("target", ["cpu", "emulator"])
@pytest.mark.parametrize("name", TURNED | OTHERS)
def test_gradients(name: str, target: str) -> None:
    spec = SPEC.replace("BODY", (TURNED | OTHERS)[name])
    rng = np.random.default_rng(3)
    inputs = drawn(spec, rng, "f64")
    both(spec, inputs, "f64", rng, target=target, sizes=FIXED)
    compiled = irc.compile(spec, target=target, sizes=FIXED).built({}).compiled
    loops = [loop for kernel in compiled.runs[1].kernels if isinstance(kernel, LoopKernel) for loop in kernel.loops]
    assert any(loop.add for loop in loops) == (name in OTHERS)


def test_a_full_convolution() -> None:
    """Of taps that are matrices, what they come to is a matrix product before it is gathered."""
    body = "y[b,s,f] over s: S = sum(m e: where(s >= m, bank[m,e,f] * x[b,max(s - m,0),e], 0))"
    spec, rng = SPEC.replace("BODY", body), np.random.default_rng(4)
    both(spec, drawn(spec, rng), "f32", rng, sizes=FIXED)


def test_what_reaches_nothing_plays_no_part() -> None:
    """The cotangent of a token reaches the tokens that it read, whatever it is; others' gradients stay finite."""
    spec = SPEC.replace("BODY", TURNED["taps"])
    inputs = drawn(spec, np.random.default_rng(5))
    cotangent = np.ones((2, 9, 5), np.float32)
    cotangent[:, 5] = np.nan
    got = irc.compile(spec, sizes=FIXED).forward(**inputs).backward(y=cotangent)["x"]
    np.testing.assert_array_equal(np.isnan(got[0, :, 0]), [n in range(2, 6) for n in range(9)])


def test_tables_are_read_at_tokens_that_there_are() -> None:
    """Of a condition on a token, and one that it is there, the second comes first."""
    spec = """attention taps {
      size B, S, M
      input x[B,S], w[M], ok[B,S]: bool
      merge { y[b,s] over s: S = sum(m: where(ok[b,s] and s >= m, w[m] * x[b,max(s - m,0)], 0)) }
      return y
    }"""
    w = np.zeros(1 << 24, np.float32)
    w[:9] = 1
    run = irc.compile(spec).forward(x=np.ones((2, 9), np.float32), w=w, ok=np.ones((2, 9), bool))
    gradient = run.backward(y=np.ones((2, 9), np.float32))["x"]
    np.testing.assert_array_equal(gradient, np.broadcast_to(np.arange(9, 0, -1), (2, 9)))


def test_a_core_that_reads_results_of_another_by_distances() -> None:
    """Their gradients are sums over the pairs that chose them, which the first core's kernels read."""
    spec = """attention chosen { size B, S, D = 4
      input x[B,S,D]
      core a[b,i,d] {
        score x[b,i,c] * x[b,j,c]
        allow j <= i
        softmax j
        matmul x[b,j,d]
      }
      core y[b,i,d] {
        score x[b,i,c] * a[b,max(j, i) - j,c]
        allow j <= i
        softmax j
        matmul x[b,j,d]
      }
      return y }"""
    rng = np.random.default_rng(6)
    both(spec, {"x": rng.normal(size=(2, 9, 4))}, "f64", rng)
