"""Sums of products of what is computed, or read elsewhere, are matrix products of tensors."""

from __future__ import annotations

import numpy as np
import pytest

import irc
from irc.runtime.plan import Product
from tests.test_kernels import arrays, both, widened

pytestmark = pytest.mark.optimise("-O0")

SPEC = """
attention products {
  size B, S, E, F
  input x[B,S,E], g[B,S,E], token[B,S]: int
  param W[E,F], bank[3,E,F], wide[E,F * 3], emb[S,E], w[E], t
  assume 0 <= token[b,s] < S
  project { y[b,s,f] over s: S, f: F = BODY }
  return y
}
"""
TAPS = "sum(k e: where(s >= k, x[b,max(s - k,0),e], 0) * bank[k,e,f])"
PRODUCTS = {
    "gated": "sigmoid(g[b,s,e]) * x[b,s,e] * W[e,f]",
    "normalised": "x[b,s,e] * rsqrt(sum(d: x[b,s,d] * x[b,s,d]) / E + 1e-5) * w[e] * W[e,f]",
    "both sides computed": "(x[b,s,e] - g[b,s,e]) * exp(0.1 * W[e,f])",
    "with numbers": "-2 * x[b,s,e] * t * W[e,f]",
    "where": "sum(e: where(s > 1, x[b,s,e] * tanh(g[b,s,e]), 0) * W[e,f])",
    "the token before": "where(s > 0, x[b,max(s - 1,0),e], 0) * W[e,f]",
    "backwards": "x[b,S - 1 - s,e] * W[e,f]",
    "rolled": "x[b,(s + 2) % S,e] * W[e,f]",
    "looked up": "emb[token[b,s],e] * W[e,f]",
    "over the batch": "sum(a e: x[a,s,e] * W[e,f]) + g[b,s,0]",
    "pooled": "sum(u e: tanh(x[b,u,e] * w[e]) * W[e,f]) / S + g[b,s,0]",
    "tokens beside tokens": "sum(e u: (x[b,s,e] + g[b,u,e]) * W[e,f])",
    "part of a row": "x[b,s,e] * wide[e,f + F]",
    "taps": TAPS,
    "rolled taps": "sum(k e: x[b,(s + k) % S,e] * bank[k,e,f])",
}
OTHERS = {
    "experts": "x[b,s,e] * bank[token[b,s] % 3,e,f]",
    "one number a token": "sum(e: x[b,s,e] * tanh(g[b,s,e])) * w[0] + 0 * f",
}


@pytest.mark.parametrize("target", ["cpu", "emulator"])
@pytest.mark.parametrize("name", PRODUCTS | OTHERS)
def test_sums_are_right_either_way(name: str, target: str) -> None:
    spec = SPEC.replace("BODY", (PRODUCTS | OTHERS)[name])
    program = irc.compile(spec, target=target)
    rng = np.random.default_rng(1)
    inputs = arrays(irc.compile(spec, target="reference"), {"B": 2, "S": 13, "E": 20, "F": 9}, rng, "f64")
    inputs["token"] = rng.integers(0, 13, (2, 13)).astype(np.int32)
    both(spec, inputs, "f64", rng, target=target)
    steps = program.built({}).compiled.forward.plan.steps
    assert any(isinstance(step, Product) for step in steps) == (name in PRODUCTS)


def test_what_a_condition_holds_back_is_multiplied_with_0() -> None:
    """By weights that are no numbers too; and of tokens that are none others know nothing."""
    spec = SPEC.replace("BODY", TAPS)
    inputs = arrays(irc.compile(spec, target="reference"), {"B": 2, "S": 13, "E": 20, "F": 9}, np.random.default_rng(1))
    inputs["token"] = np.zeros((2, 13), np.int32)
    inputs["x"][0, 5, 3], inputs["bank"][2, 4, 7] = np.nan, np.inf
    got = irc.compile(spec)(**inputs)
    expected = irc.compile(spec, target="reference")(**widened(inputs))
    assert np.array_equal(np.isnan(got), np.isnan(expected)) and np.isnan(got[1, :2, 7]).all()
    assert np.array_equal(np.isinf(got), np.isinf(expected))
