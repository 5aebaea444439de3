"""New tensors. Large ones are mapped, so that they go back to the system when they are released: an allocator that
keeps them for later holds two or three times what a run needs at a time."""

from __future__ import annotations

import mmap
from math import prod

import numpy as np

from irc.codegen.kernel import Storage
from irc.runtime.arrays import DTYPE, Array, address

ALIGNMENT = 64  # bytes: a cache line, and the widest vector register
LARGE = 2 << 20  # bytes from which a tensor is mapped


def allocate(shape: tuple[int, ...], storage: Storage, zero: bool = False, order: tuple[int, ...] = ()) -> Array:
    """A contiguous array that starts on a cache line, its dimensions in the order given; undefined unless `zero`."""
    dtype = DTYPE[storage]
    count = prod(shape) * dtype.itemsize
    memory, start = _mapped(count) if count >= LARGE else _small(count, zero)
    if not order:
        return np.ndarray(shape, dtype, memory, start)
    array: Array = np.ndarray([shape[d] for d in order], dtype, memory, start)
    return array.transpose([order.index(d) for d in range(len(order))])


def _small(count: int, zero: bool) -> tuple[Array, int]:
    memory = (np.zeros if zero else np.empty)(count + ALIGNMENT, np.uint8)
    return memory, -address(memory) % ALIGNMENT


def _mapped(count: int) -> tuple[mmap.mmap, int]:
    """Bytes of whole pages, which the system clears when they are first touched."""
    pages = mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return pages, 0
