"""Scores of inf in CUDA kernels, in the emulator: plain tiles, fragments, and few rows in parts."""

from __future__ import annotations

import pytest

from irc.codegen import cuda_split
from tests.infinite_scores import assert_agree, assert_finite_rows_keep_their_bits

TILES, PARTS = (70, 100), (9, 2 * cuda_split.PART + 90)  # rows and keys
CASES = [
    ("causal", "f32"), ("causal", "f64"), ("causal", "f16"), ("causal", "bf16"), ("full", "f32"), ("map", "bf16"),
    ("max", "f32"), ("sink", "f32"), ("sink", "f64"), ("sink", "bf16"),
]  # fmt: skip


@pytest.mark.parametrize("rows, keys", [TILES, PARTS])
@pytest.mark.parametrize("name, dtype", CASES)
def test_kernels_agree_with_the_interpreter(name: str, dtype: str, rows: int, keys: int) -> None:
    assert_agree(name, rows, keys, dtype, "emulator")


@pytest.mark.parametrize("name, dtype", [("causal", "bf16"), ("sink", "bf16"), ("sink", "f64")])
def test_rows_without_keys(name: str, dtype: str) -> None:
    assert_agree(name, 90, 70, dtype, "emulator")


@pytest.mark.parametrize("dtype, target", [("f32", "emulator"), ("bf16", "emulator"), ("bf16", "emulator:sm_90a")])
def test_finite_rows_keep_their_bits(dtype: str, target: str) -> None:
    assert_finite_rows_keep_their_bits(150, 210, dtype, target)
