"""A compiled program on arrays: calls, forward runs, their backward."""

from __future__ import annotations

import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from inspect import Parameter, Signature
from keyword import iskeyword
from typing import TYPE_CHECKING, Any

import numpy as np

from irc.built import Built, built
from irc.calls import autograd, handles
from irc.calls.calls import PreparedCall
from irc.calls.contract import check, check_sizes, entries_of, unknown
from irc.codegen.expr import Kind
from irc.codegen.kernel import Kernel, Storage
from irc.codegen.schedule import Schedule
from irc.compiled import Compiled, Integers, Precision, arguments
from irc.cuda import device_of
from irc.error import DeviceError, Error, InputError, SpecWarning
from irc.grammar.source import Source
from irc.graph.ir import Graph, Input
from irc.passes.specialise import feature_sizes, specialise
from irc.proof.verdict import Verdict
from irc.runtime.arrays import give, storage_of
from irc.runtime.execute import Library, Tensors
from irc.runtime.sizes import infer
from irc.tuning import tuned

if TYPE_CHECKING:
    from irc.calls.derived import Derivatives

Array = np.ndarray[Any, Any]
PREPARED_KEPT = 64  # signatures of arguments
MOST_FEATURES = (1 << 31) - 1  # of a size that kernels hold as a constant


class Program:
    """One attention program for one target and element type. Safe to call from several threads.

    `graph`, `backward_graph`, `source` and `kernels` show what was compiled; `verdicts` what was proved, by the
    text of each `ensure`: `str(program.verdicts["causal"])` begins with `proved`, or `refuted, accepted`. Printed, a
    program says what it takes and returns, and its verdicts. `handle` names the program in graphs of PyTorch.
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
        for name, value in self.kernel_sizes(sizes).items():
            if value > MOST_FEATURES:
                raise InputError(f"sizes: {name} must be at most {MOST_FEATURES}, got {value}")
        for finding in graph.warnings:
            warnings.warn(finding.render(), SpecWarning, stacklevel=4)  # at the caller of `compile`
        self.host = target == "cpu"  # whether kernels are the host's
        self.features = feature_sizes(specialise(graph, sizes), precision.arithmetic)
        self._built: dict[Hashable, Built[Compiled]] = {}
        self._lock = threading.Lock()
        self.handle = handles.handle(self, sorted(sizes.items()), precision, schedule)
        self.storages = {n.name: self.storage(n) for n in arguments(graph)}
        self.differentiated = {
            n.name for n in arguments(graph) if n.kind is Kind.FLOAT and n.role in ("input", "param")
        }
        self.returned = dict(graph.outputs)
        self._prepared: OrderedDict[Hashable, PreparedCall] = OrderedDict()
        self._latest_call: tuple[list[Hashable], PreparedCall] | None = None
        self.results_like = next((n.name for n in arguments(graph) if n.kind is Kind.FLOAT and n.shape), None)
        self.__signature__ = _signature(self.storages)
        if not self.features:
            self.built({})

    def __repr__(self) -> str:
        from irc.show.signature import signature  # not needed by calls

        fixed = "".join(f", {name}={value}" for name, value in self.fixed.items())
        return f"<irc {signature(self.graph)}, {self.precision.storage} on {self.target}{fixed}>"

    def __str__(self) -> str:
        """What it takes and returns, and what was proved: what is not proved of a program was accepted."""
        return "\n".join([repr(self), *(f"  {verdict.text}: {verdict}" for verdict in self.verdicts.values())])

    # copies: nothing of a program changes, so a model's copies share it, and a process that reads it compiles it anew

    def __copy__(self) -> Program:
        return self

    def __deepcopy__(self, memo: object) -> Program:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        from irc.compiler import again  # it imports this file

        accepted = tuple(name for name, verdict in self.verdicts.items() if verdict.accepted)
        text, dtype = self.text, self.precision.storage
        return again, (text.name, text.text, self.fixed, dtype, self.target, accepted, self._schedule)

    # what was compiled

    def built(self, sizes: Mapping[str, int], integers: Integers = ()) -> Built[Compiled]:
        """The kernels for these sizes, and for integers that have less than 32 bits, compiled if they are new."""
        key = self._key(sizes, integers)
        with self._lock:
            if key not in self._built:
                known = {**self.fixed, **{name: sizes[name] for name in self.features}}
                self._built[key] = self._build(known, replace(self.precision, integers=integers))
            return self._built[key]

    def integers(self, taken: Mapping[str, Array]) -> Integers:
        """Those arguments that are integers of less than 32 bits: kernels of their own read them as they are."""
        whole = [(name, storage_of(taken[name])) for name, storage in self.storages.items() if storage == "i32"]
        return tuple((name, storage) for name, storage in whole if storage != "i32")

    def _key(self, sizes: Mapping[str, int], integers: Integers) -> Hashable:
        if not sizes.keys() >= {*self.features}:
            raise self._open()
        return tuple(sizes[name] for name in self.features), integers

    def _build(self, sizes: Mapping[str, int], precision: Precision) -> Built[Compiled]:
        def build(steps: bool) -> Compiled:
            from irc.pipeline import back  # not needed, nor its imports, for what is stored

            return back(self.graph, sizes, precision, steps, self.host)

        return built(self.target, self.text, sizes, precision, self.schedule(sizes), "runs", build)

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
        names = feature_sizes(specialise(self.graph, {}), self.precision.arithmetic)
        return {name: sizes[name] for name in names if name in sizes}

    def measured_through(self, sizes: Mapping[str, int], library: Library, integers: Integers = ()) -> None:
        """From now on, calls of these sizes run the same kernels in another loaded library, which watches them."""
        self._built[self._key(sizes, integers)] = replace(self.built(sizes, integers), library=library)
        with self._lock:
            self._prepared.clear()
            self._latest_call = None

    def _latest(self) -> Built[Compiled]:
        if not self._built:
            raise self._open()
        return next(reversed(self._built.values()))

    def _open(self) -> InputError:
        names, example = ", ".join(self.features), ",".join(f"{name}=64" for name in self.features)
        return InputError(f"the kernels depend on {names}: compile for sizes (--size {example}), or call it first")

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

    def __call__(self, *unnamed: Any, **arrays: Any) -> Any:
        """The returned outputs in order; one alone is not a tuple. Arguments by name; results are of their kind, and
        take part in PyTorch's autograd where arguments do."""
        if unnamed:
            raise _unnamed(self.graph.name, "arguments", unnamed, self.storages)
        like = arrays.get(self.results_like or "")
        if autograd.traced():
            from irc.calls import operators  # needs PyTorch

            outputs = operators.called(self, arrays)
        elif like is not None and (followed := autograd.followed(arrays)):
            outputs = autograd.outputs(self, arrays, followed, like)
        else:
            with self.device.running(arrays.values()):
                outputs = tuple(self._ran(arrays, keep=False)[3])
        return outputs[0] if len(outputs) == 1 else outputs

    @autograd.outside_graphs
    def forward(self, *unnamed: Any, **arrays: Any) -> Run:
        """Run the program and keep what `backward` needs. Raises InputError naming whatever does not fit."""
        if unnamed:
            raise _unnamed(self.graph.name, "arguments", unnamed, self.storages)
        with self.device.running(arrays.values()):
            call, tensors, like, outputs = self._ran(arrays, keep=True)
            return Run(self, call, tensors, like, dict(zip(self.returned, outputs, strict=True)))

    def _ran(self, arrays: Mapping[str, Any], keep: bool) -> tuple[PreparedCall, Tensors, Any, list[Any]]:
        """A forward run: its call and tensors, the argument whose kind results take, and the outputs in order."""
        call, tensors, like = self._call(arrays)
        call.forward(tensors, keep)
        made, give = tensors.arrays, self.device.give
        return call, tensors, like, [give(made[name], like) for name in self.returned.values()]

    def carried(self, arrays: Mapping[str, Any], keep: bool) -> list[Any]:
        """The outputs of a forward run, and with `keep` what `resumed` needs, as tensors of PyTorch."""
        with self.device.running(arrays.values()):
            call, tensors, like, outputs = self._ran(arrays, keep)
            packed = call.carrying.pack(tensors) if keep else ()
            return [*outputs, *(self.device.give(array, like) for array in packed)]

    def resumed(self, arrays: Mapping[str, Any], carried: Sequence[Any]) -> Run:
        """The forward run that gave what was `carried`, or with none of that a new one, for arguments as they were."""
        with self.device.running(arrays.values()):
            call, tensors, like = self._call(arrays)
            outputs, packed = dict(zip(self.returned, carried, strict=False)), carried[len(self.returned) :]
            if not (carried and call.carrying.unpack(tensors, outputs, packed)):
                call.forward(tensors, keep=True)
            return Run(self, call, tensors, like, outputs)

    @autograd.outside_graphs
    def jvp(self, inputs: Mapping[str, Any], tangents: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Outputs, and their derivatives along `tangents` (forward mode), both by name.

        inputs: the arguments of a call. tangents: for floating inputs and params, arrays of their shape and element
        type; a missing one is zero. The tangent of an output has the shape and element type of the output.
        Kernels are compiled at the first call for each choice of tangents given. Raises InputError for a tangent of
        anything else, or of another shape or element type; Error where the tangents do not fuse.
        """
        _by_name(inputs=inputs, tangents=tangents)
        with self.device.running(inputs.values()):
            taken, sizes, like = self._taken(inputs)
            found = self._derivatives.jvp(taken, tangents, sizes)
            outputs, moved = ({n: self.device.give(a, like) for n, a in values.items()} for values in found)
        return outputs, moved

    @autograd.outside_graphs
    def hvp(
        self, inputs: Mapping[str, Any], vectors: Mapping[str, Any], cotangents: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The Hessian of sum(output * cotangent) times `vectors`: for every floating input and param, by name.

        inputs: the arguments of a call. vectors: as the tangents of `jvp`. cotangents: as those of `Run.backward`, held
        fixed. The result is the derivative of the gradients along the vectors, in the shapes of the inputs. Compiled
        and raises as `jvp`; for a cotangent of no output, or of another shape or element type, InputError.
        """
        _by_name(inputs=inputs, vectors=vectors, cotangents=cotangents)
        with self.device.running(inputs.values()):
            taken, sizes, like = self._taken(inputs)
            products = self._derivatives.hvp(taken, vectors, cotangents, sizes)
            return {n: self.device.give(a, like) for n, a in products.items()}

    @cached_property
    def _derivatives(self) -> Derivatives:
        from irc.calls.derived import Derivatives  # not needed by most programs

        return Derivatives(self)

    def _call(self, arrays: Mapping[str, Any]) -> tuple[PreparedCall, Tensors, Any]:
        """The call prepared for arguments like these; the arguments as it takes them, checked; one whose kind the
        results take."""
        threads, look = self.device.threads(), self.device.look
        key: list[Hashable] = [threads]
        values: dict[str, Any] = {}
        places: dict[str, int] = {}
        try:
            for name, storage in self.storages.items():
                layout, values[name], places[name] = look(name, arrays[name], storage)
                key.append(layout)
        except (InputError, KeyError):
            self._taken(arrays)  # names what is wrong, and first what is first
            raise
        if len(arrays) > len(values):
            self.check_names(arrays)
        tensors = Tensors(values, places)
        latest = self._latest_call
        if latest is not None and latest[0] == key:
            call = latest[1]
        else:
            call = self._prepared_for(tuple(key), threads, arrays, tensors)
            self._latest_call = key, call
        if call.checks:
            call.check(tensors)
        return call, tensors, self.like(arrays)

    def _prepared_for(self, key: Hashable, threads: int, arrays: Mapping[str, Any], looked: Tensors) -> PreparedCall:
        """The call prepared for a key: a number of threads and layouts of arguments, as these have."""
        with self._lock:
            call = self._prepared.get(key)
            if call is not None:
                self._prepared.move_to_end(key)
                return call
        taken, sizes, _ = self._taken(arrays)
        integers = self.integers(taken)
        built, storages = self.built(sizes, integers), self.storages | dict(integers)
        call = PreparedCall(self.graph, built, storages, arrays, looked, taken, sizes, threads, self.device)
        with self._lock:
            self._prepared[key] = call
            if len(self._prepared) > PREPARED_KEPT:
                self._prepared.popitem(last=False)
        return call

    def _taken(self, arrays: Mapping[str, Any]) -> tuple[dict[str, Array], dict[str, int], Any]:
        """The arguments of a call, checked; the sizes that follow; an argument whose kind the results take."""
        self.check_names(arrays)
        taken = {name: self.device.take(name, arrays[name], storage) for name, storage in self.storages.items()}
        sizes = self.sizes_of({name: array.shape for name, array in taken.items()})
        check(self.graph, entries_of(self.graph, taken, self.device), sizes)
        check_sizes(self.graph, sizes)
        return taken, sizes, self.like(arrays)

    def sizes_of(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
        """Those that follow from the shapes of arguments."""
        return infer([(n.name, n.shape) for n in arguments(self.graph)], shapes, self.graph.sizes, self.fixed)

    def like(self, arrays: Mapping[str, Any]) -> Any:
        """The argument whose kind the results take, if there is one."""
        return None if self.results_like is None else arrays[self.results_like]

    def storage(self, node: Input) -> Storage:
        """The element type of an argument."""
        if node.kind is not Kind.FLOAT:
            return "i32" if node.kind is Kind.INT else "bool"
        return self.precision.arithmetic if node.role == "scalar" else self.precision.storage

    def check_names(self, given: Mapping[str, Any]) -> None:
        wanted = self.storages
        for name in given:
            if name not in wanted:
                raise self._unknown(name)
        for name in wanted:
            if name not in given:
                raise InputError(f"{name}: missing; {self.graph.name} takes {', '.join(wanted)}")

    def _unknown(self, name: str) -> InputError:
        if name in dict(self.graph.sizes):
            how = f"irc.compile(…, sizes={{{name!r}: …}})"
            return InputError(f"{name} is a size: it follows from the shapes, or is given as {how}")
        return unknown(name, self.graph.name, [*self.storages])


class Run:
    """A forward run that kept what `backward` needs: `outputs` by name, which it reads, and `backward`."""

    def __init__(
        self, program: Program, call: PreparedCall, tensors: Tensors, like: Any, outputs: dict[str, Any]
    ) -> None:
        self._program = program
        self._call = call
        self._like = like
        self.outputs = outputs
        self._owned = call.owned(tensors)
        self._tensors = tensors
        self._lock = threading.Lock()
        self._process = os.getpid()

    @autograd.outside_graphs
    def backward(self, *unnamed: Any, **cotangents: Any) -> dict[str, Any]:
        """Gradients of every floating `input` and `param`, by name, for cotangents of outputs; a missing one is zero.

        It reads the arguments and the outputs again, so they must be as they were: an output that is changed in place,
        as by `o += x`, gives other gradients. The first call uses up what the forward run kept; a further one runs it
        again. Raises InputError for a cotangent of no output, or of another shape or element type than its output's.
        """
        call = self._call
        if unnamed:
            raise _unnamed("backward", "cotangents", unnamed, call.outputs)
        if not call.gradients:
            raise InputError(f"{self._program.graph.name} has no floating input or param to differentiate")
        for name in cotangents:
            if name not in call.outputs:
                raise InputError(f"{name}: no output of that name; the outputs are {', '.join(call.outputs)}")
        if call.threads > 1 and self._process != os.getpid():
            return self._here().backward(**cotangents)
        device = self._program.device
        with device.running((self._like, *cotangents.values())):
            call.taking.look_again(self._tensors)
            tensors = self._tensors.copy()
            call.backward(tensors, cotangents, self._take_owned)
            made = tensors.arrays
            return {public: device.give(made[name], self._like) for public, name in call.gradients.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        raise Error("a forward run is of this process and is no data: copy or pickle its outputs, and the program")

    def _here(self) -> Run:
        """The same run, run again in a process made by fork, which has fewer threads than the one that began it."""
        program, arrays = self._program, self._tensors.arrays
        arguments = {name: give(arrays[name], arrays[name], storage) for name, storage in program.storages.items()}
        call, tensors, _ = program._call(arguments)
        call.forward(tensors, keep=True)
        return Run(program, call, tensors, self._like, self.outputs)

    def _take_owned(self) -> dict[str, Array]:
        """What the forward run kept for one backward run alone; it is the caller's now."""
        with self._lock:
            owned, self._owned = self._owned, {}
        if not owned.keys() >= self._call.used_up:
            tensors = self._tensors.copy()
            self._call.forward(tensors, keep=True)
            owned = self._call.owned(tensors)
        return owned


def _unnamed(taker: str, what: str, given: Sequence[Any], names: Iterable[str]) -> InputError:
    expected = ", ".join(f"{name}=..." for name in names)
    return InputError(f"{taker}: expected {what} by name, {expected}; got {len(given)} without a name")


def _signature(names: Iterable[str]) -> Signature:
    """Of a call, for editors and notebooks; a name that Python keeps for itself goes by `**`."""
    named = [Parameter(name, Parameter.KEYWORD_ONLY) for name in names if not iskeyword(name)]
    return Signature([*named, Parameter("others", Parameter.VAR_KEYWORD)] if any(map(iskeyword, names)) else named)


def _by_name(**given: Any) -> None:
    """Raise InputError for what is no mapping from names."""
    for what, values in given.items():
        if not isinstance(values, Mapping):
            kind = "None" if values is None else type(values).__name__
            raise InputError(f"{what}: expected arrays by name, as in {{'q': q}}, got {kind}")
