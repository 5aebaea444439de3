"""Tensors on a device, and the memory that they lie in."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Hashable
from math import prod
from typing import Any

import numpy as np

from irc.runtime.arrays import Array
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
    run after whatever used them there; what no call needs goes back to the driver when it has no more.

    driver: pycuda's module. Blocks are freed within `allocate` and `release` alone, where a context is current.
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._free: defaultdict[Hashable, list[Any]] = defaultdict(list)
        self._lock = threading.RLock()  # a block may be given back by the collector in the midst of a call

    def allocate(self, bytes: int, stream: Hashable) -> Block:
        """Raises DeviceError where the device has no memory left."""
        return Block(self, (stream, _rounded(bytes)))

    def take(self, kind: tuple[Hashable, int]) -> Any:
        with self._lock:
            if free := self._free[kind]:
                return free.pop()
        try:
            return self._driver.mem_alloc(kind[1])
        except self._driver.MemoryError:
            self.release()
        try:
            return self._driver.mem_alloc(kind[1])
        except self._driver.MemoryError:
            free, total = (n >> 20 for n in self._driver.mem_get_info())
            raise DeviceError(
                f"out of memory on the device: {kind[1] >> 20} MiB more were asked for, "
                f"{free} of its {total} MiB are free"
            ) from None

    def give_back(self, kind: tuple[Hashable, int], allocation: Any) -> None:
        with self._lock:
            self._free[kind].append(allocation)

    def release(self) -> None:
        """Free what is not in use, once the device has done with it."""
        self._driver.Context.synchronize()
        with self._lock:
            self._free.clear()


class Block:
    """Memory that goes back to its pool when nothing refers to it; an array of its bytes does."""

    def __init__(self, pool: Pool, kind: tuple[Hashable, int]) -> None:
        self._pool, self._kind = pool, kind
        self._allocation = pool.take(kind)
        self.address = int(self._allocation)
        self.__array_interface__ = {"data": (self.address, False), "shape": (kind[1],), "typestr": "|u1", "version": 3}

    def __del__(self) -> None:
        if hasattr(self, "_allocation"):
            self._pool.give_back(self._kind, self._allocation)


def _rounded(bytes: int) -> int:
    """Blocks come in eight sizes for each power of two, so that a free one is often large enough."""
    unit = max(LEAST, 1 << max(0, bytes.bit_length() - 4))
    return max(LEAST, -(-bytes // unit) * unit)
