"""The emulator's Python side: arguments, limits, seeds, host threads."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from irc.runtime import emulator, toolchain
from irc.runtime.emulator import EmulatorError
from irc.runtime.errors import ToolchainError
from tests.emulator.kernels import HEADER, THREADS, launch
from tests.emulator.test_planted_bugs import ALL

SOURCE = (
    HEADER
    + """
struct Parameters { const float *x; float *y; long long n; };
KERNEL(scale, 64)(GRID_CONSTANT const Parameters p, double factor) {
  for (long long k = blockIdx.x * 64 + threadIdx.x; k < p.n; k += gridDim.x * 64) p.y[k] = float(factor * p.x[k]);
}
KERNEL(ordered, 64)(int *y) { y[threadIdx.x] = atomicAdd(y + 64, 1); }
KERNEL(waits, 64)(int *y) { if (threadIdx.x < 32) ptx::barrier_sync(1, 64); }
"""
)


class Parameters(ctypes.Structure):
    _fields_ = (("x", ctypes.c_void_p), ("y", ctypes.c_void_p), ("n", ctypes.c_longlong))


def scaled(check: bool, threads: int = 1) -> np.ndarray:
    x, y = np.arange(1000, dtype=np.float32), np.zeros(1000, np.float32)
    given = Parameters(x.ctypes.data, y.ctypes.data, 1000)
    module = emulator.build(SOURCE, check)
    module.launch("scale", (5,), (64,), 0, [given, np.float64(2)], buffers=[x, y], threads=threads)
    return y


@pytest.mark.parametrize("check", (True, False))
def test_structures_go_by_value_and_their_arrays_by_name(check: bool) -> None:
    assert (scaled(check) == 2 * np.arange(1000)).all()


def test_host_threads_share_blocks() -> None:
    assert (scaled(False, threads=3) == 2 * np.arange(1000)).all()


def test_memory_that_is_not_named_is_out_of_bounds() -> None:
    x, y = np.zeros(64, np.float32), np.zeros(64, np.float32)
    given = Parameters(x.ctypes.data, y.ctypes.data, 64)
    with pytest.raises(EmulatorError, match="out of bounds"):
        emulator.build(SOURCE).launch("scale", (1,), (64,), 0, [given, np.float64(2)], buffers=[y])


def test_a_buffer_is_named_by_its_number() -> None:
    x, y = np.zeros(64, np.float32), emulator.guarded(np.zeros(63, np.float32))
    given = Parameters(x.ctypes.data, y.ctypes.data, 64)
    with pytest.raises(EmulatorError, match=r"a write of 4 bytes at buffer 1 \+252, which has 252 bytes"):
        emulator.build(SOURCE).launch("scale", (1,), (64,), 0, [given, np.float64(2)], buffers=[x, y])


def test_seeds_change_the_order_of_threads() -> None:
    def order(seed: int) -> list[int]:
        y = np.zeros(65, np.int32)
        emulator.build(SOURCE).launch("ordered", (1,), (64,), 0, [y], seed=seed)
        return y[:64].tolist()

    assert order(0) == list(range(64))
    assert order(1) == order(1) != order(3)
    assert len({tuple(order(seed)) for seed in range(8)}) == 8


def test_an_unchecked_launch_still_ends_where_threads_wait_for_ever() -> None:
    with pytest.raises(EmulatorError, match=r"deadlock.*32 wait in a named barrier.*32 have exited"):
        emulator.build(SOURCE, check=False).launch("waits", (1,), (64,), 0, [np.zeros(1, np.int32)])


def test_an_error_says_where_in_kernel_and_spec() -> None:
    with pytest.raises(EmulatorError) as raised:
        launch(ALL, "no_barrier")
    text = str(raised.value)
    assert text.startswith("kernel no_barrier, in the emulator:\n")
    assert "race: a read of shared memory + " in text
    assert "out[t] = tile[127 - t];\n      for reverse.attn:4: return y" in text
    assert "tile[t] = in[t];\n      for reverse.attn:3: y[s] = x[S-1-s]" in text


def test_the_emulator_goes_on_after_a_finding() -> None:
    for _ in range(3):
        with pytest.raises(EmulatorError):
            launch(ALL, "past_shared")
        assert launch(ALL, "reverse").out[:THREADS].any()


@pytest.mark.parametrize(
    ("kernel", "grid", "block", "shared", "args", "message"),
    (
        ("ordered", (1,), (64,), 0, [], "ordered takes 1 arguments, got 0"),
        ("ordered", (1,), (64,), 0, [3], "argument 0: expected an array, a numpy scalar or a structure, got 3"),
        ("ordered", (1,), (64,), 0, [np.int32(3)], "argument 0: expected 8 bytes, got 4"),
        ("ordered", (0,), (64,), 0, [np.zeros(65, np.int32)], "a grid of .0,.: expected"),
        ("ordered", (1 << 20, 64), (64,), 0, [np.zeros(65, np.int32)], "more blocks than the emulator runs"),
        ("ordered", (1,), (64, 32), 0, [np.zeros(65, np.int32)], "more than 1024 threads"),
        ("ordered", (1,), (64,), 1 << 20, [np.zeros(65, np.int32)], "1048576 bytes of shared memory"),
        ("disordered", (1,), (64,), 0, [], "no kernel 'disordered': there are scale, ordered, waits"),
    ),
)
def test_a_launch_that_no_device_takes(kernel, grid, block, shared, args, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        emulator.build(SOURCE).launch(kernel, grid, block, shared, args)


def test_a_source_that_is_no_cpp_is_refused() -> None:
    with pytest.raises(ToolchainError, match="error:"):
        emulator.build("KERNEL(broken, 32)(int *y) { y = ; }")


@pytest.mark.parametrize(
    ("shape", "box", "swizzle", "message"),
    (
        ((64, 64), (64,), 0, "a box .64,. for 2 axes"),
        ((64, 60), (64, 60), 0, "strides .120, 2. are not on 16 bytes"),
        ((64, 64), (300, 64), 0, "sides beyond 1 to 256"),
        ((64, 64), (64, 4), 0, "rows have 8 bytes, no multiple of 16"),
        ((64, 64), (64, 64), 64, "rows have 128 bytes, more than the swizzle's 64"),
        ((64, 64), (64, 64), 48, "a swizzle of 48 bytes"),
    ),
)
def test_a_tensor_map_that_no_device_takes(
    shape: tuple[int, ...], box: tuple[int, ...], swizzle: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        emulator.TensorMap.of(np.zeros(shape, np.float16), box, swizzle)


def test_a_checked_build_with_clang_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    clang = toolchain.Toolchain(("clang++",), "clang version 14.0.6", ())
    monkeypatch.setattr(toolchain, "find", lambda: clang)
    with pytest.raises(ToolchainError, match=r"not clang version 14.0.6: name g\+\+ in IRC_CXX"):
        emulator.build(SOURCE)
