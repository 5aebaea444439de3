"""Runs a plan: its steps in order, over a table of named arrays."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Protocol, assert_never

import numpy as np

from irc.codegen.kernel import Kernel, Storage
from irc.runtime import blas
from irc.runtime.arrays import DTYPE, Array, addressable
from irc.runtime.plan import Allocate, Call, Plan, Product, Release, Step, SumChunks, View
from irc.runtime.sizes import evaluate

ALIGNMENT = 64  # bytes: a cache line, and the widest vector register


class Library(Protocol):
    """What a plan needs of compiled kernels; `runtime.cpu.Library` is one."""

    def call(self, kernel: Kernel, tensors: Mapping[str, Array], sizes: Mapping[str, int], threads: int) -> None: ...


def run(
    plan: Plan,
    library: Library,
    kernels: Mapping[str, Kernel],
    tensors: Mapping[str, Array],
    sizes: Mapping[str, int],
    threads: int,
) -> dict[str, Array]:
    """The plan's outputs and saved tensors, by tensor name.

    tensors: the plan's arguments, in storage types and shapes that the plan gives; they are not written.
    Raises ValueError where an argument or a kernel does not fit the plan: a defect of the compiler, not of the call.
    """
    return _Run(plan, library, kernels, tensors, sizes, threads).run()


class _Run:
    def __init__(
        self,
        plan: Plan,
        library: Library,
        kernels: Mapping[str, Kernel],
        tensors: Mapping[str, Array],
        sizes: Mapping[str, int],
        threads: int,
    ) -> None:
        self.plan = plan
        self.library = library
        self.kernels = kernels
        self.sizes = {**sizes, "chunks": threads}
        self.threads = threads
        self.storage: dict[str, Storage] = {t.name: t.storage for t in plan.tensors}
        self.shapes = {t.name: tuple(evaluate(e, self.sizes) for e in t.shape) for t in plan.tensors}
        self.arrays: dict[str, Array] = {}
        self.arguments: list[Array] = []
        for name, array in tensors.items():
            self._keep(name, array)
            self.arguments.append(array)

    def run(self) -> dict[str, Array]:
        for step in self.plan.steps:
            self._step(step)
        outputs = {tensor: self._own(self.arrays[tensor]) for _, tensor in self.plan.outputs}
        return {**{name: self.arrays[name] for name in self.plan.saved}, **outputs}

    def _step(self, step: Step) -> None:
        match step:
            case Allocate(tensor, zero):
                self.arrays[tensor] = allocate(self.shapes[tensor], self.storage[tensor], zero)
            case Call(kernel):
                self._call(self.kernels[kernel])
            case Product(result, _, _, left, right):
                operands = (self.arrays[left.tensor], self.arrays[right.tensor])
                self._keep(result, blas.product(step, *operands, self.sizes, self.storage[result]))
            case View(result, _, operand):
                self._keep(result, blas.view(step, self.arrays[operand.tensor], self.sizes))
            case SumChunks(result, source):
                self._keep(result, sum_chunks(self.arrays[source], self.storage[result]))
            case Release(tensor):
                self.arrays.pop(tensor, None)
            case _:
                assert_never(step)

    def _keep(self, name: str, array: Array) -> None:
        """Every array enters the table here, so that no kernel meets a shape that its sizes do not cover."""
        if name in self.shapes and array.shape != self.shapes[name]:
            raise ValueError(f"tensor {name} has shape {array.shape}, its plan says {self.shapes[name]}")
        self.arrays[name] = array

    def _call(self, kernel: Kernel) -> None:
        # A view may run along a dimension with a stride; kernels want the last axis contiguous. Copied at most once.
        for tensor in kernel.tensors:
            if tensor.name not in self.shapes or tensor.name not in self.arrays:
                raise ValueError(f"kernel {kernel.name}: the plan has given no tensor {tensor.name}")
            if not tensor.written:
                self.arrays[tensor.name] = addressable(self.arrays[tensor.name])
        self.library.call(kernel, self.arrays, self.sizes, self.threads)

    def _own(self, array: Array) -> Array:
        """An output shares no memory with an argument: writing to the one must not change the other."""
        return array.copy() if any(np.may_share_memory(array, a) for a in self.arguments) else array


def allocate(shape: tuple[int, ...], storage: Storage, zero: bool = False) -> Array:
    """A C-contiguous array that starts on a cache line; its content is undefined unless `zero`."""
    dtype = DTYPE[storage]
    count = prod(shape) * dtype.itemsize
    make = np.zeros if zero else np.empty
    memory = make(count + ALIGNMENT, np.uint8)
    start = -memory.__array_interface__["data"][0] % ALIGNMENT
    return memory[start : start + count].view(dtype).reshape(shape)


def sum_chunks(source: Array, storage: Storage) -> Array:
    """The chunks added one after another, in the order of their numbers, and rounded once."""
    compute = np.dtype(np.float64) if storage == "f64" else np.dtype(np.float32)
    total = np.zeros(source.shape[1:], compute)
    for part in source:
        total += part.astype(compute, copy=False)
    return total.astype(DTYPE[storage], copy=False)
