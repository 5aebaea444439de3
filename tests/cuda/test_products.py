"""What is done with tensors of a device between kernels, against what the host does with its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irc.codegen.expr import Axis, Size
from irc.runtime.arrays import DTYPE, Array
from irc.runtime.device import HOST
from irc.runtime.plan import Operand, Product
from tests.runtime.test_matrices import cases, plain

pytestmark = pytest.mark.usefixtures("device")
EXAMPLES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
def cuda() -> Any:
    from irc.runtime.cuda import device

    return device.find()


def moved(cuda: Any, array: Array) -> Array:
    """The array on the device, with the same strides."""
    from irc.runtime.cuda.memory import tensor

    if not array.size:
        return cuda.allocate(array.shape, "f32").view(array.dtype) if array.itemsize == 4 else np.empty_like(array)
    low, high = np.lib.array_utils.byte_bounds(array)
    span = np.ctypeslib.as_array((np.ctypeslib.ctypes.c_uint8 * (high - low)).from_address(low))
    whole = cuda.take("span", span.view(np.bool_), "bool")
    start = array.ctypes.data - low
    return tensor(whole, whole.ctypes.data + start, array.shape, array.dtype, array.strides)


@EXAMPLES
@given(cases(), st.sampled_from(["f64", "f32", "bf16", "f16"]))
def test_product_equals_einsum(cuda: Any, case: Any, storage: Any) -> None:
    step, left, right, extents = case
    left, right = left.astype(DTYPE[storage]), right.astype(DTYPE[storage])
    sizes = {n.upper(): e for n, e in extents.items()}
    a, a_names = plain(step.left, left, extents)
    b, b_names = plain(step.right, right, extents)
    wanted = "".join(axis.name for axis in step.axes)
    exact = np.einsum(f"{a_names},{b_names}->{wanted}", a.astype(np.float64), b.astype(np.float64))
    with cuda.running(()):
        made = cuda.multiplier(step, sizes, storage)(moved(cuda, left), moved(cuda, right))
        got = cuda.entries(made)
    assert got.dtype == DTYPE[storage]
    assert got.ndim == (len(step.groups) or len(wanted))
    assert got.ndim == 0 or got.shape[-1] <= 1 or got.size == 0 or got.strides[-1] == got.itemsize
    assert (got.reshape(exact.shape) == exact.astype(got.dtype)).all()


@pytest.mark.parametrize("kinds", [("bf16", "f32", "bf16"), ("f16", "f16", "f32"), ("f32", "bf16", "f32")])
def test_operands_of_different_types(cuda: Any, kinds: tuple[Any, Any, Any]) -> None:
    rng = np.random.default_rng(0)
    i, j, k = (Axis(n, Size(n.upper())) for n in "ijk")
    step = Product("r", (i, j), (), Operand("x", ((i,), (k,))), Operand("y", ((k,), (j,))))
    x = rng.integers(-4, 5, (5, 7)).astype(DTYPE[kinds[0]])
    y = rng.integers(-4, 5, (7, 3)).astype(DTYPE[kinds[1]])
    with cuda.running(()):
        got = cuda.entries(cuda.multiplier(step, {"I": 5, "J": 3, "K": 7}, kinds[2])(moved(cuda, x), moved(cuda, y)))
    exact = x.astype(np.float64) @ y.astype(np.float64)
    assert (got == exact.astype(DTYPE[kinds[2]])).all()


@pytest.mark.parametrize("storage", ["f32", "bf16"])
@pytest.mark.parametrize("turned", [False, True])  # the result's last axis is of the left operand
@pytest.mark.parametrize("absent", [-1, 1])
@pytest.mark.parametrize("columns", [3, 1])
def test_zeros_that_stand_for_no_term(cuda: Any, absent: int, turned: bool, columns: int, storage: Any) -> None:
    """On the device and on the host: what the other operand holds there plays no part; elsewhere it does."""
    rng = np.random.default_rng(columns)
    i, j, k = (Axis(n, Size(n.upper())) for n in "ijk")
    axes = (j, i) if turned else (i, j)
    step = Product("r", axes, (), Operand("x", ((i,), (k,))), Operand("y", ((k,), (j,))), absent=absent)
    x, y = rng.integers(1, 5, (5, 7)).astype(DTYPE[storage]), rng.integers(1, 5, (7, columns)).astype(DTYPE[storage])
    zero, other = (x, y.T) if absent < 0 else (y.T, x)
    zero[:, 2], other[:, 2] = 0, np.nan
    zero[0, 4], other[0, 4] = 0, -np.inf
    a, b = x.astype(np.float64)[:, None], y.astype(np.float64).T[None]
    with np.errstate(invalid="ignore"):
        exact = np.where((a if absent < 0 else b) != 0, a * b, 0).sum(-1)
    exact = exact.T if turned else exact
    sizes = {"I": 5, "J": columns, "K": 7}
    with cuda.running(()):
        got = cuda.entries(cuda.multiplier(step, sizes, storage)(moved(cuda, x), moved(cuda, y)))
    np.testing.assert_array_equal(got.astype(np.float64), exact)
    np.testing.assert_array_equal(HOST.multiplier(step, sizes, storage)(x, y).astype(np.float64), exact)


def test_copies_keep_every_bit(cuda: Any) -> None:
    values: dict[Any, Array] = {
        "f32": np.array([[-0.0, np.inf, 1e-45], [3.0, -np.inf, 1.0]], np.float32),
        "f64": np.array([[-0.0, 1e-320, 1 / 3]]),
        "i32": np.array([[2**31 - 1, -(2**31), 16777217]], np.int32),
    }
    for storage, array in values.items():
        with cuda.running(()):
            got = cuda.entries(cuda.copy(moved(cuda, array.T)))
        assert got.tobytes() == np.ascontiguousarray(array.T).tobytes(), storage


def test_chunks_are_summed_in_order_and_rounded_once(cuda: Any) -> None:
    parts = np.array([[2.0**24, 0], [1, 1], [1, 2]], np.float32)
    for storage in ("f32", "bf16"):
        with cuda.running(()):
            got = cuda.entries(cuda.sum_chunks(moved(cuda, parts), storage))
        assert got.tolist() == HOST.sum_chunks(parts, storage).tolist()
