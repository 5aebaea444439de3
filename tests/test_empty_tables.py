"""Tables without entries and sizes of 0 as divisors: an error where something would be read or divided, and none where
no reader exists; and tables that change between a forward run and its backward run."""

from __future__ import annotations

import numpy as np
import pytest

import irc
from irc.error import InputError

pytestmark = pytest.mark.optimise("-O0")

SPEC = """
attention t {{
  size  B, S, N, D = 2
  input x[B,S,D], length[N]: int
  param T[N]
  core o[b,i,d] {{
    score x[b,i,c] * x[b,j,c]
    bias  {bias}
    allow j <= i{allow}
    softmax j
    matmul x[b,j,d]
  }}
  return o
}}
"""
BIASES = ["T[clamp(j, 0, N - 1)] * j", "T[0]", "T[N - 1]", "T[min(j, N - 1)]"]


def called(spec: str, tokens: int, entries: int, target: str) -> None:
    x, table = np.ones((1, tokens, 2)), np.full(7, np.nan)[:entries]
    o = irc.compile(spec, dtype="f64", target=target)(x=x, T=table, length=np.ones(entries, np.int32))
    assert o.shape == (1, tokens, 2)


@pytest.mark.parametrize("target", ["reference", "cpu", "emulator"])
@pytest.mark.parametrize("bias", BIASES)
def test_a_table_without_entries(bias: str, target: str) -> None:
    spec = SPEC.format(bias=bias, allow="")
    with pytest.raises(InputError, match=r"^T: axis 0, of size N, has no entries, but the program reads T\["):
        called(spec, 3, 0, target)
    called(spec, 0, 0, target)


def test_a_table_of_a_mask_without_entries() -> None:
    with pytest.raises(InputError, match="length: axis 0, of size N, has no entries"):
        called(SPEC.format(bias="0.0", allow=" and j < length[clamp(b, 0, N - 1)]"), 3, 0, "cpu")


def test_a_size_of_0_as_divisor() -> None:
    with pytest.raises(InputError, match=r"the program assumes N >= 1 \(a divisor\), but N = 0"):
        called(SPEC.format(bias="0.0", allow=" and j % N <= i"), 3, 0, "cpu")


def test_a_table_that_changes_before_the_backward_run() -> None:
    program = irc.compile("""
attention t {
  size  B, S, D = 2
  input x[B,S,D], at[S]: int
  assume 0 <= at[s] < S
  core o[b,i,d] {
    score x[b,i,c] * x[b,j,c]
    softmax j
    matmul x[b,at[j],d]
  }
  return o
}""")
    at = np.arange(4, dtype=np.int32)
    run = program.forward(x=np.ones((1, 4, 2), np.float32), at=at)
    at[1] = 10**9
    with pytest.raises(InputError, match=r"0 <= at\[s\] < S, which fails at s = 1"):
        run.backward(o=np.ones((1, 4, 2), np.float32))
    at[1] = 1
    assert run.backward(o=np.ones((1, 4, 2), np.float32))["x"].shape == (1, 4, 2)


WITHIN = ["i - j < N and i >= j", "j >= i - N + 1 and not (i < j)", "i == j + N and i < j + N", "i < N or j + i < N"]
BEYOND = ["i - j <= N and i >= j", "i - j < N and i >= j - 1", "i == j + N and i <= j + N", "i < N or j - i < N"]


@pytest.mark.parametrize(
    ("condition", "target"),
    [*((c, "reference") for c in WITHIN), *((c, t) for c in WITHIN[:1] for t in ("cpu", "emulator"))],
)
def test_conditions_that_exclude_each_other_leave_out_what_they_guard(condition: str, target: str) -> None:
    called(SPEC.format(bias=f"where({condition}, T[clamp(i - j, 0, N - 1)], 0.0)", allow=""), 3, 0, target)


@pytest.mark.parametrize("condition", BEYOND)
def test_conditions_that_hold_somewhere_do_not(condition: str) -> None:
    with pytest.raises(InputError, match="T: axis 0, of size N, has no entries"):
        called(SPEC.format(bias=f"where({condition}, T[clamp(i - j, 0, N - 1)], 0.0)", allow=""), 3, 0, "reference")


@pytest.mark.parametrize("target", ["reference", "cpu", "emulator"])
def test_what_a_condition_leaves_out_is_not_read(target: str) -> None:
    """As the first step of decoding has no keys before its own."""
    program = irc.compile(
        """
attention cached {
  size  B, P, S, D = 2
  input q[B,S,D], k[B,S,D], past[B,P,D]
  project { all[b,j,d] over j: P + S = where(j < P, past[b,min(j, P - 1),d], k[b,max(j - P, 0),d]) }
  core o[b,i,d] {
    align last
    score q[b,i,c] * all[b,j,c]
    allow j <= pos(i)
    softmax j
    matmul all[b,j,d]
  }
  return o
}""",
        dtype="f64",
        target=target,
    )
    q, k = np.random.default_rng(1).standard_normal((2, 1, 3, 2))
    run = program.forward(q=q, k=k, past=np.ones((1, 0, 2)))
    score = np.where(np.tri(3, dtype=bool), q @ k.swapaxes(1, 2), -np.inf)
    weights = np.exp(score) / np.exp(score).sum(-1, keepdims=True)
    assert np.allclose(run.outputs["o"], weights @ k, rtol=1e-14)
    assert run.backward(o=np.ones((1, 3, 2)))["past"].shape == (1, 0, 2)
