"""Tensors on a device, and the memory that they lie in."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Hashable
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from irc.runtime.arrays import Array
from irc.runtime.cuda.capture import Capture
from irc.runtime.errors import DeviceError

LEAST = 512  # bytes of a block
ALIGNMENT = 256  # bytes, of tensors in a block: no kernel and no algorithm of cuBLASLt asks for more


class Tensor(np.ndarray):
    """An array whose addresses are the device's. The host takes views of it and reads no entry: there are none to read.

    host: what it was copied from, where the host has it.
    """

    host: Array | None = None
    __array_ufunc__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Tensor(shape={self.shape}, dtype={self.dtype}, strides={self.strides})"

    __str__ = __repr__


class Span:
    """Bytes on the device as numpy's array interface tells them, which keeps `owner` alive as long as arrays are."""

    def __init__(self, address: int, bytes: int, owner: object) -> None:
        self.owner = owner
        self.__array_interface__ = {"data": (address, False), "shape": (bytes,), "typestr": "|u1", "version": 3}


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in elements."""
    return tuple(prod(shape[d + 1 :]) for d in range(len(shape)))


def tensor(
    owner: object, address: int, shape: tuple[int, ...], dtype: np.dtype[Any], strides: tuple[int, ...] = ()
) -> Tensor:
    """An array of what lies at an address of the device; `strides` in bytes, none for row-major ones. `owner` lives as
    long as it and its views."""
    if not strides:
        memory = np.asarray(Span(address, max(prod(shape), 1) * dtype.itemsize, owner))
        return np.ndarray.__new__(Tensor, shape, dtype, memory)
    ends = [step * (count - 1) for step, count in zip(strides, shape, strict=True)] if prod(shape) else []
    low, high = sum(e for e in ends if e < 0), sum(e for e in ends if e > 0) + dtype.itemsize
    memory = np.asarray(Span(address + low, high - low, owner))
    return np.ndarray.__new__(Tensor, shape, dtype, memory, -low, strides)


class Pool:
    """Blocks of device memory. Those that nothing refers to any more are used again by calls on the same stream, which
    run after whatever used them there; what no call needs goes back to the driver when it has no more, but for what a
    captured graph uses.

    driver: pycuda's module. Blocks are freed within `allocate` and `release` alone, where a context is current.
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._free: defaultdict[tuple[Hashable, int], list[Memory]] = defaultdict(list)
        self._lock = threading.RLock()  # a block may be given back by the collector in the midst of a call

    def allocate(self, bytes: int, stream: Hashable) -> Block:
        """Raises DeviceError where the device has no memory left."""
        kind = stream, _rounded(bytes)
        with self._lock:
            free = self._free[kind]
            memory = free.pop() if free else None
        return Block(self, kind, memory or self._new(kind[1], isinstance(stream, Capture)))

    def _new(self, bytes: int, captured: bool) -> Memory:
        try:
            return Memory(self._driver.mem_alloc(bytes), bytes)
        except self._driver.MemoryError:
            if not captured:  # what waits for a device cannot be part of a graph
                self.release()
        try:
            return Memory(self._driver.mem_alloc(bytes), bytes)
        except self._driver.MemoryError:
            free, total = (n >> 20 for n in self._driver.mem_get_info())
            raise DeviceError(
                f"out of memory on the device: {bytes >> 20} MiB more were asked for, "
                f"{free} of its {total} MiB are free"
            ) from None

    def give_back(self, kind: tuple[Hashable, int], memory: Memory) -> None:
        with self._lock:
            self._free[kind].append(memory)

    def release(self) -> None:
        """Free what is not in use, once the device has done with it."""
        self._driver.Context.synchronize()
        with self._lock:
            for kind in [kind for kind in self._free if not isinstance(kind[0], Capture)]:
                del self._free[kind]


class Memory:
    """What the driver has given, which is freed with this."""

    def __init__(self, allocation: Any, bytes: int) -> None:
        self.address, self._allocation = int(allocation), allocation
        self.interface = {"data": (self.address, False), "shape": (bytes,), "typestr": "|u1", "version": 3}


class Block:
    """Memory that goes back to its pool when nothing refers to it; an array of its bytes does."""

    __slots__ = ("__array_interface__", "_kind", "_memory", "_pool", "address")

    def __init__(self, pool: Pool, kind: tuple[Hashable, int], memory: Memory) -> None:
        self._pool, self._kind, self._memory = pool, kind, memory
        self.address, self.__array_interface__ = memory.address, memory.interface

    def __del__(self) -> None:
        self._pool.give_back(self._kind, self._memory)


@lru_cache
def _rounded(bytes: int) -> int:
    """Blocks come in eight sizes for each power of two, so that a free one is often large enough."""
    unit = max(LEAST, 1 << max(0, bytes.bit_length() - 4))
    return max(LEAST, -(-bytes // unit) * unit)
