"""Scores of inf on the CPU: in tiles, and in the form for few rows, of one part of the columns and of two."""

from __future__ import annotations

import pytest

from irc.codegen import stream
from tests.infinite_scores import PROGRAMS, assert_agree, assert_finite_rows_keep_their_bits

SIZES = [(150, 210), (90, 70), (11, 70), (11, 2 * stream.COLUMNS_OF_A_PART + 37)]  # rows and keys


@pytest.mark.parametrize("rows, keys", SIZES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_kernels_agree_with_the_interpreter(name: str, rows: int, keys: int) -> None:
    assert_agree(name, rows, keys, "f32", "cpu")


@pytest.mark.parametrize("rows, keys", [SIZES[0], SIZES[3]])
@pytest.mark.parametrize("dtype", ["f64", "bf16", "f16"])
@pytest.mark.parametrize("name", ["causal", "sink"])
def test_element_types(name: str, dtype: str, rows: int, keys: int) -> None:
    assert_agree(name, rows, keys, dtype, "cpu")


@pytest.mark.parametrize("rows, keys", [SIZES[0], SIZES[3]])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_finite_rows_keep_their_bits(dtype: str, rows: int, keys: int) -> None:
    assert_finite_rows_keep_their_bits(rows, keys, dtype, "cpu")
