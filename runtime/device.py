"""Where a program's tensors lie, and what is done with them outside kernels."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np

from irc.codegen.kernel import Storage
from irc.runtime import arrays, machine, memory, products
from irc.runtime.arrays import DTYPE, Array
from irc.runtime.memory import New
from irc.runtime.plan import Product


class Device(Protocol):
    """Tensors are numpy arrays, of which those on a device other than the host have entries that nobody here reads:
    what does is a method of the device."""

    def running(self, values: Iterable[object]) -> AbstractContextManager[None]:
        """Everything is done within, for a call with these arguments. Raises DeviceError for what fails there."""

    def threads(self) -> int:
        """How many share one kernel's work: what is summed in parts has so many."""

    def look(self, name: str, value: object, storage: Storage) -> tuple[Hashable, Any, int]:
        """As `arrays.look`."""

    def take(self, name: str, value: object, storage: Storage) -> Array:
        """As `arrays.take`."""

    def give(self, array: Array, like: object) -> Any:
        """As `arrays.give`."""

    def entries(self, array: Array) -> Array:
        """The array where the host can read it."""

    def allocate(self, shape: tuple[int, ...], storage: Storage, zero: bool = False) -> Array:
        """As `memory.allocate`."""

    def allocator(self, tensors: Mapping[str, New]) -> Callable[[dict[str, Array], dict[str, int]], None]:
        """As `memory.allocator`."""

    def zeros(self, shape: tuple[int, ...], storage: Storage) -> Array:
        """For reading alone, by calls that follow too."""

    def copy(self, array: Array) -> Array:
        """A row-major copy."""

    def addressable(self, array: Array) -> Array:
        """As `arrays.addressable`."""

    def multiplier(self, step: Product, sizes: Mapping[str, int], storage: Storage) -> Callable[[Array, Array], Array]:
        """As `products.multiplier`."""

    def sum_chunks(self, source: Array, storage: Storage) -> Array:
        """The chunks added one after another, in the order of their numbers, and rounded once."""


class Host:
    """This machine's memory."""

    threads = staticmethod(machine.threads)
    look = staticmethod(arrays.look)
    take = staticmethod(arrays.take)
    give = staticmethod(arrays.give)
    allocate = staticmethod(memory.allocate)
    allocator = staticmethod(memory.allocator)
    addressable = staticmethod(arrays.addressable)
    multiplier = staticmethod(products.multiplier)

    def running(self, values: Iterable[object]) -> AbstractContextManager[None]:
        return nullcontext()

    def entries(self, array: Array) -> Array:
        return array

    def copy(self, array: Array) -> Array:
        return array.copy()

    def zeros(self, shape: tuple[int, ...], storage: Storage) -> Array:
        return np.broadcast_to(np.zeros(shape[-1:], DTYPE[storage]), shape)

    def sum_chunks(self, source: Array, storage: Storage) -> Array:
        compute = np.dtype(np.float64) if storage == "f64" else np.dtype(np.float32)
        total = np.zeros(source.shape[1:], compute)
        for part in source:
            total += part.astype(compute, copy=False)
        return total.astype(DTYPE[storage], copy=False)


HOST: Device = Host()
