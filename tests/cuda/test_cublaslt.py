"""Stacks of products through cuBLASLt: what is asked of it, how often, and what is said where it fails."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import irc
from irc.runtime.arrays import DTYPE, Array
from irc.runtime.cuda import cublaslt, device, products
from tests.cuda.test_device import drawn
from tests.cuda.test_foreign import THEIRS, Cupy
from tests.cuda.test_products import moved

pytestmark = pytest.mark.usefixtures("device")


class Counts:
    """Of the emulated library, since this was made."""

    def __init__(self) -> None:
        gc.collect()  # what devices of other tests have kept
        self._library = ctypes.CDLL(cublaslt.NAMES[0])
        self._before = self._now()

    def _now(self) -> list[int]:
        return [getattr(self._library, f"emulated_{what}")() for what in ("asked", "multiplied", "alive")]

    def __call__(self) -> list[int]:
        """How often the heuristic was asked; how many products there were; how many more descriptions there are."""
        return [now - before for now, before in zip(self._now(), self._before, strict=True)]


@pytest.fixture
def cuda() -> Any:
    """The device, for which nothing is worked out yet."""
    found = device.find()
    vars(found).pop("cublaslt", None)
    return found


def whole(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


def product(cuda: Any, left: Array, right: Array, storage: Any = "f32") -> Array:
    with cuda.running(()):
        return cuda.entries(cublaslt.multiply(cuda, moved(cuda, left), moved(cuda, right), storage))


def test_what_is_worked_out_is_used_again(cuda: Any, emulator: None) -> None:
    counts = Counts()
    for seed in range(3):
        left, right = whole(2, 5, 7, seed=seed), whole(2, 7, 3, seed=seed + 10)
        assert (product(cuda, left, right) == left @ right).all()
    asked, multiplied, _ = counts()
    assert (asked, multiplied) == (1, 3)
    for storage in ("bf16", "f32"):  # the second: of bf16 too, to floats
        product(cuda, left.astype(DTYPE["bf16"]), right.astype(DTYPE["bf16"]), storage)
    product(cuda, left, np.ascontiguousarray(right.swapaxes(1, 2)).swapaxes(1, 2))
    product(cuda, left[:1], right[:1])
    assert counts()[:2] == [5, 7]


def test_what_is_kept_is_bounded(cuda: Any, emulator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cublaslt, "KEPT", 2)
    counts = Counts()
    for n in (1, 2, 3, 1, 3):
        product(cuda, whole(1, 4, 5), whole(1, 5, n))
    asked, _, alive = counts()
    assert asked == 4
    assert alive == 1 + 2 * 4  # the handle; an operation and three layouts of each


def test_threads_share_it(cuda: Any, emulator: None) -> None:
    cases = [(whole(2, 4 + n, 6), whole(2, 6, 3 + n)) for n in range(4)]
    product(cuda, *cases[0])
    counts = Counts()

    def one(n: int) -> bool:
        left, right = cases[n % 4]
        return bool((product(cuda, left, right) == left @ right).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(one, range(80)))
    asked, multiplied, alive = counts()
    assert multiplied == 80 and asked <= 3 * 4 and alive == 3 * 4  # two may work out the same at once


@pytest.mark.parametrize("storage", ["f32", "bf16", "f16", "f64"])
def test_operands_that_lie_on_fewer_bytes(cuda: Any, storage: Any) -> None:
    left, right = (whole(2, n, 16).astype(DTYPE[storage]) for n in (8, 16))
    exact = (left.astype(np.float64) @ right.astype(np.float64)).astype(DTYPE[storage])
    for first, second in ((0, 0), (1, 0), (0, 1), (3, 5), (2, 4)):
        with cuda.running(()):
            a, b = (np.concatenate([np.zeros(n, x.dtype), x.reshape(-1)]) for n, x in ((first, left), (second, right)))
            x = moved(cuda, a)[first:].reshape(left.shape)
            y = moved(cuda, b)[second:].reshape(right.shape)
            assert cublaslt.stack(x).alignment == (256 if not first else (first & -first) * x.itemsize)
            assert (cuda.entries(cublaslt.multiply(cuda, x, y, storage)) == exact).all()


def test_the_next_call_of_the_same_layout_may_lie_on_fewer_bytes(cuda: Any, emulator: None) -> None:
    """With the algorithm of the one before, the emulated library would refuse it, as a device would."""
    counts, right = Counts(), whole(1, 16, 8)
    memory = np.concatenate([whole(1, 16, 16).reshape(-1), np.zeros(4, np.float32)])
    with cuda.running(()):
        there, y = moved(cuda, memory), moved(cuda, right)
        for start in (0, 1, 4, 0, 1, 4):
            x = there[start : start + 256].reshape(1, 16, 16)
            got = cuda.entries(cublaslt.multiply(cuda, x, y, "f32"))
            assert (got == memory[start : start + 256].reshape(1, 16, 16) @ right).all()
    assert counts()[:2] == [3, 6]


def test_matrices_in_the_other_order_of_the_stack_are_copied(cuda: Any) -> None:
    left, right = whole(3, 4, 5)[::-1], whole(3, 5, 6)
    assert cublaslt.leading(left) is None and cublaslt.leading(left[:1]) is not None
    with cuda.running(()):
        fit = products._matrices(cuda, moved(cuda, left), left.shape, "f32")
        got = cuda.entries(cublaslt.multiply(cuda, fit, moved(cuda, right), "f32"))
    assert (got == left @ right).all()


def test_sums_of_sixteen_bits_are_not_split_in_sixteen_bits(cuda: Any) -> None:
    """257 is no number of bf16, nor 2049 of f16: parts that are rounded to these types lose the last 1."""
    for storage, last in (("bf16", 256.0), ("f16", 2048.0)):
        left = np.zeros((1, 1, 256), np.float32)
        left[0, 0, [0, 1, 255]] = last, 1, -last
        ones = np.ones((1, 256, 8), DTYPE[storage])
        assert (product(cuda, left.astype(DTYPE[storage]), ones, storage) == 1).all()


def test_floats_keep_their_bits(cuda: Any) -> None:
    """Of which TF32 would leave eleven."""
    value = np.float32(1 + 2.0**-20)
    left, right = np.full((1, 64, 1), value), np.ones((1, 1, 64), np.float32)
    assert (product(cuda, left, right) == value).all()


def test_products_run_on_the_stream_of_the_call(cuda: Any, emulator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = Cupy(THEIRS)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    used = ctypes.CDLL(cublaslt.NAMES[0]).emulated_stream
    used.restype = ctypes.c_void_p
    left, right = whole(1, 4, 100), whole(1, 100, 4)  # a sum that wants workspace
    for given in ([cupy.ndarray(drawn(1))], []):
        with cuda.running(given):
            got = cublaslt.multiply(cuda, moved(cuda, left), moved(cuda, right), "f32")
            assert used() == (cuda.stream_handle or None) and bool(cuda.stream) == bool(given)
            assert (cuda.entries(got) == left @ right).all()


def test_each_device_has_a_handle(emulator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMULATED_DEVICES", "2")
    left, right = whole(1, 4, 5), whole(1, 5, 6)
    for number in range(2):
        assert (product(device.find(number), left, right) == left @ right).all()


# what fails


SAID = "the matrix product of 2 times 5 x 7 by 7 x 3: "


@pytest.mark.parametrize("status", [0, 15])  # CUBLAS_STATUS_SUCCESS with no algorithm, CUBLAS_STATUS_NOT_SUPPORTED
def test_where_there_is_no_algorithm(cuda: Any, emulator: None, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setenv("EMULATED_HEURISTIC", str(status))
    with pytest.raises(
        irc.DeviceError, match=SAID + "cuBLASLt has no algorithm for f32 3 x 7, .* times f32 7 x 5, .* to"
    ):
        product(cuda, whole(2, 5, 7), whole(2, 7, 3))
    monkeypatch.delenv("EMULATED_HEURISTIC")
    product(cuda, whole(2, 5, 7), whole(2, 7, 3))


def test_a_heuristic_that_fails(cuda: Any, emulator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMULATED_HEURISTIC", "14")
    with pytest.raises(
        irc.DeviceError, match=SAID + "cublasLtMatmulAlgoGetHeuristic failed: CUBLAS_STATUS_INTERNAL_ERROR"
    ):
        product(cuda, whole(2, 5, 7), whole(2, 7, 3))


def test_out_of_memory(cuda: Any, emulator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the workspace, which is larger than the result."""
    with cuda.running(()):
        left, right = moved(cuda, whole(1, 1024, 64)), moved(cuda, whole(1, 64, 1024))
        free, total = cuda.driver.mem_get_info()
        monkeypatch.setenv("EMULATED_MEMORY", str(total - free + (10 << 20)))
        said = "the matrix product of 1 times 1024 x 64 by 64 x 1024: out of memory on the device: 8 MiB more"
        with pytest.raises(irc.DeviceError, match=said):
            cublaslt.multiply(cuda, left, right, "f32")


@pytest.fixture
def nothing_found(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    cublaslt.library.cache_clear()
    monkeypatch.setattr(cublaslt, "_candidates", lambda: iter(("libnone.so",)))
    yield
    cublaslt.library.cache_clear()


def test_without_the_library(cuda: Any, nothing_found: None) -> None:
    with pytest.raises(irc.DeviceError, match=r"libcublasLt was not found.*pip install nvidia-cublas"):
        product(cuda, whole(1, 4, 5), whole(1, 5, 6))


def test_more_than_32_bits_of_matrices(cuda: Any) -> None:
    endless = np.lib.stride_tricks.as_strided(np.zeros(20, np.float32), (2**31, 4, 5), (0, 20, 4))
    with pytest.raises(irc.DeviceError, match="sides up to 2147483647"):
        cublaslt.stack(endless)


def stacks(**changed: Any) -> list[Any]:
    """Of the product of 2 times 4 x 8 by 8 x 12, as cuBLASLt has them, the first or what `of` names changed."""
    of = changed.pop("of", 0)
    found = [
        cublaslt.Stack("f32", 2, 12, 8, 12, 96, 256, False),
        cublaslt.Stack("f32", 2, 8, 4, 8, 32, 256, False),
        cublaslt.Stack("f32", 2, 12, 4, 12, 48, 256, False),
    ]
    found[of] = found[of]._replace(**changed)
    return found


@pytest.mark.parametrize(
    "changed",
    [
        {"step": 11},  # columns that overlap
        {"apart": -96},
        {"rows": 13, "step": 13},  # another shape than the result's
        {"columns": 7},
        {"batch": 3},
        {"transposed": True},
        {"of": 2, "apart": 47},  # results that overlap
        {"rows": 0},
    ],
)
def test_the_emulated_library_refuses_layouts_in_conflict(cuda: Any, emulator: None, changed: dict[str, Any]) -> None:
    with cuda.running(()):
        assert cuda.cublaslt.product(*stacks())
        with pytest.raises(irc.DeviceError, match="GetHeuristic failed: CUBLAS_STATUS_INVALID_VALUE"):
            cuda.cublaslt.product(*stacks(**changed))


@pytest.mark.parametrize(
    "changed", [{"storage": "bf16"}, {"storage": "f64"}, {"of": 2, "storage": "f16"}, {"alignment": 2}]
)
def test_the_emulated_library_has_no_other_types(cuda: Any, emulator: None, changed: dict[str, Any]) -> None:
    with cuda.running(()), pytest.raises(irc.DeviceError, match="cuBLASLt has no algorithm"):
        cuda.cublaslt.product(*stacks(**changed))


def test_the_emulated_library_refuses_calls_that_break_a_promise(cuda: Any, emulator: None) -> None:
    with cuda.running(()):
        memory = cuda.allocate((384,), "f32")
        run = cuda.cublaslt.product(*stacks())
        places = tuple(memory.ctypes.data + bytes for bytes in (0, 768, 1024))
        run(cuda, *places)
        beyond = places[0] + 1520
        for wrong in ((places[0] + 4, *places[1:]), (beyond, *places[1:]), (*places[:2], beyond)):
            with pytest.raises(irc.DeviceError, match="cublasLtMatmul failed: CUBLAS_STATUS_INVALID_VALUE"):
                run(cuda, *wrong)
        other = cuda.cublaslt.product(*stacks(apart=0))
        first, second, result = stacks()
        long = cuda.cublaslt.product(first._replace(columns=64), second._replace(rows=64, step=64), result)
        assert long.workspace_bytes
        for broken in (replace(run, layouts=other.layouts), replace(long, workspace_bytes=0)):
            with pytest.raises(irc.DeviceError, match="cublasLtMatmul failed: CUBLAS_STATUS_INVALID_VALUE"):
                broken(cuda, *places)
