"""Calls of what is derived on demand: tangents, and Hessians times vectors. Their kernels are compiled when they are
first asked for, one set for each choice of inputs that move, and kept like all others."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from irc.built import Built, built
from irc.codegen.kernel import Storage
from irc.codegen.schedule import Schedule
from irc.compiled import Derived
from irc.error import InputError
from irc.graph.interpret import interpret
from irc.graph.ir import cotangent_name, shape
from irc.passes.differentiate import differentiable
from irc.passes.tangent import tangent_name
from irc.runtime import machine
from irc.runtime.arrays import Array
from irc.runtime.execute import run
from irc.runtime.sizes import evaluate

if TYPE_CHECKING:
    from irc.calls.program import Program


class Derivatives:
    """What has been derived of one program. Calls take arguments that fit the program already, and their sizes.
    Safe to call from several threads."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.graph = program.graph
        self._made: dict[tuple[object, ...], Built[Derived]] = {}
        self._lock = threading.Lock()

    def jvp(
        self, inputs: Mapping[str, Array], tangents: Mapping[str, Any], sizes: Mapping[str, int]
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Outputs and their tangents, by name."""
        moves = self._moves("tangent", tangents, inputs)
        made = self._kernels(False, moves, inputs, sizes)
        values = self._run(made, {**inputs, **moves}, sizes)
        names = dict(made.compiled.graph.outputs)
        outputs = {n: values[names[n]] for n, _ in self.graph.outputs}
        return outputs, {n: values[names[tangent_name(n)]] for n in outputs if tangent_name(n) in names}

    def hvp(
        self, inputs: Mapping[str, Array], vectors: Mapping[str, Any], cotangents: Mapping[str, Any],
        sizes: Mapping[str, int],
    ) -> dict[str, Array]:  # fmt: skip
        """The Hessian of sum(output * cotangent) times the vectors, by input."""
        moves = self._moves("vector", vectors, inputs)
        made = self._kernels(True, moves, inputs, sizes)
        values = self._run(made, {**inputs, **moves, **self._cotangents(made, cotangents, sizes)}, sizes)
        return {public: values[name] for public, name in made.compiled.graph.outputs}

    def _moves(self, what: str, given: Mapping[str, Any], inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The tangents of inputs, by their names in the graph; None is as a missing one."""
        takes = differentiable(self.graph)
        for name in given:
            if name not in takes:
                raise InputError(f"{what} of {name}: no floating input or param; those are {', '.join(takes)}")
        found = {}
        for name in takes:
            if given.get(name) is not None:
                storage = self.program.precision.storage
                found[tangent_name(name)] = self._like(f"{what} of {name}", given[name], storage, inputs[name].shape)
        return found

    def _cotangents(self, made: Built[Derived], given: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Array]:
        """The cotangents that the graph takes; one missing is zero."""
        public = dict(self.graph.outputs)
        for name in given:
            if name not in public:
                raise InputError(f"{name}: no output of that name; the outputs are {', '.join(public)}")
        fused = made.compiled.fused
        stored = {t.name: t.storage for t in fused.plan.tensors} if fused else {}
        found = {}
        for name, node in public.items():
            if (own := cotangent_name(name)) in made.compiled.graph.by_name:
                storage = stored.get(own, self.program.precision.storage)
                dims = tuple(evaluate(e, sizes) for e in shape(self.graph[node]))
                if given.get(name) is None:
                    found[own] = self.program.device.allocate(dims, storage, zero=True)
                else:
                    found[own] = self._like(f"cotangent of {name}", given[name], storage, dims)
        return found

    def _kernels(
        self, second_order: bool, moves: Mapping[str, Array], inputs: Mapping[str, Array], sizes: Mapping[str, int]
    ) -> Built[Derived]:
        """Those for a choice of inputs that move, compiled if they are new."""
        program = self.program
        precision = replace(program.precision, integers=program.integers(inputs))
        along = tuple(n for n in differentiable(self.graph) if tangent_name(n) in moves)
        known = {**program.fixed, **{name: sizes[name] for name in program.features}}
        key = (second_order, along, tuple(known.items()), precision)
        what = " ".join(("hvp" if second_order else "jvp", *along))

        def build(steps: bool) -> Derived:
            from irc.pipeline import tangents  # not needed, nor its imports, for what is stored

            return tangents(self.graph, known, precision, along, second_order, steps, program.host)

        with self._lock:
            if key not in self._made:
                schedule = Schedule(machine.caches())
                self._made[key] = built(program.target, program.text, known, precision, schedule, what, build)
            return self._made[key]

    def _run(self, made: Built[Derived], tensors: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Array]:
        """The outputs, by the names of the graph."""
        if made.library is None or made.compiled.fused is None:
            return interpret(made.compiled.graph, tensors, sizes)
        return run(made.compiled.fused.plan, made.library, made.kernels, tensors, sizes, self.program.device.threads())

    def _like(self, what: str, value: object, storage: Storage, dims: tuple[int, ...]) -> Array:
        array = self.program.device.take(what, value, storage)
        if array.shape != dims:
            raise InputError(f"{what}: expected shape {list(dims)}, got {list(array.shape)}")
        return array
