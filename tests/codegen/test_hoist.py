"""Integers of pairs that need more than the 32 bits of a lane."""

from __future__ import annotations

import numpy as np
import pytest

from tests.test_kernels import DTYPE, both

MASKED = """
attention masked {{
  size B, S, D, N
  input q[B,S,D], k[B,S,D], v[B,S,D], T[N]
  input u[S]: int
  scalar w: int, z: int
  core o[b,i,d], lse[b,i] {{
    score q[b,i,c] * k[b,j,c]
    bias  {bias}
    allow {mask}
    softmax j
    matmul v[b,j,d]
  }}
  return o, lse
}}
"""
LARGEST, LEAST = 2**31 - 1, -(2**31)
SIDED = ["j <= i + w", "i < j + w and j <= i", "j <= i + w * w", "j - u[i] <= i", "w * j <= i or j == i"]
MIXED = [
    "w * j <= w * i + z",
    "w * j - w * i <= z",
    "abs(i - j + w) <= 3 or i == j",
    "(w * i - w * j) % 7 == 0",
    "where(w * j < w * i, w * i, z * j) <= w * i * j",
    "max(w * i, w * j) == w * i and u[j] * j >= w",
]
ENDS = ["u[j] < i + w or u[j] == i + w + 5", "i + w >= u[j] and u[j] != i + w", "u[j] >= i + w or i + w < u[j]"]
BIASES = ["T[min(max(i - j + w, 0), N - 1)]", "float(w * i - w * j) * 1e-9", "T[(w * i - z * j) % N] + T[(i + j) % N]"]


def agree(mask: str, bias: str, dtype: str, target: str = "cpu") -> None:
    rng = np.random.default_rng(5)
    text = MASKED.format(mask=mask, bias=bias)
    floats = {name: rng.standard_normal((1, 45, 8)).astype(DTYPE[dtype]) for name in "qkv"}
    floats["T"] = rng.standard_normal(9).astype(DTYPE[dtype])
    for number in (3, 46341, 20_000_000, LARGEST, LEAST):
        u = np.full(45, 5, np.int32)
        u[::3], u[1::3] = number, LARGEST if number > 0 else LEAST
        both(text, {**floats, "u": u, "w": np.int32(number), "z": np.int32(7)}, dtype, rng, target=target)


@pytest.mark.parametrize(("mask", "dtype"), [*((m, "f32") for m in SIDED), (SIDED[0], "bf16"), (SIDED[0], "f64")])
def test_a_sum_beyond_a_lane_is_held_at_its_ends(mask: str, dtype: str) -> None:
    agree(mask, "T[0]", dtype)


@pytest.mark.parametrize("mask", ENDS)
def test_a_sum_beyond_a_lane_is_not_its_end(mask: str) -> None:
    agree(mask, "T[0]", "f32")


@pytest.mark.parametrize(("mask", "dtype"), [*((m, "f32") for m in MIXED), (MIXED[0], "bf16"), (MIXED[1], "f64")])
def test_what_is_made_of_both_sides_has_64_bits(mask: str, dtype: str) -> None:
    agree(mask, "T[0]", dtype)


@pytest.mark.parametrize(("bias", "dtype"), [*((b, "f32") for b in BIASES[1:]), (BIASES[0], "bf16")])
def test_indices_and_numbers_of_both_sides_have_64_bits(bias: str, dtype: str) -> None:
    agree("j <= i", bias, dtype)


@pytest.mark.parametrize("mask", [SIDED[1], ENDS[0], *MIXED[:3]])
def test_devices(mask: str) -> None:
    agree(mask, BIASES[0], "bf16", "emulator")
