"""Sums of what lies between a query and a key are differences of running sums, as exact as sums in order."""

from __future__ import annotations

import numpy as np
import pytest

import irc
from irc.codegen.kernel import InnerSum, TileKernel
from tests.test_kernels import both

pytestmark = pytest.mark.optimise("-O0")

GATED = """
attention gated {
  size B, S, T, D
  input q[B,S,D], k[B,S,D], v[B,S,D], f[B,T]
  core o[b,i,d], lse[b,i] {
    score q[b,i,c] * k[b,j,c]
    bias sum(t: where(BETWEEN, TERM, 0.0))
    allow ALLOWED
    softmax j
    matmul v[b,j,d]
  }
  return o, lse
}
"""
PLACES = {  # where, what, and which pairs there are
    "after a key": ("j < t and t <= i", "f[b,t]", "j <= i"),
    "of some, for some": ("i < t and t <= j and f[b,t] < 0 and j < i + 4", "f[b,t]", "j >= 0"),
    "beyond the ends": ("j - 3 <= t and t < i + 5 and t > j - 2", "f[b,t] * 0.5", "abs(i - j) < 9"),
    "either way": ("min(i, j) <= t and t < max(i, j)", "log(sigmoid(f[b,t]))", "j < i"),
}


def text(where: str, term: str, allowed: str) -> str:
    return GATED.replace("BETWEEN", where).replace("TERM", term).replace("ALLOWED", allowed)


def given(rng: np.random.Generator, kept: int = 21, dtype: type = np.float32) -> dict[str, np.ndarray]:
    shapes = {"q": (2, 21, 4), "k": (2, 21, 4), "v": (2, 21, 4), "f": (2, kept)}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


@pytest.mark.parametrize("place", PLACES)
def test_sums_between_the_places_of_a_pair(place: str) -> None:
    """Of no more gates than tokens, of fewer, and of none."""
    spec, rng = text(*PLACES[place]), np.random.default_rng(1)
    for kept in (21, 13, 0) if place in ("beyond the ends", "after a key") else (21,):
        both(spec, given(rng, kept), "f32", rng)
    for run in irc.compile(spec).built({"D": 4}).compiled.runs:
        assert not any(isinstance(s, InnerSum) for k in run.kernels if isinstance(k, TileKernel) for s in k.body)


@pytest.mark.parametrize("target", ["cpu", "emulator"])
def test_gates_of_any_size_leave_others_their_digits(target: str) -> None:
    """Where a gate is large, or none at all, sums that lack it are those of the others; its own are as large."""
    spec, rng = text(*PLACES["after a key"]), np.random.default_rng(2)
    arrays = given(rng)
    for few, many in ((-np.inf, -np.inf), (-1e9, float(np.finfo(np.float32).min)), (-3e7, -3e7)):
        arrays["f"][0, 4], arrays["f"][1, [3, 11, 12]] = few, many
        both(spec, arrays, "f32", rng, target=target)
    arrays["f"][1, [3, 7, 11, 14]] = -3e38, -1e9, -1e20, float(np.finfo(np.float32).min)  # one beside the other
    both(spec, arrays, "f32", rng, target=target)


def test_gates_of_a_cache_whose_queries_a_table_places() -> None:
    """Decoding: how far a sum reaches is told by the entry of a table, whatever the gates before and beyond."""
    spec, rng = text("j < t and t <= i + past[b]", "f[b,t]", "j <= i + past[b]"), np.random.default_rng(5)
    arrays = given(rng, 30) | {"past": np.array([0, 7], np.int32)}
    arrays["f"][0, 4], arrays["f"][1, 12] = -np.inf, -3e7
    both(spec.replace("f[B,T]", "f[B,T], past[B]: int"), arrays, "f32", rng)


def test_doubles_are_as_exact_as_in_order() -> None:
    """No sum is more exact than they, of which a difference could be."""
    rng = np.random.default_rng(4)
    arrays = given(rng, dtype=np.float64)
    arrays["f"][0, 3], arrays["f"][1, 3:5] = -5e7, (-1e300, -1e9)
    both(text(*PLACES["after a key"]), arrays, "f64", rng)


def test_what_is_no_number_stays_with_the_pairs_between_which_it_lies() -> None:
    spec, rng = text("j < t and t <= i", "f[b,t]", "j <= i and not (j < 9 and i >= 9)"), np.random.default_rng(3)
    arrays, program = given(rng), irc.compile(spec)
    cotangent = rng.standard_normal((2, 21, 4)).astype(np.float32)
    runs = []
    for gate in (-1.5, np.nan, np.inf, -np.inf):  # which no pair reads
        arrays["f"][:, 9] = gate
        run = program.forward(**arrays)
        runs.append(run.outputs | run.backward(o=cotangent))
    for other in runs[1:]:
        for name, expected in runs[0].items():
            np.testing.assert_allclose(other[name], expected, rtol=1e-5, atol=1e-5, err_msg=name)
