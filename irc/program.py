"""A compiled program on arrays: calls, forward runs, their backward."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from irc import tuned
from irc.built import Built, built
from irc.calls import PreparedCall
from irc.codegen.expr import Kind
from irc.codegen.kernel import Kernel, Storage
from irc.codegen.schedule import Schedule
from irc.compiled import Compiled, Precision, arguments
from irc.contract import check
from irc.cuda import device_of
from irc.error import DeviceError, InputError, SpecWarning
from irc.grammar.source import Source
from irc.ir import Graph, Input, cotangent_name
from irc.proof.verdict import Verdict
from irc.runtime.arrays import storage_of
from irc.runtime.execute import Library
from irc.runtime.sizes import infer
from irc.specialise import feature_sizes, specialise

if TYPE_CHECKING:
    from irc.derived import Derivatives

Array = np.ndarray[Any, Any]
PREPARED_KEPT = 64  # signatures of arguments


class Program:
    """One attention program for one target and element type. Safe to call from several threads.

    `graph`, `backward_graph`, `source` and `kernels` show what was compiled; `verdicts` what was proved, by the
    text of each `ensure`: `str(program.verdicts["causal"])` begins with `proved`, or `refuted, accepted`.
    """

    def __init__(
        self, graph: Graph, verdicts: Sequence[Verdict], source: Source, sizes: Mapping[str, int],
        precision: Precision, target: str, schedule: Schedule | None = None,
    ) -> None:  # fmt: skip
        self.graph = graph
        self.text = source
        self.target = target
        self.device = device_of(target)
        self.precision = precision
        self.fixed = dict(sizes)
        self._schedule = schedule
        self.verdicts: dict[str, Verdict] = {verdict.text: verdict for verdict in verdicts}
        declared = {name for name, _ in graph.sizes}
        for name, value in sizes.items():
            if name not in declared:
                raise InputError(f"sizes: the program has no size {name}; it has {', '.join(sorted(declared))}")
            if value < 0:
                raise InputError(f"sizes: {name} must be a natural number, got {value}")
        for finding in graph.warnings:
            warnings.warn(finding.render(), SpecWarning, stacklevel=3)  # at the caller of `compile`
        self.features = feature_sizes(specialise(graph, sizes))
        self._built: dict[tuple[int, ...], Built[Compiled]] = {}
        self._lock = threading.Lock()
        self._arguments = [(n.name, self.storage(n)) for n in arguments(graph)]
        self._prepared: OrderedDict[Hashable, PreparedCall] = OrderedDict()
        self._kind = next((n.name for n in arguments(graph) if n.kind is Kind.FLOAT and n.shape), None)
        if not self.features:
            self.built({})

    # what was compiled

    def built(self, sizes: Mapping[str, int]) -> Built[Compiled]:
        """The kernels for these sizes, compiled if they are new."""
        key = tuple(sizes[name] for name in self.features)
        with self._lock:
            if key not in self._built:
                self._built[key] = self._build({**self.fixed, **dict(zip(self.features, key, strict=True))})
            return self._built[key]

    def _build(self, sizes: Mapping[str, int]) -> Built[Compiled]:
        def build(schedule: Schedule | None) -> Compiled:
            from irc.pipeline import back  # not needed, nor its imports, for what is stored

            return back(self.graph, self.text, sizes, self.precision, schedule)

        return built(self.target, self.text, sizes, self.precision, self.schedule(sizes), "runs", build)

    def schedule(self, sizes: Mapping[str, int]) -> Schedule:
        """The tiles of kernels compiled for these sizes: as given, else as `irc tune` has stored them."""
        if self._schedule is not None:
            return self._schedule
        return tuned.schedule(self.text, self.kernel_sizes(sizes), self.precision)

    def scheduled(self, schedule: Schedule, sizes: Mapping[str, int]) -> Program:
        """The same program with sizes of its own fixed, in tiles of the schedule."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SpecWarning)  # they have been shown
            verdicts = tuple(self.verdicts.values())
            return Program(self.graph, verdicts, self.text, sizes, self.precision, self.target, schedule)

    def kernel_sizes(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Those that the kernels hold as constants whatever else is fixed."""
        return {name: sizes[name] for name in feature_sizes(specialise(self.graph, {})) if name in sizes}

    def measured_through(self, sizes: Mapping[str, int], library: Library) -> None:
        """From now on, calls of these sizes run the same kernels in another loaded library, which watches them."""
        key = tuple(sizes[name] for name in self.features)
        self._built[key] = replace(self.built(sizes), library=library)
        with self._lock:
            self._prepared.clear()

    def _latest(self) -> Built[Compiled]:
        if not self._built:
            names = ", ".join(self.features)
            raise InputError(f"the kernels depend on {names}: give sizes to compile for, or call the program first")
        return next(reversed(self._built.values()))

    @property
    def backward_graph(self) -> Graph | None:
        return self._latest().compiled.backward_graph

    @property
    def source(self) -> str:
        """The generated C++."""
        return self._latest().compiled.source

    @property
    def cubin(self) -> bytes:
        """The machine code of a target "cuda:sm_80" or the like. Raises DeviceError for others."""
        path = getattr(self._latest().library, "path", None)
        if path is None:
            raise DeviceError(f'target {self.target!r} has no cubin to show: target="cuda:sm_90a" and the like do')
        return bytes(path.read_bytes())

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        return tuple(self._latest().kernels.values())

    # calls

    def __call__(self, **arrays: Any) -> Any:
        """The returned outputs in order; one alone is not a tuple. Arguments by name; results are of their kind."""
        with self.device.running(arrays.values()):
            call, taken, like = self._call(arrays)
            values = call.forward(taken, keep=False)
            outputs = tuple([self.device.give(values[name], like) for _, name in self.graph.outputs])
        return outputs[0] if len(outputs) == 1 else outputs

    def forward(self, **arrays: Any) -> Run:
        """Run the program and keep what `backward` needs. Raises InputError naming whatever does not fit."""
        with self.device.running(arrays.values()):
            call, taken, like = self._call(arrays)
            return Run(self, call, taken, like)

    def jvp(self, inputs: Mapping[str, Any], tangents: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Outputs, and their derivatives along `tangents` (forward mode), both by name.

        inputs: the arguments of a call. tangents: for floating inputs and params, arrays of their shape and element
        type; a missing one is zero. The tangent of an output has the shape and element type of the output.
        Kernels are compiled at the first call for each choice of tangents given. Raises InputError for a tangent of
        anything else, or of another shape or element type; Error where the tangents do not fuse.
        """
        with self.device.running(inputs.values()):
            taken, sizes, like = self._taken(inputs)
            found = self._derivatives.jvp(taken, tangents, sizes)
            outputs, moved = ({n: self.device.give(a, like) for n, a in values.items()} for values in found)
        return outputs, moved

    def hvp(
        self, inputs: Mapping[str, Any], vectors: Mapping[str, Any], cotangents: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The Hessian of sum(output * cotangent) times `vectors`: for every floating input and param, by name.

        inputs: the arguments of a call. vectors: as the tangents of `jvp`. cotangents: as those of `Run.backward`, held
        fixed. The result is the derivative of the gradients along the vectors, in the shapes of the inputs. Compiled
        and raises as `jvp`; for a cotangent of no output, or of another shape or element type, InputError.
        """
        with self.device.running(inputs.values()):
            taken, sizes, like = self._taken(inputs)
            products = self._derivatives.hvp(taken, vectors, cotangents, sizes)
            return {n: self.device.give(a, like) for n, a in products.items()}

    @cached_property
    def _derivatives(self) -> Derivatives:
        from irc.derived import Derivatives  # not needed by most programs

        return Derivatives(self)

    def _call(self, arrays: Mapping[str, Any]) -> tuple[PreparedCall, dict[str, Any], Any]:
        """The call prepared for arguments like these; the arguments as it takes them, checked; one whose kind the
        results take."""
        if len(arrays) != len(self._arguments) or any(name not in arrays for name, _ in self._arguments):
            self._names(arrays, [name for name, _ in self._arguments])
        values: dict[str, Any] = {}
        signature, take, threads = self.device.signature, self.device.take, self.device.threads()
        key: list[Hashable] = [threads]
        for name, storage in self._arguments:
            value = arrays[name]
            layout = signature(value)
            if layout is None:
                try:
                    value = take(name, value, storage)
                except InputError:
                    self._taken(arrays)  # it may not be the first that is wrong
                    raise
                layout = value.shape, value.strides
            values[name] = value
            key.append(layout)
        found = tuple(key)
        with self._lock:
            call = self._prepared.get(found)
            if call is not None:
                self._prepared.move_to_end(found)
        if call is None:
            call = self._prepare(arrays, threads)
            with self._lock:
                self._prepared[found] = call
                if len(self._prepared) > PREPARED_KEPT:
                    self._prepared.popitem(last=False)
        return call, call.arguments(values), None if self._kind is None else arrays[self._kind]

    def _prepare(self, arrays: Mapping[str, Any], threads: int) -> PreparedCall:
        taken, sizes, _ = self._taken(arrays)
        storages = dict(self._arguments)
        return PreparedCall(self.graph, self.built(sizes), storages, arrays, taken, sizes, threads, self.device)

    def _taken(self, arrays: Mapping[str, Any]) -> tuple[dict[str, Array], dict[str, int], Any]:
        """The arguments of a call, checked; the sizes that follow; an argument whose kind the results take."""
        inputs = arguments(self.graph)
        self._names(arrays, [n.name for n in inputs])
        taken = {n.name: self.device.take(n.name, arrays[n.name], self.storage(n)) for n in inputs}
        shapes = {name: array.shape for name, array in taken.items()}
        sizes = infer([(n.name, n.shape) for n in inputs], shapes, self.graph.sizes, self.fixed)
        check(self.graph, taken, sizes, self.device)
        return taken, sizes, None if self._kind is None else arrays[self._kind]

    def storage(self, node: Input) -> Storage:
        """The element type of an argument."""
        if node.kind is not Kind.FLOAT:
            return "i32" if node.kind is Kind.INT else "bool"
        return self.precision.arithmetic if node.role == "scalar" else self.precision.storage

    def _names(self, given: Mapping[str, Any], wanted: list[str]) -> None:
        for name in wanted:
            if name not in given:
                raise InputError(f"{name}: missing; {self.graph.name} takes {', '.join(wanted)}")
        for name in given:
            if name not in wanted:
                raise InputError(f"{name}: unknown; {self.graph.name} takes {', '.join(wanted)}")


class Run:
    """One forward run: `outputs` by name, and `backward`."""

    def __init__(self, program: Program, call: PreparedCall, inputs: Mapping[str, Any], like: Any) -> None:
        self._program = program
        self._call = call
        self._inputs = inputs
        self._values = call.forward(inputs, keep=True)
        self._like = like
        self._raw = {public: self._values[name] for public, name in program.graph.outputs}
        self._lock = threading.Lock()
        self.outputs: dict[str, Any] = {name: self._give(array) for name, array in self._raw.items()}

    def _give(self, array: Array) -> Any:
        return self._program.device.give(array, self._like)

    def backward(self, **cotangents: Any) -> dict[str, Any]:
        """Gradients of every floating `input` and `param`, by name, for cotangents of outputs; a missing one is zero.

        It reads the arguments again, so they must be as they were in the forward run. The first call uses up what that
        run kept; a further one runs it again. Raises InputError for a cotangent of no output, or of another shape or
        element type than its output's.
        """
        compiled = self._call.built.compiled
        graph = compiled.backward_graph
        if graph is None:
            raise InputError(f"{self._program.graph.name} has no floating input or param to differentiate")
        for name in cotangents:
            if name not in self._raw:
                raise InputError(f"{name}: no output of that name; the outputs are {', '.join(self._raw)}")
        with self._program.device.running((self._like, *cotangents.values())):
            return self._backward(graph, cotangents)

    def _backward(self, graph: Graph, cotangents: Mapping[str, Any]) -> dict[str, Any]:
        tensors: dict[str, Array] = {}
        for node in self._call.reads:
            if node.role == "saved" and node.name not in self._call.used_up:
                tensors[node.name] = self._values[node.name]
            elif node.role not in ("saved", "cotangent"):
                tensors[node.name] = self._inputs[node.name]
        for name, output in self._raw.items():
            node_name = cotangent_name(name)
            if node_name in graph.by_name:
                tensors[node_name] = self._cotangent(name, output, cotangents.get(name))
        values = self._call.backward(tensors, self._own())
        return {name: self._give(values[gradient]) for name, gradient in graph.outputs}

    def _own(self) -> dict[str, Array]:
        """What the forward run kept for one backward run alone; it is the caller's now."""
        compiled = self._call.built.compiled
        names = (*self._call.used_up, *compiled.forward.plan.kept)
        with self._lock:
            own = {name: self._values.pop(name) for name in names if name in self._values}
        if any(name not in own for name in self._call.used_up):
            values = self._call.forward(self._inputs, keep=True)
            own = {name: values[name] for name in names if name in values}
        return own

    def _cotangent(self, name: str, output: Array, value: Any) -> Array:
        storage = storage_of(output)
        if value is None:
            return self._program.device.allocate(output.shape, storage, zero=True)
        array = self._program.device.take(f"cotangent of {name}", value, storage)
        if array.shape != output.shape:
            raise InputError(f"cotangent of {name}: expected shape {list(output.shape)}, got {list(array.shape)}")
        return array
