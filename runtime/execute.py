"""Runs a plan: its steps in order, over a table of named arrays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, assert_never

import numpy as np

from irc.codegen.kernel import CHUNKS, Kernel, Storage
from irc.runtime import operands
from irc.runtime.arrays import Array, address
from irc.runtime.device import Device
from irc.runtime.memory import SMALL, New
from irc.runtime.plan import Allocate, Call, Plan, Product, Release, Step, SumChunks, View
from irc.runtime.sizes import evaluate


class Library(Protocol):
    """What a plan needs of compiled kernels; `runtime.cpu.Library` is one.

    by_address: of a tensor that kernels alone read, it needs no more than the address.
    device: where tensors lie.
    """

    by_address: bool

    @property
    def device(self) -> Device: ...

    def load(self, sizes: Mapping[str, int]) -> None:
        """Get ready for every kernel that calls of these sizes run, rather than for each as it is bound."""

    def bound(
        self, kernel: Kernel, tensors: Mapping[str, Array], sizes: Mapping[str, int], threads: int
    ) -> Callable[[Mapping[str, Any], Mapping[str, int]], None]: ...


Action = Callable[[dict[str, Any], dict[str, int]], object]  # does a step on arrays and addresses by name


@dataclass(slots=True)
class Tensors:
    """Tensors by name: as arrays, and the addresses of their first elements."""

    arrays: dict[str, Any]
    places: dict[str, int]

    def copy(self) -> Tensors:
        return Tensors(dict(self.arrays), dict(self.places))


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
    arrays: Mapping[str, Array],
    sizes: Mapping[str, int],
    threads: int,
) -> dict[str, Array]:
    """The outputs and saved tensors of one run of a plan: see Prepared."""
    tensors = Tensors(dict(arrays), {name: address(array) for name, array in arrays.items()})
    prepared = Prepared(plan, library, kernels, tensors, sizes, threads)
    prepared.run(tensors)
    return {name: tensors.arrays[name] for name in prepared.wanted}


class Prepared:
    """A plan for sizes, threads and the layouts of its arguments: what follows from these is worked out once.

    tensors: the plan's arguments as arrays, in storage types and shapes that the plan gives. owned: those among them
    that are a run's own, to write over and to free; they may be those of `plan.kept`, which are then not computed.
    keep: whether runs keep those. Safe to use from several threads: the first run notes how kernels are called, and
    what it notes is the same whoever is first.
    Raises ValueError where an argument or a kernel does not fit the plan: a defect of the compiler, not of the call.
    """

    def __init__(
        self,
        plan: Plan,
        library: Library,
        kernels: Mapping[str, Kernel],
        tensors: Tensors,
        sizes: Mapping[str, int],
        threads: int,
        owned: Collection[str] = (),
        keep: bool = False,
    ) -> None:
        self.library = library
        self.device = library.device
        self.kernels = kernels
        self.sizes = {**sizes, CHUNKS.name: threads}
        self.threads = threads
        self.owned = frozenset(owned)
        self.storage: dict[str, Storage] = {t.name: t.storage for t in plan.tensors}
        self.shapes = {t.name: tuple(evaluate(e, self.sizes) for e in t.shape) for t in plan.tensors}
        for t in plan.tensors:
            if t.name in tensors.arrays and (t.role != "temporary" or t.name in self.owned):
                self._fits(t.name, tensors.arrays[t.name])
        done = frozenset(plan.again) if any(name in owned for name in plan.kept) else frozenset()
        held = frozenset(plan.kept) if keep else frozenset()
        steps = [s for s in plan.steps if not (made := self._makes(s)) or not made <= done]
        steps = [s for s in steps if not (isinstance(s, Release) and s.tensor in held)]
        self.units = _units(self._small_first(steps))
        self.wanted = tuple(dict.fromkeys((*plan.saved, *held, *(tensor for _, tensor in plan.outputs))))
        self.outputs = tuple(dict.fromkeys(tensor for _, tensor in plan.outputs))
        self.actions: tuple[Action, ...] | None = None  # what each step does, from the first run on
        self.shared: tuple[str, ...] = ()  # outputs that lie in the memory of an argument

    def run(self, tensors: Tensors) -> None:
        """Add to the plan's arguments its outputs and saved tensors, and with `keep` those of `plan.kept`.

        tensors: in the layouts that this was prepared for; from the second run on, of those that are `direct` the
        address is enough. Those that are the run's own are used up.
        """
        arrays, places = tensors.arrays, tensors.places
        if self.actions is not None:
            for action in self.actions:
                action(arrays, places)
        else:
            given = [array for name, array in arrays.items() if name not in self.owned]
            actions = tuple(self._first(unit, arrays, places) for unit in self.units)
            self.shared = tuple(n for n in self.outputs if any(np.may_share_memory(arrays[n], a) for a in given))
            self.actions = actions
        for name in self.shared:  # writing to an output must not change an argument
            arrays[name] = self.device.copy(arrays[name])
            places[name] = address(arrays[name])

    def _first(self, steps: tuple[Step, ...], arrays: dict[str, Any], places: dict[str, int]) -> Action:
        """Do a step, or allocations at once, for the first time; answers what it does from now on."""
        action = self._action(steps, arrays)
        action(arrays, places)
        for name in (name for step in steps for name in self._makes(step)):
            self._fits(name, arrays[name])
        return action

    def _action(self, steps: tuple[Step, ...], arrays: dict[str, Any]) -> Action:
        match step := steps[0]:
            case Call(kernel):
                return self._call(self.kernels[kernel], arrays)
            case Allocate():
                return self.device.allocator({s.tensor: self._new(s) for s in steps if isinstance(s, Allocate)})
            case Product(result, _, _, left, right):
                multiply = self.device.multiplier(step, self.sizes, self.storage[result])
                return _computed(result, lambda a: multiply(a[left.tensor], a[right.tensor]))
            case View(result, _, operand):
                view = operands.viewer(step, self.sizes)
                return _computed(result, lambda a: view(a[operand.tensor]))
            case SumChunks(result, source):
                return _computed(result, lambda a: self.device.sum_chunks(a[source], self.storage[result]))
            case Release(tensor):
                return lambda arrays, places: (arrays.pop(tensor, None), places.pop(tensor, None))
            case _:
                assert_never(step)

    def _small_first(self, steps: list[Step]) -> list[Step]:
        """Steps of which the first make all tensors of the run at once, where these are small."""
        made = [s for s in steps if isinstance(s, Allocate)]
        if sum(self._new(s).bytes for s in made) > SMALL:
            return steps
        return [*made, *(s for s in steps if not isinstance(s, Allocate))]

    def _new(self, step: Allocate) -> New:
        return New(self.shapes[step.tensor], self.storage[step.tensor], step.zero, step.order)

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
        copies = []
        for tensor in kernel.tensors:
            if tensor.name not in self.shapes or tensor.name not in arrays:
                raise ValueError(f"kernel {kernel.name}: the plan has given no tensor {tensor.name}")
            array = arrays[tensor.name]
            if not tensor.written and (fit := self.device.addressable(array)) is not array:
                copies.append(tensor.name)
                arrays[tensor.name] = fit
        call = self.library.bound(kernel, arrays, self.sizes, self.threads)
        if not copies:
            return call

        def copied(arrays: dict[str, Any], places: dict[str, int]) -> None:
            for name in copies:
                arrays[name] = self.device.addressable(arrays[name])
                places[name] = address(arrays[name])
            call(arrays, places)

        return copied


def _computed(name: str, compute: Callable[[Mapping[str, Any]], Array]) -> Action:
    def action(arrays: dict[str, Any], places: dict[str, int]) -> None:
        arrays[name] = array = compute(arrays)
        places[name] = address(array)

    return action


def _units(steps: Iterable[Step]) -> tuple[tuple[Step, ...], ...]:
    """What is done at once: allocations that follow each other, any other step alone."""
    units: list[tuple[Step, ...]] = []
    for step in steps:
        if isinstance(step, Allocate) and units and isinstance(units[-1][0], Allocate):
            units[-1] += (step,)
        else:
            units.append((step,))
    return tuple(units)
