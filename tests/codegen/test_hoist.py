"""Masks whose integers need more than the 32 bits of a lane."""

from __future__ import annotations

import numpy as np
import pytest

from tests.test_kernels import DTYPE, both

MASKED = """
attention masked {{
  size B, S, D
  input q[B,S,D], k[B,S,D], v[B,S,D]
  input u[S]: int
  scalar w: int
  core o[b,i,d], lse[b,i] {{
    score q[b,i,c] * k[b,j,c]
    allow {mask}
    softmax j
    matmul v[b,j,d]
  }}
  return o, lse
}}
"""
LARGEST, LEAST = 2**31 - 1, -(2**31)


MASKS = ["j <= i + w", "i < j + w and j <= i", "j <= i + w * w", "j - u[i] <= i", "w * j <= i or j == i"]


@pytest.mark.parametrize(("mask", "dtype"), [*((m, "f32") for m in MASKS), (MASKS[0], "bf16"), (MASKS[0], "f64")])
def test_a_sum_beyond_a_lane_is_held_at_its_ends(mask: str, dtype: str) -> None:
    rng = np.random.default_rng(5)
    given = {name: rng.standard_normal((1, 70, 8)).astype(DTYPE[dtype]) for name in "qkv"}
    for number in (3, 46341, LARGEST, LEAST):
        scalars = {"u": np.full(70, number, np.int32), "w": np.int32(number)}
        both(MASKED.format(mask=mask), {**given, **scalars}, dtype, rng)
