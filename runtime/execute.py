"""Runs a plan: its steps in order, over a table of named arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Protocol, assert_never

import numpy as np

from irc.codegen.kernel import Kernel, Storage
from irc.runtime import blas
from irc.runtime.arrays import Array
from irc.runtime.device import Device
from irc.runtime.plan import Allocate, Call, Plan, Product, Release, Step, SumChunks, View
from irc.runtime.sizes import evaluate


class Library(Protocol):
    """What a plan needs of compiled kernels; `runtime.cpu.Library` is one.

    by_address: of a tensor that kernels alone read, it needs no more than something that has its address.
    device: where tensors lie.
    """

    by_address: bool

    @property
    def device(self) -> Device: ...

    def load(self) -> None:
        """Get ready for every kernel at once, rather than for each as it is bound."""

    def bound(
        self, kernel: Kernel, tensors: Mapping[str, Array], sizes: Mapping[str, int], threads: int
    ) -> Callable[[Mapping[str, Any]], None]: ...


Action = Callable[[dict[str, Any]], object]  # does a step on the arrays by name


def direct(plan: Plan) -> frozenset[str]:
    """Arguments of the plan that only kernels read: of these a prepared run needs no more than the addresses."""
    used = {tensor for _, tensor in plan.outputs} | {*plan.saved, *plan.kept}
    for step in plan.steps:
        match step:
            case Product(_, _, _, left, right):
                used |= {left.tensor, right.tensor}
            case View(_, _, operand):
                used.add(operand.tensor)
            case SumChunks(_, source):
                used.add(source)
    return frozenset(t.name for t in plan.tensors if t.role != "temporary" and t.name not in used)


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
    """One run of a plan: see Prepared."""
    return Prepared(plan, library, kernels, tensors, sizes, threads, owned or {}, keep).run(tensors, owned)


class Prepared:
    """A plan for sizes, threads and the layouts of its arguments: what follows from these is worked out once.

    tensors: the plan's arguments, in storage types and shapes that the plan gives. owned: those among them that are a
    run's own. Safe to use from several threads: the first run notes how kernels are called, and what it notes is the
    same whoever is first.
    Raises ValueError where an argument or a kernel does not fit the plan: a defect of the compiler, not of the call.
    """

    def __init__(
        self,
        plan: Plan,
        library: Library,
        kernels: Mapping[str, Kernel],
        tensors: Mapping[str, Array],
        sizes: Mapping[str, int],
        threads: int,
        owned: Mapping[str, Array],
        keep: bool,
    ) -> None:
        self.library = library
        self.device = library.device
        self.kernels = kernels
        self.sizes = {**sizes, "chunks": threads}
        self.threads = threads
        self.storage: dict[str, Storage] = {t.name: t.storage for t in plan.tensors}
        self.shapes = {t.name: tuple(evaluate(e, self.sizes) for e in t.shape) for t in plan.tensors}
        for name, array in (*tensors.items(), *owned.items()):
            self._fits(name, array)
        done = frozenset(plan.again) if any(name in owned for name in plan.kept) else frozenset()
        held = frozenset(plan.kept) if keep else frozenset()
        self.steps = [s for s in plan.steps if not (made := self._makes(s)) or not made <= done]
        self.steps = [s for s in self.steps if not (isinstance(s, Release) and s.tensor in held)]
        self.wanted = tuple(dict.fromkeys((*plan.saved, *held, *(tensor for _, tensor in plan.outputs))))
        self.outputs = tuple(dict.fromkeys(tensor for _, tensor in plan.outputs))
        self.actions: tuple[Action, ...] | None = None  # what each step does, from the first run on
        self.shared: tuple[str, ...] = ()  # outputs that lie in the memory of an argument

    def run(self, tensors: Mapping[str, Any], owned: MutableMapping[str, Array] | None = None) -> dict[str, Array]:
        """The plan's outputs and saved tensors, by tensor name, and with `keep` those of `plan.kept`.

        tensors: the plan's arguments, in the layouts that this was prepared for; they are not written. From the second
        run on, those that are `direct` may be anything with an address. owned: the run's own, to write over and to
        free: it takes them out of the mapping. They may be those of `plan.kept`, which are then not computed.
        """
        arrays: dict[str, Any] = dict(tensors)
        while owned:
            name, array = owned.popitem()
            arrays[name] = array
            del array
        if self.actions is not None:
            for action in self.actions:
                action(arrays)
        else:
            self.actions = tuple(self._first(step, arrays) for step in self.steps)
            given = tuple(tensors.values())
            self.shared = tuple(n for n in self.outputs if any(np.may_share_memory(arrays[n], a) for a in given))
        for name in self.shared:  # writing to an output must not change an argument
            arrays[name] = self.device.copy(arrays[name])
        return {name: arrays[name] for name in self.wanted}

    def _first(self, step: Step, arrays: dict[str, Any]) -> Action:
        """Do a step for the first time; answers what it does from now on."""
        action = self._action(step, arrays)
        action(arrays)
        for name in self._makes(step):
            self._fits(name, arrays[name])
        return action

    def _action(self, step: Step, arrays: dict[str, Any]) -> Action:
        match step:
            case Call(kernel):
                return self._call(self.kernels[kernel], arrays)
            case Allocate(tensor, zero, order):
                shape, storage, allocate = self.shapes[tensor], self.storage[tensor], self.device.allocate
                return lambda a: a.update({tensor: allocate(shape, storage, zero, order)})
            case Product(result, _, _, left, right):
                multiply = self.device.multiplier(step, self.sizes, self.storage[result])
                return lambda a: a.update({result: multiply(a[left.tensor], a[right.tensor])})
            case View(result, _, operand):
                view = blas.viewer(step, self.sizes)
                return lambda a: a.update({result: view(a[operand.tensor])})
            case SumChunks(result, source):
                return lambda a: a.update({result: self.device.sum_chunks(a[source], self.storage[result])})
            case Release(tensor):
                return lambda a: a.pop(tensor, None)
            case _:
                assert_never(step)

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

    def _fits(self, name: str, array: Array) -> None:
        """No kernel meets a shape that its sizes do not cover."""
        if name in self.shapes and array.shape != self.shapes[name]:
            raise ValueError(f"tensor {name} has shape {array.shape}, its plan says {self.shapes[name]}")

    def _call(self, kernel: Kernel, arrays: dict[str, Any]) -> Action:
        """A call. A view may run along a dimension with a stride; kernels want the last axis contiguous."""
        copies, addressable = [], self.device.addressable
        for tensor in kernel.tensors:
            if tensor.name not in self.shapes or tensor.name not in arrays:
                raise ValueError(f"kernel {kernel.name}: the plan has given no tensor {tensor.name}")
            array = arrays[tensor.name]
            if not tensor.written and (fit := addressable(array)) is not array:
                copies.append(tensor.name)
                arrays[tensor.name] = fit
        call = self.library.bound(kernel, arrays, self.sizes, self.threads)
        if not copies:
            return call

        def copied(arrays: dict[str, Any]) -> None:
            for name in copies:
                arrays[name] = addressable(arrays[name])
            call(arrays)

        return copied
