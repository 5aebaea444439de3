"""A call prepared: what follows from the types and layouts of its arguments alone is worked out once.

Calls whose arguments have the same signature share sizes, kernels, the shapes of all that is made, and the way each
kernel is called. What depends on entries is checked at every call: see contract.py.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, MutableMapping
from typing import Any

from irc.built import Built
from irc.codegen.kernel import Storage
from irc.compiled import Compiled
from irc.contract import check, tables
from irc.interpret import interpret
from irc.ir import Graph
from irc.runtime.arrays import Array, address
from irc.runtime.device import Device
from irc.runtime.execute import Prepared, direct

BACKWARD_KEPT = 16  # layouts of cotangents


class PreparedCall:
    """Forward and backward runs for arguments of one signature.

    given: the arguments as they came; taken: the same as arrays, of which the facts have been checked. Safe to call
    from several threads.
    """

    def __init__(
        self, graph: Graph, built: Built[Compiled], storages: Mapping[str, Storage], given: Mapping[str, Any],
        taken: Mapping[str, Array], sizes: Mapping[str, int], threads: int, device: Device,
    ) -> None:  # fmt: skip
        self.device = device
        self.graph, self.built, self.sizes, self.threads = graph, built, dict(sizes), threads
        compiled = built.compiled
        self.keeps = compiled.choice is not None and compiled.choice.keep(sizes)
        read = tables(graph)
        # What a backward run reads, and the memory it uses up.
        self.reads = compiled.backward_graph.inputs if compiled.backward_graph is not None else ()
        self.used_up = compiled.used_up
        self._tables = any(name in read and array.ndim for name, array in taken.items())
        self._scalars = tuple(name for name, array in taken.items() if name in read and not array.ndim)
        self._checked = self._values(taken)
        by_address = built.library is not None and built.library.by_address
        whole = {n for n in read if taken[n].ndim} if by_address else set(taken)
        for fused in (compiled.forward, compiled.backward) if by_address else ():
            whole |= set(taken) - direct(fused.plan) if fused is not None else set()
        # Others come as arrays of our own.
        viewed = [name for name in taken if device.signature(given[name]) is not None]
        moved = [name for name in viewed if taken[name].size and address(given[name]) != address(taken[name])]
        self._takes = {name: storages[name] for name in viewed if name in whole or name in moved}
        self._direct = {name: storages[name] for name in viewed if name not in self._takes}
        self._forward: dict[bool, Prepared] = {}
        self._backward: dict[Hashable, Prepared] = {}

    def arguments(self, values: dict[str, Any]) -> dict[str, Any]:
        """Arguments of this signature as runs take them, checked: as arrays, but as they came where kernels alone read
        them and where they lie. Raises InputError."""
        for name, storage in self._takes.items():
            values[name] = self.device.take(name, values[name], storage)
        if self._tables or (self._scalars and self._values(values) != self._checked):
            check(self.graph, values, self.sizes, self.device)
            self._checked = self._values(values)
        return values

    def _arrays(self, arguments: Mapping[str, Any]) -> dict[str, Array]:
        """All of them as arrays, which the first run of a plan looks at."""
        return {n: self.device.take(n, a, self._direct[n]) if n in self._direct else a for n, a in arguments.items()}

    def _values(self, values: Mapping[str, Array]) -> tuple[bytes, ...]:
        return tuple([self.device.entries(values[name]).tobytes() for name in self._scalars])

    def forward(self, arguments: Mapping[str, Any], keep: bool) -> dict[str, Array]:
        """Outputs, what `backward` needs, and with `keep` what it would else compute again where that costs much; by
        the names of the graph."""
        library, compiled = self.built.library, self.built.compiled
        if library is None:
            return interpret(compiled.forward_graph, arguments, self.sizes)
        follows, keep = keep, keep and self.keeps
        prepared = self._forward.get(keep)
        if prepared is not None:
            return prepared.run(arguments)
        if follows:  # kernels of the backward run may be compiled at the same time
            library.load()
        plan, kernels = compiled.forward.plan, self.built.kernels
        arguments = self._arrays(arguments)
        prepared = Prepared(plan, library, kernels, arguments, self.sizes, self.threads, {}, keep)
        values = prepared.run(arguments)
        self._forward[keep] = prepared
        return values

    def backward(self, tensors: Mapping[str, Any], owned: MutableMapping[str, Array]) -> dict[str, Array]:
        """Gradients, by the names of the graph. `owned` is used up."""
        library, graph, fused = self.built.library, self.built.compiled.backward_graph, self.built.compiled.backward
        assert graph is not None and fused is not None
        if library is None:
            return interpret(graph, {**tensors, **owned}, self.sizes)
        cotangents = [tensors[n.name].strides for n in self.reads if n.role == "cotangent"]
        key = (*cotangents, *owned)
        prepared = self._backward.get(key)
        if prepared is not None:
            return prepared.run(tensors, owned)
        plan, kernels = fused.plan, self.built.kernels
        tensors = self._arrays(tensors)
        prepared = Prepared(plan, library, kernels, tensors, self.sizes, self.threads, owned, False)
        values = prepared.run(tensors, owned)
        if len(self._backward) >= BACKWARD_KEPT:
            self._backward = {}
        self._backward[key] = prepared
        return values
