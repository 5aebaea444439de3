"""Powers of integers: integers where the exponent is never negative, the same on every target."""

from __future__ import annotations

import numpy as np
import pytest

import irc
from irc.codegen.expr import Kind
from irc.codegen.fold import whole_power
from tests.test_build import graph_of
from tests.test_kernels import both

DILATED = """
attention dilated {
  size B, H, S, D
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]
  param t[9]
  scalar n: int
  assume n >= 0
  core o[b,h,i,d] {
    score q[b,h,i,c] * k[b,h,j,c]
    bias t[2 ^ min(abs(i - j), 3)] - 1 / 2 ^ (h + 1) * abs(i - j)
    allow (i - j) % 2 ^ h == 0 and i - j < 2 ^ (h + 2) and j <= i + 2 ^ n - 1
    softmax j
    matmul v[b,h,j,d]
  }
  return o
  ensure rows nonempty
}
"""
REMAINDERS = """
attention remainders {
  size N, M
  input x[N]: int, e[M]: int
  assume 0 <= e[m]
  project {
    y[n,m] = float(x[n] ^ e[m] % 1000003)
  }
  return y
}
"""
BASES, EXPONENTS = (-7, -2, -1, 0, 1, 2, 3, 10, 2**31 - 1), (0, 1, 2, 3, 18, 19, 39, 40, 61, 62, 63, 64, 101, 2**31 - 1)


def given(dtype: str = "f32") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made = {name: rng.standard_normal((2, 3, 37, 8)) for name in "qkv"} | {"t": rng.standard_normal(9)}
    return {name: a.astype(dtype.replace("f32", "f4").replace("f64", "f8")) for name, a in made.items()}


def test_dilations_by_head() -> None:
    e = given("f64")
    i, j = np.ogrid[:37, :37]
    score = np.einsum("bhic,bhjc->bhij", e["q"], e["k"]) + e["t"][2 ** np.minimum(abs(i - j), 3)]
    for h in range(3):
        score[:, h] -= abs(i - j) / 2 ** (h + 1)
        score[:, h][:, ~(((i - j) % 2**h == 0) & (i - j < 2 ** (h + 2)) & (j <= i + 2**2 - 1))] = -np.inf
    weight = np.exp(score - score.max(-1, keepdims=True))
    expected = np.einsum("bhij,bhjd->bhid", weight / weight.sum(-1, keepdims=True), e["v"])
    for target in ("reference", "cpu"):
        found = irc.compile(DILATED, dtype="f64", target=target)(**e, n=2)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.optimise("-O0")
@pytest.mark.parametrize("target", ["cpu", "emulator"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_kernels_with_powers(dtype: str, target: str) -> None:
    both(DILATED, given(dtype) | {"n": np.asarray(2)}, dtype, np.random.default_rng(1), target=target)


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_far_powers_are_held(target: str) -> None:
    found = irc.compile(REMAINDERS, dtype="f64", target=target)(
        x=np.asarray(BASES, np.int32), e=np.asarray(EXPONENTS, np.int32)
    )
    far = 2**62
    exact = [[min(max(x**e, -far), far) if abs(x) < 2 or e < 99 else None for e in EXPONENTS] for x in BASES]
    expected = [
        [(whole_power(x, e) if value is None else value) % 1000003 for e, value in zip(EXPONENTS, row, strict=True)]
        for x, row in zip(BASES, exact, strict=True)
    ]
    assert np.array_equal(found, expected)
    assert [whole_power(-2, e) for e in (61, 62, 63, 2**31 - 1)] == [-(2**61), far, -far, -far]


def kind(value: str, assume: str = "", declare: str = "") -> Kind:
    text = f"attention t {{\n size N = 8\n {declare}\n {assume}\n project {{ y[n] over n: N = {value} }}\n return y\n}}"
    return graph_of(text).nodes[-1].body.kind  # type: ignore[union-attr]


def test_an_exponent_that_may_be_negative_makes_a_float() -> None:
    assert kind("2 ^ n") is kind("2 ^ 40") is kind("n ^ 7") is kind("2 ^ (7 - n)") is Kind.INT
    assert kind("2 ^ -n") is kind("2.0 ^ n") is kind("2 ^ (6 - n)") is kind("10 ^ 30") is Kind.FLOAT
    assert kind("2 ^ w", declare="scalar w: int") is Kind.FLOAT
    assert kind("2 ^ w", "assume w >= 0", "scalar w: int") is Kind.INT
    assert kind("1 / 2 ^ n") is Kind.FLOAT  # as it is written


@pytest.mark.parametrize("target", ["reference", "cpu", "emulator"])
def test_gradients_at_a_base_of_0(target: str) -> None:
    """0 ^ p is 0 for p > 0, and x ^ 0 is 1: neither moves."""
    spec = "attention t {\n size N\n input x[N], p[N]\n project { y[n] = x[n] ^ p[n] }\n return y\n}"
    x, p = (np.array(v, np.float64) for v in ([0, 0, 2, 0.5], [1.5, 0, 3, -1]))
    program = irc.compile(spec, dtype="f64", target=target)
    found = program.forward(x=x, p=p).backward(y=np.ones(4))
    assert np.allclose(found["x"], [0, 0, 12, -4], rtol=1e-14)
    assert np.allclose(found["p"], [0, 0, 8 * np.log(2), 2 * np.log(0.5)], rtol=1e-14)
