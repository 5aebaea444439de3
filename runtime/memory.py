"""New tensors. Large ones are mapped, so that they go back to the system when they are released: an allocator that
keeps them for later holds two or three times what a run needs at a time."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from math import prod

import numpy as np

from irc.codegen.kernel import Storage
from irc.runtime.arrays import DTYPE, Array, address

ALIGNMENT = 64  # bytes: a cache line, and the widest vector register
LARGE = 2 << 20  # bytes from which a tensor is mapped


def allocate(shape: tuple[int, ...], storage: Storage, zero: bool = False, order: tuple[int, ...] = ()) -> Array:
    """A contiguous array that starts on a cache line, its dimensions in the order given; undefined unless `zero`."""
    return allocator(shape, storage, zero, order)()[0]


def allocator(
    shape: tuple[int, ...], storage: Storage, zero: bool = False, order: tuple[int, ...] = ()
) -> Callable[[], tuple[Array, int]]:
    """A function that allocates such arrays: each with its address."""
    dtype = DTYPE[storage]
    count = prod(shape) * dtype.itemsize
    ordered = tuple(shape[d] for d in order or range(len(shape)))
    declared = tuple(order.index(d) for d in range(len(order)))
    fill = np.zeros if zero else np.empty

    def small() -> tuple[Array, int]:
        memory = fill(count + ALIGNMENT, np.uint8)
        start = address(memory)
        skipped = -start % ALIGNMENT
        array: Array = np.ndarray(ordered, dtype, memory, skipped)
        return array.transpose(declared) if order else array, start + skipped

    def large() -> tuple[Array, int]:
        array: Array = np.ndarray(ordered, dtype, _mapped(count))
        return array.transpose(declared) if order else array, address(array)

    return large if count >= LARGE else small


def _mapped(count: int) -> mmap.mmap:
    """Bytes of whole pages, which the system clears when they are first touched."""
    pages = mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return pages
