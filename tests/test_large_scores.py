"""Scores of a million and more, which no float tells from their neighbours: rows are one key's value, or the mean of
those that tie; the weights that a backward run makes again are at most 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import irc
from irc.runtime.emulated import Library
from tests.test_kernels import DTYPE

SPEC = Path(__file__).parent.parent / "examples" / "causal.attn"
SCALES = (1.0, 2.0**18, 2.0**30, 2.0**45, -(2.0**45))  # of rows in turn


def given(dtype: str, scales: tuple[float, ...]) -> dict[str, np.ndarray]:
    """Whole numbers times powers of two, of which every product and sum is exact."""
    rng = np.random.default_rng(2)
    a = {name: rng.integers(-4, 5, (1, 2, 150, 16)).astype(np.float64) for name in ("q", "k", "v")}
    a["q"] *= np.resize(scales, 150)[:, None]
    a["q"][0, 1], a["k"][0, 1] = abs(a["q"][0, 1]), -abs(a["k"][0, 1])  # scores below 0 alone
    return {name: x.astype(DTYPE[dtype]) for name, x in a.items()}


def expected(a: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The output, and the logsumexp; in float64."""
    q, k, v = (a[name].astype(np.float64) for name in ("q", "k", "v"))
    scores = np.where(np.tri(q.shape[2], dtype=bool), q @ k.swapaxes(2, 3) / 4, -np.inf)
    highest = scores.max(-1, keepdims=True)
    weights = np.exp(scores - highest)
    total = weights.sum(-1, keepdims=True)
    return weights @ v / total, (highest + np.log(total))[..., 0]


@pytest.mark.parametrize("dtype, target", [("f32", "cpu"), ("bf16", "cpu"), ("bf16", "emulator")])
def test_finite_scores_of_any_size(dtype: str, target: str) -> None:
    assert_right(irc.compile(SPEC, dtype=dtype, target=target), dtype)


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
def test_finite_scores_of_any_size_where_products_are_fused_with_sums(architecture: str) -> None:
    program = irc.compile(SPEC, dtype="bf16", target=f"emulator:{architecture}", sizes={"D": 16})
    program.measured_through({"D": 16}, Library(program.source, architecture=architecture, contract=True))
    assert_right(program, "bf16")


def assert_right(program: irc.Program, dtype: str) -> None:
    a = given(dtype, SCALES)
    run = program.forward(**a)
    error = {"f32": 1e-5, "bf16": 2e-2}[dtype]
    for name, want in zip(("o", "lse"), expected(a), strict=True):
        np.testing.assert_allclose(run.outputs[name].astype(np.float64), want, rtol=error, atol=4 * error)
    do = np.ones_like(a["q"])
    gradients = {name: x.astype(np.float64) for name, x in run.backward(o=do).items()}
    assert all(np.isfinite(x).all() for x in gradients.values())
    rows_below = np.arange(150, 0, -1)[:, None]
    assert (abs(gradients["v"]) <= rows_below + 1).all()


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_rows_keep_their_bits_beside_others_of_large_scores(dtype: str) -> None:
    program = irc.compile(SPEC, dtype=dtype)
    mixed, _ = program(**given(dtype, SCALES))
    plain, _ = program(**given(dtype, (1.0, 0.0, 0.0, 0.0, 0.0)))
    assert (mixed[:, :, ::5] == plain[:, :, ::5]).all()
