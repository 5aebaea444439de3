"""Arrays in without copies, out as they came, and a plain word about those that do not fit."""

from __future__ import annotations

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from irc.runtime.arrays import DTYPE, address, give, take
from irc.runtime.errors import InputError

BF16 = ml_dtypes.bfloat16


@pytest.mark.parametrize("storage", ["f32", "f64", "f16", "bf16"])
@pytest.mark.parametrize("layout", ["plain", "transposed", "reversed", "broadcast", "strided"])
def test_numpy_layouts_are_views(storage, layout):
    x = np.zeros((4, 6, 8), DTYPE[storage])
    x = {
        "plain": x,
        "transposed": x.transpose(1, 0, 2),
        "reversed": x[::-1, ::-1],
        "broadcast": np.broadcast_to(x[:1], x.shape),
        "strided": x[::2, :, :5],
    }[layout]
    taken = take("x", x, storage)
    assert np.shares_memory(taken, x)
    assert (taken.shape, taken.strides) == (x.shape, x.strides)


@pytest.mark.parametrize("at", [np.s_[:, ::2], np.s_[:, ::-1]])
def test_last_axis_that_is_not_contiguous_is_copied(at):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)[at]
    taken = take("x", x, "f32")
    assert taken.flags.c_contiguous
    assert np.array_equal(taken, x)


@pytest.mark.parametrize("at", [np.s_[:], np.s_[1:], np.s_[::-1, 2], np.s_[2, 1], np.s_[:0], np.s_[..., None]])
def test_address_is_that_of_the_first_element(at):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)[at]
    for array in (np.asarray(x), np.asarray(x).view(np.recarray), np.broadcast_to(x, (2, *np.shape(x)))):
        assert address(array) == array.__array_interface__["data"][0]


def test_read_only_arrays_are_taken():
    x = np.ones(3, np.float32)
    x.flags.writeable = False
    assert np.shares_memory(take("x", x, "f32"), x)


def test_misaligned_and_foreign_byte_order_are_copied():
    packed = np.zeros(3, [("flag", "u1"), ("x", "f4")])
    packed["x"] = [1, 2, 3]
    assert take("x", packed["x"], "f32").tolist() == [1, 2, 3]
    swapped = np.array([1.0, 2.0]).astype(">f4")
    taken = take("x", swapped, "f32")
    assert taken.tolist() == [1, 2]
    assert taken.dtype.isnative


def test_integers_become_int32_when_they_fit():
    x = np.array([[1, -2], [2**31 - 1, -(2**31)]], np.int64).T
    taken = take("page", x, "i32")
    assert taken.dtype == np.int32
    assert taken.flags.c_contiguous
    assert np.array_equal(taken, x)
    assert take("page", np.zeros((0, 3), np.int64), "i32").shape == (0, 3)


def test_bool_is_seen_as_bytes():
    x = np.array([True, False])
    taken = take("m", x, "bool")
    assert taken.dtype == np.uint8
    assert np.shares_memory(taken, x)
    assert give(taken, x, "bool").dtype == np.bool_


@pytest.mark.parametrize(
    ("value", "storage", "message"),
    [
        (np.zeros(2), "f32", 'q: expected f32, got f64: convert it, or compile with dtype="f64"'),
        (np.zeros(2, BF16), "f16", 'q: expected f16, got bf16: convert it, or compile with dtype="bf16"'),
        (np.zeros(()), "f32", "q: expected f32, got f64"),
        (np.zeros(2, np.int64), "f32", "q: expected f32, got i64"),
        (np.zeros(2, np.complex64), "f32", "q: expected f32, got complex64"),
        (np.zeros(2), "i32", "q: expected integers, got f64"),
        (np.array([1, 2**31]), "i32", "q: expected integers of 32 bits, got 2147483648"),
        (np.array([-(2**40), 1]), "i32", "q: expected integers of 32 bits, got -1099511627776"),
        (np.zeros(2, np.uint8), "bool", "q: expected bool, got u8"),
        ([1.0, 2.0], "f32", "q: expected an array, got list (`numpy.asarray` makes one of a list)"),
        (np.ma.ones(2), "f64", "q: expected a plain array, got a masked one: its mask would have no effect"),
        (None, "f32", "q: expected an array or a number, got NoneType"),
        (2.5, "i32", "q: expected an integer, got 2.5"),
        (True, "i32", "q: expected a number, got True"),
        (2**31, "i32", "q: expected an integer of 32 bits, got 2147483648"),
        (1, "bool", "q: expected a bool, got 1"),
    ],
)
def test_what_does_not_fit_is_named(value, storage, message):
    with pytest.raises(InputError) as caught:
        take("q", value, storage)
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [3, np.int64(3), 3.0, np.float32(3), BF16(3)])
@pytest.mark.parametrize("storage", ["f32", "f64", "bf16"])
def test_numbers_become_arrays_without_axes(value, storage):
    taken = take("cap", value, storage)
    assert (taken.shape, taken.dtype, float(taken)) == ((), DTYPE[storage], 3.0)


def test_objects_of_other_libraries_are_read_and_results_given_back():
    class Library:
        @staticmethod
        def from_dlpack(array):
            return Foreign(np.from_dlpack(array))

        @staticmethod
        def asarray(array):
            return Foreign(array)

    class Foreign:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

        def __array_namespace__(self):
            return Library

    x = Foreign(np.ones((2, 3), np.float32))
    taken = take("x", x, "f32")
    assert np.shares_memory(taken, x.array)
    assert np.shares_memory(give(taken, x).array, x.array)
    assert give(np.ones(2, BF16), x).array.dtype == BF16  # numpy's DLPack knows no bf16
    Foreign.__dlpack_device__ = lambda self: (2, 0)
    with pytest.raises(InputError, match="x: expected an array on the CPU"):
        take("x", x, "f32")


def test_objects_with_array_are_read():
    class Wrapped:
        def __array__(self, dtype=None, copy=None):
            return np.ones(3, np.float32)

    assert take("x", Wrapped(), "f32").tolist() == [1, 1, 1]
    assert isinstance(give(np.ones(3), Wrapped()), np.ndarray)


def test_torch_is_not_imported_for_numpy():
    script = "import sys, irc.runtime.execute; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
