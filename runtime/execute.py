"""Runs a plan: its steps in order, over a table of named arrays."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Protocol, assert_never

import numpy as np

from irc.codegen.kernel import Kernel, Storage
from irc.runtime import blas
from irc.runtime.arrays import DTYPE, Array, addressable
from irc.runtime.memory import allocate
from irc.runtime.plan import Allocate, Call, Plan, Product, Release, Step, SumChunks, View
from irc.runtime.sizes import evaluate


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
    owned: MutableMapping[str, Array] | None = None,
    keep: bool = False,
) -> dict[str, Array]:
    """The plan's outputs and saved tensors, by tensor name, and with `keep` those of `plan.kept`.

    tensors: the plan's arguments, in storage types and shapes that the plan gives; they are not written.
    owned: arguments that are the run's own, to write over and to free: it takes them out of the mapping. They may be
    those of `plan.kept`, which are then not computed.
    Raises ValueError where an argument or a kernel does not fit the plan: a defect of the compiler, not of the call.
    """
    return _Run(plan, library, kernels, tensors, sizes, threads, owned if owned is not None else {}, keep).run()


class _Run:
    def __init__(
        self,
        plan: Plan,
        library: Library,
        kernels: Mapping[str, Kernel],
        tensors: Mapping[str, Array],
        sizes: Mapping[str, int],
        threads: int,
        owned: MutableMapping[str, Array],
        keep: bool,
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
        self.done = frozenset(plan.again) if any(name in owned for name in plan.kept) else frozenset()
        self.held = frozenset(plan.kept) if keep else frozenset()
        while owned:
            self._keep(*owned.popitem())

    def run(self) -> dict[str, Array]:
        for step in self.plan.steps:
            if not self._makes(step) or not self._makes(step) <= self.done:
                self._step(step)
        outputs = {tensor: self._own(self.arrays[tensor]) for _, tensor in self.plan.outputs}
        return {**{name: self.arrays[name] for name in (*self.plan.saved, *self.held)}, **outputs}

    def _makes(self, step: Step) -> frozenset[str]:
        """The tensors that the step makes or fills."""
        match step:
            case Call(kernel):
                return frozenset(t.name for t in self.kernels[kernel].tensors if t.written)
            case Allocate(tensor):
                return frozenset((tensor,))
            case Product(result) | View(result) | SumChunks(result):
                return frozenset((result,))
            case _:
                return frozenset()

    def _step(self, step: Step) -> None:
        match step:
            case Allocate(tensor, zero, order):
                self._keep(tensor, allocate(self.shapes[tensor], self.storage[tensor], zero, order))
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
                if tensor not in self.held:
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


def sum_chunks(source: Array, storage: Storage) -> Array:
    """The chunks added one after another, in the order of their numbers, and rounded once."""
    compute = np.dtype(np.float64) if storage == "f64" else np.dtype(np.float32)
    total = np.zeros(source.shape[1:], compute)
    for part in source:
        total += part.astype(compute, copy=False)
    return total.astype(DTYPE[storage], copy=False)
