"""What a forward run leaves for a backward run, as plain arrays: for graphs of PyTorch, which hold tensors alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from irc.built import Built
from irc.compiled import Compiled
from irc.graph.interpret import DTYPES
from irc.graph.ir import Graph, Node, kind, shape
from irc.runtime.arrays import DTYPE, Array, address
from irc.runtime.device import Device
from irc.runtime.execute import Tensors
from irc.runtime.sizes import evaluate


@dataclass(frozen=True, slots=True)
class Made:
    """A tensor of a run, by its name in the graph."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def outputs(graph: Graph, built: Built[Compiled], sizes: Mapping[str, int]) -> list[Made]:
    """Those of a call, in their order; sizes may be symbols of PyTorch."""
    stored = {t.name: DTYPE[t.storage] for t in built.compiled.forward.plan.tensors}

    def made(node: Node) -> Made:
        dtype = np.dtype(DTYPES[kind(node)]) if built.library is None else stored[node.name]
        return Made(node.name, dtype, tuple(evaluate(e, sizes) for e in shape(node)))

    return [made(graph[name]) for _, name in graph.outputs]


def carried(graph: Graph, built: Built[Compiled], sizes: Mapping[str, int]) -> list[Made]:
    """Those beside outputs; sizes as for `outputs`. The interpreter carries none: its backward run begins anew."""
    compiled, plan = built.compiled, built.compiled.forward.plan
    names = dict.fromkeys((*plan.saved, *(plan.kept if compiled.keeps(sizes) else ())))
    public = {name for _, name in graph.outputs}
    tensors = {t.name: t for t in plan.tensors}
    wanted = [tensors[name] for name in names if name not in public]
    return [Made(t.name, DTYPE[t.storage], tuple(evaluate(e, sizes) for e in t.shape)) for t in wanted]


class Carrying:
    """What is carried from runs of certain layouts: tensors in one dimension, as they lie in memory, and back again."""

    def __init__(self, graph: Graph, built: Built[Compiled], sizes: Mapping[str, int], device: Device) -> None:
        self._made = carried(graph, built, sizes)
        self._outputs = [(public, name) for public, name in graph.outputs if name in built.compiled.forward.plan.saved]
        self._plan = built.compiled.forward.plan
        self._storages = {t.name: t.storage for t in self._plan.tensors}
        self._device = device
        self._orders: dict[str, tuple[int, ...]] = {}  # of dimensions, from the slowest to the fastest, once known

    def pack(self, tensors: Tensors) -> list[Array]:
        """What `carried` lists, after a forward run with `keep`."""
        for name in (*self._plan.saved, *(made.name for made in self._made)):
            array = tensors.arrays[name]
            self._orders[name] = tuple(sorted(range(array.ndim), key=lambda d: -array.strides[d]))
        return [flat(tensors.arrays[made.name].transpose(self._orders[made.name])) for made in self._made]

    def unpack(self, tensors: Tensors, outputs: Mapping[str, Any], packed: Sequence[Any]) -> bool:
        """Add to the arguments what a backward run reads beside them, and answer True; False where the forward run is
        not known here, or the interpreter's. outputs: by name, row-major. What that run may write over is copied."""
        if not self._orders:
            return False
        for public, name in self._outputs:
            array, order = self._device.take(name, outputs[public], self._storages[name]), self._orders[name]
            if order != tuple(range(len(order))):
                array = self._device.copy(array.transpose(order)).transpose(np.argsort(order))
            self._add(tensors, name, array)
        for made, given in zip(self._made, packed, strict=True):
            array, order = self._device.take(made.name, given, self._storages[made.name]), self._orders[made.name]
            own = self._device.copy(array) if made.name in self._plan.kept else array
            self._add(tensors, made.name, own.reshape([made.shape[d] for d in order]).transpose(np.argsort(order)))
        return True

    def _add(self, tensors: Tensors, name: str, array: Array) -> None:
        tensors.arrays[name], tensors.places[name] = array, address(array)


def flat(array: Array) -> Array:
    """The same memory in one dimension. Raises ValueError where there are gaps in it: a defect of the compiler."""
    if not array.flags.c_contiguous:
        raise ValueError(f"a tensor with strides {array.strides} is a part of another")
    return array.reshape(-1)
