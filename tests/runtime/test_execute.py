"""Calls into a compiled library, and whole plans over it, with kernels written by hand to the ABI."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from irc.codegen.expr import Axis, Size, integer, op
from irc.codegen.kernel import CHUNKS, LoopKernel, Tensor
from irc.runtime import cpu, machine, toolchain
from irc.runtime.device import HOST
from irc.runtime.errors import InputError, ToolchainError
from irc.runtime.execute import run
from irc.runtime.memory import allocate
from irc.runtime.plan import Allocate, Call, Operand, Plan, PlanTensor, Product, Release, SumChunks, View

SOURCE = r"""
#include <cstdint>
extern "C" void scaled(void *const *data, const int64_t *const *strides, const int64_t *sizes, int threads) {
  const float *x = (const float *)data[0];
  const float factor = *(const float *)data[1];
  float *y = (float *)data[2];
  for (int64_t i = 0; i < sizes[0]; i++)
    for (int64_t j = 0; j < sizes[1]; j++)
      y[i * strides[2][0] + j * strides[2][1]] = factor * x[i * strides[0][0] + j * strides[0][1]];
}
extern "C" void chunked(void *const *data, const int64_t *const *strides, const int64_t *sizes, int threads) {
  float *y = (float *)data[0];
  for (int64_t c = 0; c < sizes[0]; c++)
    for (int64_t j = 0; j < sizes[1]; j++)
      y[c * strides[0][0] + j * strides[0][1]] += (float)(threads + c);
}
"""


def kernel(name: str, tensors: tuple[Tensor, ...], sizes: tuple[str, ...]) -> LoopKernel:
    return LoopKernel(name, tensors, sizes, (), None, "f32")


SCALED = kernel("scaled", (Tensor("x", "f32", 2), Tensor("a", "f32", 0), Tensor("y", "f32", 2, True)), ("M", "N"))
CHUNKED = kernel("chunked", (Tensor("parts", "f32", 2, True),), (CHUNKS.name, "N"))
M, N = Size("M"), Size("N")
m, n = Axis("m", M), Axis("n", N)
FACTOR = np.array(3.0, np.float32)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("library") / "kernels.so"
    toolchain.compile(SOURCE, path)
    return cpu.Library(path)


def call(library, x, y=None):
    y = np.empty(x.shape, np.float32) if y is None else y
    library.call(SCALED, {"x": x, "a": FACTOR, "y": y}, {"M": x.shape[0], "N": x.shape[1]}, 1)
    return y


@pytest.mark.parametrize("at", [np.s_[:], np.s_[::-1], np.s_[::2, 1:3], np.s_[:0], np.s_[:, :0], np.s_[:, 2:3]])
def test_kernel_sees_pointers_strides_and_sizes(library, at):
    x = np.arange(20, dtype=np.float32).reshape(5, 4)[at]
    assert np.array_equal(call(library, x), 3 * x)
    assert np.array_equal(call(library, np.broadcast_to(x[:1], x.shape)), np.broadcast_to(3 * x[:1], x.shape))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((2, 2)), "tensor x is float64, not f32"),
        (np.ones((2, 2, 1), np.float32), "tensor x has 3 axes, not 2"),
        (np.ones((2, 4), np.float32)[:, ::2], "tensor x has a last axis that is not contiguous"),
        (np.zeros((2, 3), [("b", "u1"), ("x", "f4")])["x"], "tensor x is not aligned to its elements"),
    ],
)
def test_tensor_that_the_kernel_cannot_address_is_refused(library, x, message):
    with pytest.raises(ValueError, match=message):
        call(library, x, np.empty((2, 2), np.float32))


def test_result_that_cannot_be_written_is_refused(library):
    y = np.empty((2, 2), np.float32)
    y.flags.writeable = False
    with pytest.raises(ValueError, match="tensor y cannot be written"):
        call(library, np.ones((2, 2), np.float32), y)


def test_missing_library_and_kernel(library, tmp_path):
    with pytest.raises(ToolchainError, match="cannot be loaded"):
        cpu.Library(tmp_path / "none.so")
    with pytest.raises(ValueError, match="kernel absent is not in the compiled library"):
        library.call(kernel("absent", (), ()), {}, {}, 1)


def test_many_threads_may_call_at_once(library):
    start = threading.Barrier(8)

    def work(seed):
        start.wait()
        rng = np.random.default_rng(seed)
        for _ in range(300):
            x = rng.standard_normal(rng.integers(0, 9, 2)).astype(np.float32)[:: rng.choice([-2, -1, 1, 2])]
            assert np.array_equal(call(library, x), 3 * x)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_thread_count_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("IRC_THREADS", "3")
    assert machine.threads() == 3
    monkeypatch.delenv("IRC_THREADS")
    assert machine.threads() >= 1
    for wrong in ("0", "many", "-1"):
        monkeypatch.setenv("IRC_THREADS", wrong)
        with pytest.raises(InputError, match="IRC_THREADS"):
            machine.threads()


def test_compiler_count_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("IRC_COMPILERS", "3")
    assert machine.compilers() == 3
    monkeypatch.setenv("IRC_COMPILERS", "0")
    with pytest.raises(InputError, match="IRC_COMPILERS: expected a number of compilers from 1 to 4096, got '0'"):
        machine.compilers()
    monkeypatch.delenv("IRC_COMPILERS")
    assert machine.compilers() == machine.PROCESSORS


# plans

PLAN = Plan(
    tensors=(
        PlanTensor("w", "input", "f32", (N, M)),
        PlanTensor("a", "scalar", "f32", ()),
        PlanTensor("x", "temporary", "f32", (M, N)),
        PlanTensor("y", "temporary", "f32", (M, N)),
        PlanTensor("gram", "temporary", "f32", (op("mul", M, integer(1)), N)),
        PlanTensor("parts", "temporary", "f32", (CHUNKS, N)),
        PlanTensor("total", "temporary", "f32", (N,)),
    ),
    steps=(
        View("x", (m, n), Operand("w", ((n,), (m,)))),
        Allocate("y"),
        Call("scaled"),
        Product(
            "gram",
            (m, n),
            (),
            Operand("y", ((m,), (Axis("k", N),))),
            Operand("w", ((n,), (Axis("k", N),))),
        ),
        Release("y"),
        Allocate("parts", zero=True),
        Call("chunked"),
        SumChunks("total", "parts"),
        Release("parts"),
    ),
    outputs=(("g", "gram"), ("t", "total")),
    saved=("w", "x"),
)
KERNELS = {"scaled": SCALED, "chunked": CHUNKED}


def test_plan_runs_its_steps_in_order(library):
    w = np.arange(9, dtype=np.float32).reshape(3, 3)
    kept = run(PLAN, library, KERNELS, {"w": w, "a": FACTOR}, {"M": 3, "N": 3}, 2)
    assert set(kept) == {"gram", "total", "w", "x"}
    assert np.array_equal(kept["gram"], 3 * w.T @ w.T)
    assert kept["total"].tolist() == [2 + 3] * 3
    assert np.array_equal(kept["x"], w.T)
    assert w.tolist() == np.arange(9).reshape(3, 3).tolist()


@pytest.mark.parametrize(("width", "at_once"), [(3, True), (2000, False)])
def test_small_tensors_of_a_run_are_made_at_once(library, width, at_once):
    """Wherever the plan allocates them; large ones no earlier than it says."""
    x = np.ones((2, width), np.float32)
    tensors = tuple(PlanTensor("x", "input", "f32", (M, N)) if t.name == "x" else t for t in PLAN.tensors)
    steps = (Allocate("y"), Call("scaled"), Allocate("parts", zero=True), Call("chunked"))
    plan = Plan(tensors, steps, (("y", "y"), ("parts", "parts")))
    kept = run(plan, library, KERNELS, {"x": x, "a": FACTOR}, {"M": 2, "N": width}, 2)
    assert (kept["y"] == 3).all() and kept["parts"].tolist() == [[2] * width, [3] * width]
    assert (kept["y"].base is kept["parts"].base) == at_once


def test_argument_of_another_shape_is_refused(library):
    with pytest.raises(ValueError, match=r"tensor w has shape \(2, 3\), its plan says \(3, 3\)"):
        run(PLAN, library, KERNELS, {"w": np.ones((2, 3), np.float32), "a": FACTOR}, {"M": 3, "N": 3}, 1)


def test_tensor_that_the_plan_did_not_make_is_refused(library):
    plan = Plan(PLAN.tensors, (Call("chunked"),), ())
    with pytest.raises(ValueError, match="kernel chunked: the plan has given no tensor parts"):
        run(plan, library, KERNELS, {}, {"M": 3, "N": 3}, 1)


def test_output_shares_no_memory_with_an_argument(library):
    x = np.ones((2, 3), np.float32)
    tensors = (PlanTensor("x", "input", "f32", (M, N)), PlanTensor("v", "temporary", "f32", (N,)))
    plan = Plan(tensors, (View("v", (n,), Operand("x", (1, (n,)))),), (("v", "v"),))
    kept = run(plan, library, {}, {"x": x}, {"M": 2, "N": 3}, 1)
    assert kept["v"].tolist() == [1, 1, 1]
    assert not np.shares_memory(kept["v"], x)


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 4)])
def test_allocation_starts_on_a_cache_line(shape):
    x = allocate(shape, "bf16", zero=True)
    assert x.shape == shape
    assert x.flags.c_contiguous and x.flags.writeable
    assert x.size == 0 or x.__array_interface__["data"][0] % 64 == 0
    assert not x.astype(np.float32).any()


def test_chunks_are_summed_in_order_and_rounded_once():
    parts = np.array([[2.0**24, 0], [1, 1], [1, 2]], np.float32)
    summed = HOST.sum_chunks(parts, "f32")
    assert summed.tolist() == [2.0**24, 3]  # in float32 and in this order 2**24 + 1 is lost twice
    assert HOST.sum_chunks(np.ones((3, 0), np.float32), "f32").shape == (0,)
    assert HOST.sum_chunks(np.full(300, 1.0, np.float32), "bf16").astype(float) == 300
