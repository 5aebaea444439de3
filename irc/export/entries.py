"""A compiled program as entries for C: the steps of its plans, on tensors in memory that the caller gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, assert_never

from irc.calls.program import Program
from irc.codegen.entries import checked_tensors, strides
from irc.codegen.expr import Expr, integer, op
from irc.codegen.kernel import Kernel
from irc.codegen.library import (
    AddChunks,
    Argument,
    Buffer,
    Clear,
    Copy,
    Entry,
    Invoke,
    Library,
    Multiply,
    Place,
    ProductAxis,
    Statement,
)
from irc.compiled import Fused, Integers, arguments
from irc.export.checks import input_checks, size_checks
from irc.graph.ir import cotangent_name, grouped
from irc.passes.specialise import specialise
from irc.runtime.plan import Allocate, Call, Operand, PlanTensor, Product, Release, SumChunks, View

ZERO, ONE = integer(0), integer(1)


def library(program: Program, integers: Integers) -> Library:
    """The entries of a program whose kernels are compiled."""
    graph, compiled = program.graph, program.built({}, integers).compiled
    storages = program.storages | dict(integers)
    known = specialise(graph, program.fixed)
    to_check = input_checks(known)
    inputs = tuple(
        Argument(n.name, storages[n.name], n.shape, "value" if n.role == "scalar" else "read", False)
        for n in arguments(known)
    )
    forward = _Entry("forward", compiled.forward, {a.name: _given(a) for a in inputs})
    outputs = forward.add_outputs([a.name for a in inputs], "")
    forward.run()
    entries = [forward.entry(inputs + outputs)]
    if compiled.backward is not None:
        entries.append(_backward(forward, compiled.backward, inputs, outputs))
    read = {name for check in to_check for name in checked_tensors(check)}
    return Library(
        graph.name,
        program.precision.storage,
        tuple(name for name, definition in graph.sizes if definition is None and name not in program.fixed),
        tuple(program.fixed.items()),
        program.precision.arithmetic,
        inputs,
        size_checks(graph, known, program.fixed),
        to_check,
        tuple(forward.saved.values()),
        tuple(replace(e, arguments=tuple(_needed(a, read) for a in e.arguments)) for e in entries),
    )


def _needed(argument: Argument, read: set[str]) -> Argument:
    return replace(argument, needed=argument.needed or argument.name in read)


def _backward(forward: _Entry, fused: Fused, inputs: tuple[Argument, ...], outputs: tuple[Argument, ...]) -> Entry:
    """From what forward was given, made and saved, and cotangents of the outputs, to gradients."""
    made = tuple(replace(a, use="read") for a in outputs)
    names = [a.name for a in inputs + made]
    tensors = {t.name: t for t in fused.plan.tensors}
    places = dict(forward.places)
    cotangents = []
    for public, _ in forward.plan.outputs:
        if (tensor := tensors.get(cotangent_name(public))) is not None:
            argument = Argument(_unused(f"d_{public}", names), tensor.storage, tensor.shape, "read", False)
            names.append(argument.name)
            cotangents.append(argument)
            places[tensor.name] = _given(argument)
    given = {t.name: places[t.name] for t in fused.plan.tensors if t.name in places and t.role != "temporary"}
    backward = _Entry("backward", fused, given, tuple(forward.saved))
    gradients = backward.add_outputs(names, "d_")
    backward.run()
    return backward.entry((*inputs, *made, *cotangents, *gradients))


def _unused(name: str, taken: list[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _given(argument: Argument) -> Place:
    return Place(argument.name, argument.storage, ZERO, strides(argument.shape))


class _Entry:
    """One plan laid out in memory. `places` says where each tensor lies; `taken` are names of other buffers."""

    def __init__(
        self,
        what: Literal["forward", "backward"],
        fused: Fused,
        given: Mapping[str, Place],
        taken: tuple[str, ...] = (),
    ) -> None:
        self.what: Literal["forward", "backward"] = what
        self.plan = fused.plan
        self.kernels: dict[str, Kernel] = {k.name: k for k in fused.kernels}
        self.tensors: dict[str, PlanTensor] = {t.name: t for t in fused.plan.tensors}
        self.places: dict[str, Place] = dict(given)
        self.taken = list(taken)
        self.saved: dict[str, Buffer] = {}
        self.buffers: dict[str, Buffer] = {}
        self.outputs: dict[str, Argument] = {}  # by tensor: written by the steps themselves
        self.copied: list[tuple[str, Argument]] = []  # tensors that lie elsewhere
        self.statements: list[Statement] = []
        self.owner: dict[str, str] = {}
        for step in self.plan.steps:
            if isinstance(step, View):
                self.owner[step.result] = self.owner.get(step.operand.tensor, step.operand.tensor)
        self.kept = {self.owner.get(name, name) for name in self.plan.saved}

    def add_outputs(self, names: list[str], prefix: str) -> tuple[Argument, ...]:
        """An argument for each output, under names that are not in use."""
        found: list[Argument] = []
        for public, tensor in self.plan.outputs:
            declared = self.tensors[tensor]
            name = _unused(prefix + public, [*names, *(a.name for a in found)])
            argument = Argument(name, declared.storage, declared.shape, "written", True)
            found.append(argument)
            if tensor in self.places or tensor in self.owner or tensor in self.outputs:
                self.copied.append((tensor, argument))
            else:
                self.outputs[tensor] = argument
        self.taken += [*names, *(a.name for a in found)]
        return tuple(found)

    def entry(self, arguments: tuple[Argument, ...]) -> Entry:
        used = {place.tensor for s in self.statements for place in _places(s)}
        arguments = tuple(replace(a, needed=a.needed or a.name in used) for a in arguments)
        return Entry(self.what, arguments, tuple(self.buffers.values()), tuple(self.statements))

    def run(self) -> None:
        for tensor in self._overwritten():
            given = self.places.pop(tensor)
            self._make(tensor, 0)
            self.statements.append(Copy(self.places[tensor], given, self.tensors[tensor].shape))
        for number, step in enumerate(self.plan.steps):
            match step:
                case Allocate(tensor, zero):
                    self._make(tensor, number)
                    if zero:
                        self.statements.append(Clear(self.places[tensor], self.tensors[tensor].shape))
                case Call(name):
                    self._invoke(self.kernels[name])
                case Product():
                    self._make(step.result, number)
                    self._multiply(step)
                case View(result, axes, operand):
                    place, by_axis = self._by_axis(operand)
                    self.places[result] = replace(place, strides=tuple(by_axis[a.name] for a in axes))
                case SumChunks(result, source):
                    self._make(result, number)
                    shape, chunks = self.tensors[result].shape, self.tensors[source].shape[0]
                    self.statements.append(AddChunks(self.places[result], self.places[source], chunks, shape))
                case Release(tensor):
                    if tensor in self.buffers:
                        self.buffers[tensor] = replace(self.buffers[tensor], last=number)
                case _:
                    assert_never(step)
        for tensor, argument in self.copied:
            self.statements.append(Copy(_given(argument), self.places[tensor], argument.shape))

    def _overwritten(self) -> list[str]:
        """What the caller gave and a kernel writes, itself or through a view: it must be copied first."""
        kernels = [self.kernels[step.kernel] for step in self.plan.steps if isinstance(step, Call)]
        written = {self.owner.get(t.name, t.name) for k in kernels for t in k.tensors if t.written}
        return sorted(written & self.places.keys())

    def _make(self, tensor: str, number: int) -> None:
        """Memory for a tensor that has none: its output's, what is saved for backward, or the workspace."""
        if tensor in self.places:
            return
        declared = self.tensors[tensor]
        if tensor in self.outputs:
            self.places[tensor] = _given(self.outputs[tensor])
            return
        name = _unused(tensor, self.taken)
        self.taken.append(name)
        if tensor in self.kept:
            self.saved[tensor] = Buffer(name, declared.storage, declared.shape)
        else:
            self.buffers[tensor] = Buffer(name, declared.storage, declared.shape, number, len(self.plan.steps))
        self.places[tensor] = Place(name, declared.storage, ZERO, strides(declared.shape))

    def _invoke(self, kernel: Kernel) -> None:
        places = tuple(self.places[t.name] for t in kernel.tensors)
        for tensor, place in zip(kernel.tensors, places, strict=True):
            if place.strides and place.strides[-1] != ONE:
                raise ValueError(f"entries: kernel {kernel.name}: the last axis of {tensor.name} is not contiguous")
        self.statements.append(Invoke(kernel, places))

    def _by_axis(self, operand: Operand) -> tuple[Place, dict[str, Expr]]:
        """Where the operand begins, and the stride of each of its axes."""
        place = self.places[operand.tensor]
        found: dict[str, Expr] = {}
        for dim, stride in zip(operand.dims, place.strides, strict=True):
            if isinstance(dim, int):
                place = replace(place, offset=op("add", place.offset, op("mul", integer(dim), stride)))
                continue
            for axis, inner in zip(dim, strides(tuple(a.size for a in dim)), strict=True):
                step = op("mul", stride, inner)
                found[axis.name] = op("add", found[axis.name], step) if axis.name in found else step
        return place, found

    def _multiply(self, step: Product) -> None:
        dims = grouped(step.axes, step.groups)
        result, of_result = self._by_axis(Operand(step.result, dims))
        sides = [step.left, step.right]
        wanted = [a.name for a in step.axes]
        absent = step.absent
        if wanted and wanted[-1] not in self._by_axis(step.right)[1]:
            sides.reverse()  # columns run along the last axis of the result
            absent = -absent
        (left, of_left), (right, of_right) = (self._by_axis(side) for side in sides)
        axes = {a.name: a for side in sides for dim in side.dims if not isinstance(dim, int) for a in dim}

        def of(names: list[str]) -> tuple[ProductAxis, ...]:
            return tuple(
                ProductAxis(axes[n].size, of_left.get(n, ZERO), of_right.get(n, ZERO), of_result.get(n, ZERO))
                for n in names
            )

        batch = [n for n in wanted if n in of_left and n in of_right]
        rows = [n for n in wanted if n in of_left and n not in of_right]
        columns = [n for n in wanted if n in of_right and n not in of_left]
        inner = [n for n in axes if n not in wanted]
        parts = of(batch), of(rows), of(columns), of(inner)
        self.statements.append(Multiply(result, left, right, *parts, step.pairs, absent))


def _places(statement: Statement) -> tuple[Place, ...]:
    match statement:
        case Clear(target, _):
            return (target,)
        case Invoke(_, tensors):
            return tensors
        case Multiply(result, left, right):
            return result, left, right
        case AddChunks(result, source):
            return result, source
        case Copy(target, source, _):
            return target, source
        case _:
            assert_never(statement)
