"""A call prepared: what follows from the types and layouts of its arguments alone is worked out once.

Calls whose arguments have the same layouts share sizes, kernels, the shapes of all that is made, and the way each
kernel is called. What depends on entries is checked at every call: see contract.py.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from irc.built import Built
from irc.calls.carried import Carrying
from irc.calls.contract import check, tables
from irc.calls.taking import Taking
from irc.codegen.kernel import Storage
from irc.compiled import Compiled, Fused
from irc.error import InputError
from irc.graph.interpret import interpret
from irc.graph.ir import Graph, cotangent_name, shape
from irc.runtime.arrays import Array, address
from irc.runtime.device import Device
from irc.runtime.execute import Prepared, Tensors, direct
from irc.runtime.sizes import evaluate

BACKWARD_KEPT = 16  # layouts of cotangents


@dataclass(frozen=True)
class Cotangent:
    """What a backward run reads for an output."""

    output: str
    tensor: str
    what: str
    storage: Storage
    shape: tuple[int, ...]
    device: Device

    @cached_property
    def zero(self) -> tuple[Array, int]:
        """What is read where none is given: an array and its address."""
        array = self.device.zeros(self.shape, self.storage)
        return array, address(array)

    def take(self, value: Any) -> Array:
        """As an array. Raises InputError."""
        if value is None:
            return self.zero[0]
        array = self.device.take(self.what, value, self.storage)
        if array.shape != self.shape:
            raise InputError(f"{self.what}: expected shape {list(self.shape)}, got {list(array.shape)}")
        return array


@dataclass(frozen=True, slots=True)
class Backward:
    """Backward runs for cotangents of certain layouts, by the names of what the forward run kept for them alone."""

    taking: Taking
    runs: dict[tuple[str, ...], Prepared] = field(default_factory=dict)


class PreparedCall:
    """Forward and backward runs for arguments of certain layouts.

    given: the arguments as they came; looked: as `look` answered; taken: as arrays, of which the facts have been
    checked. Safe to call from several threads.
    """

    def __init__(
        self, graph: Graph, built: Built[Compiled], storages: Mapping[str, Storage], given: Mapping[str, Any],
        looked: Tensors, taken: Mapping[str, Array], sizes: Mapping[str, int], threads: int, device: Device,
    ) -> None:  # fmt: skip
        self.device = device
        self.graph, self.built, self.sizes, self.threads = graph, built, dict(sizes), threads
        compiled = built.compiled
        self.keeps = compiled.keeps(sizes)
        read = tables(graph)
        self._read = tuple(name for name in taken if name in read)
        self._checked = _bytes(self._entries(taken))
        whole = {*self._read} | self._whole(taken, compiled.forward, compiled.backward)
        self.taking = Taking(storages, given, looked, taken, whole, device)
        self.checks = self.taking.needed or bool(self._read)
        self._forward: dict[bool, Prepared] = {}
        self._backward: dict[Hashable, Backward] = {}
        backward = compiled.backward_graph
        self.outputs = dict(graph.outputs)
        self.gradients = dict(backward.outputs) if backward is not None else {}
        self.used_up = frozenset(compiled.used_up)
        self._owned = (*compiled.used_up, *compiled.forward.plan.kept)
        read_again = {n.name for n in backward.inputs} if backward is not None else set()
        self._cotangents = tuple(self._cotangent(o) for o in self.outputs if cotangent_name(o) in read_again)

    @cached_property
    def carrying(self) -> Carrying:
        """What leaves as tensors of the caller's for a backward run."""
        return Carrying(self.graph, self.built, self.sizes, self.device)

    def _whole(self, taken: Mapping[str, Array], *runs: Fused | None) -> set[str]:
        """Of what runs read, that of which they need more than the address."""
        library = self.built.library
        if library is None or not library.by_address:
            return set(taken)
        return {name for run in runs if run is not None for name in taken.keys() - direct(run.plan)}

    def _cotangent(self, output: str) -> Cotangent:
        node = self.outputs[output]
        stored = {t.name: t.storage for t in self.built.compiled.forward.plan.tensors}
        storage = "f64" if self.built.library is None else stored[node]
        dims = tuple(evaluate(e, self.sizes) for e in shape(self.graph[node]))
        return Cotangent(output, cotangent_name(output), f"cotangent of {output}", storage, dims, self.device)

    def check(self, tensors: Tensors) -> None:
        """Make of arguments, as `look` answered, what runs take, and check what depends on entries. Raises
        InputError."""
        self.taking.take(tensors)
        self._check_entries(tensors.arrays)

    def _check_entries(self, arrays: Mapping[str, Array]) -> None:
        entries = self._entries(arrays)
        found = _bytes(entries)
        if found != self._checked:
            check(self.graph, entries, self.sizes)
            self._checked = found

    def _entries(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Of scalars and tables that facts and accesses read: a model's layers share them, and check them once."""
        return {name: self.device.entries(arrays[name]) for name in self._read}

    def forward(self, tensors: Tensors, keep: bool) -> None:
        """Add to the arguments, by the names of the graph: outputs, what `backward` needs, with `keep` what it would
        else compute again where that costs much."""
        prepared = self._forward.get(keep and self.keeps)
        if prepared is not None:
            prepared.run(tensors)
            return
        library, compiled = self.built.library, self.built.compiled
        if library is None:
            tensors.arrays |= interpret(compiled.forward_graph, tensors.arrays, self.sizes)
            return
        if keep:  # kernels of the backward run may be compiled at the same time
            library.load(self.sizes)
        plan, keep = compiled.forward.plan, keep and self.keeps
        with self.taking.whole(tensors):
            prepared = Prepared(plan, library, self.built.kernels, tensors, self.sizes, self.threads, keep=keep)
            prepared.run(tensors)
        self._forward[keep] = prepared

    def owned(self, tensors: Tensors) -> dict[str, Array]:
        """Take out of what a forward run has made that which it keeps for one backward run alone."""
        return {name: tensors.arrays.pop(name) for name in self._owned if name in tensors.arrays}

    def backward(self, tensors: Tensors, given: Mapping[str, Any], take_owned: Callable[[], dict[str, Array]]) -> None:
        """Add gradients, by the names of the graph, to what a forward run took and made.

        given: cotangents by output. take_owned: gives what that run kept for this one, which uses it up. Raises
        InputError for a cotangent that does not fit, before anything is used up, and for a table in the host's memory
        that has since come to hold what no call takes.
        """
        backward = self._take_cotangents(tensors, given)
        if self._read and all(isinstance(tensors.arrays[name], np.ndarray) for name in self._read):
            self._check_entries(tensors.arrays)
        owned = take_owned()
        names = tuple(owned)
        if names:
            tensors.places |= {name: address(array) for name, array in owned.items()}
            tensors.arrays |= owned
        del owned
        prepared = backward.runs.get(names)
        if prepared is not None:
            prepared.run(tensors)
            return
        library, graph, fused = self.built.library, self.built.compiled.backward_graph, self.built.compiled.backward
        assert graph is not None and fused is not None
        if library is None:
            tensors.arrays |= interpret(graph, tensors.arrays, self.sizes)
            return
        with self.taking.whole(tensors), backward.taking.whole(tensors):
            prepared = Prepared(fused.plan, library, self.built.kernels, tensors, self.sizes, self.threads, names)
            prepared.run(tensors)
        backward.runs[names] = prepared

    def _take_cotangents(self, tensors: Tensors, given: Mapping[str, Any]) -> Backward:
        """The runs for these cotangents, which are added to the tensors."""
        layouts: list[Hashable] = []
        try:
            for cotangent in self._cotangents:
                value = given.get(cotangent.output)
                if value is None:
                    layout, (value, place) = None, cotangent.zero
                else:
                    layout, value, place = self.device.look(cotangent.what, value, cotangent.storage)
                layouts.append(layout)
                tensors.arrays[cotangent.tensor], tensors.places[cotangent.tensor] = value, place
        except InputError:
            self._backward_of(tensors, given)  # it may not be the first that is wrong
            raise
        key = tuple(layouts)
        backward = self._backward.get(key)
        if backward is None:
            backward = self._backward_of(tensors, given)
            if len(self._backward) >= BACKWARD_KEPT:
                self._backward = {}
            self._backward[key] = backward
        if backward.taking.needed:
            backward.taking.take(tensors)
        return backward

    def _backward_of(self, tensors: Tensors, given: Mapping[str, Any]) -> Backward:
        taken = {c.tensor: c.take(given.get(c.output)) for c in self._cotangents}
        storages = {c.tensor: c.storage for c in self._cotangents}
        named = {c.tensor: given.get(c.output) for c in self._cotangents}
        whole = self._whole(taken, self.built.compiled.backward)
        return Backward(Taking(storages, named, tensors, taken, whole, self.device))


def _bytes(entries: Mapping[str, Array]) -> tuple[bytes, ...]:
    return tuple([array.tobytes() for array in entries.values()])
