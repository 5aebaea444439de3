"""New tensors. Large ones are mapped. What is released is kept for the next of the same size, a little of it, so that a
call which is made again finds pages that the system has cleared already; the rest goes back to the system, and all that
would make a process hold more than it has held in tensors that were in use: an allocator that keeps all for later holds
two or three times what a run needs at a time. Small ones that are made at once are pieces of one block."""

from __future__ import annotations

import mmap
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np

from irc.codegen.kernel import Storage
from irc.runtime.arrays import DTYPE, Array, address

BYTE = np.dtype(np.uint8)
ALIGNMENT = 64  # bytes: a cache line, and the widest vector register
LARGE = 2 << 20  # bytes from which a tensor is mapped
KEPT = 64 << 20  # bytes of released ones that are kept, at most
SMALL = 4 << 10  # bytes up to which tensors are pieces of one block, and are freed with the last of them


@dataclass(frozen=True, slots=True)
class New:
    """A contiguous tensor that starts on a cache line; undefined unless `zero`. `order`: its dimensions from the
    slowest to the fastest, where that is not the order in which they are declared. One without elements has a spare
    one, at any index: kernels may touch what no condition lets them use (see `arrays.addressable`)."""

    shape: tuple[int, ...]
    storage: Storage
    zero: bool = False
    order: tuple[int, ...] = ()

    @property
    def bytes(self) -> int:
        return max(prod(self.shape), 1) * DTYPE[self.storage].itemsize

    @property
    def strides(self) -> tuple[int, ...] | None:
        """None: those of the order of declaration."""
        if 0 in self.shape:
            return (0,) * len(self.shape)
        faster = {d: self.order[k + 1 :] for k, d in enumerate(self.order)}
        size = DTYPE[self.storage].itemsize
        return tuple(size * prod(self.shape[e] for e in faster[d]) for d in range(len(self.order))) or None


def allocate(shape: tuple[int, ...], storage: Storage, zero: bool = False) -> Array:
    made: dict[str, Array] = {}
    allocator({"": New(shape, storage, zero)})(made, {})
    return made[""]


def allocator(tensors: Mapping[str, New]) -> Callable[[dict[str, Array], dict[str, int]], None]:
    """A function that adds these tensors to arrays and addresses by name."""
    return all_of([_block(block) for block in blocks(tensors, ALIGNMENT)])


def all_of(
    makers: Sequence[Callable[[dict[str, Array], dict[str, int]], None]],
) -> Callable[[dict[str, Array], dict[str, int]], None]:
    """A function that does what each of these does."""
    if len(makers) == 1:
        return makers[0]

    def make(arrays: dict[str, Array], places: dict[str, int]) -> None:
        for each in makers:
            each(arrays, places)

    return make


@dataclass(frozen=True, slots=True)
class Block:
    """Memory for tensors that are made at once: its bytes, of which those of `zero` (begin and length) are cleared; and
    of each tensor name, shape, element type, where it begins, strides in bytes (None: row-major)."""

    bytes: int
    zero: tuple[tuple[int, int], ...]
    pieces: tuple[tuple[str, tuple[int, ...], np.dtype[Any], int, tuple[int, ...] | None], ...]


def blocks(tensors: Mapping[str, New], alignment: int) -> list[Block]:
    """One for all where they are small, else one for each; tensors begin at multiples of the alignment in bytes."""
    whole = _cut(tensors, alignment)
    if len(tensors) == 1 or whole.bytes <= SMALL:
        return [whole]
    return [_cut({name: tensor}, alignment) for name, tensor in tensors.items()]


def _cut(tensors: Mapping[str, New], alignment: int) -> Block:
    pieces, zero, total = [], [], 0
    for name, tensor in tensors.items():
        pieces.append((name, tensor.shape, DTYPE[tensor.storage], total, tensor.strides))
        if tensor.zero and tensor.bytes:
            zero.append((total, tensor.bytes))
        total += -(-tensor.bytes // alignment) * alignment
    return Block(total, tuple(zero), tuple(pieces))


def _block(block: Block) -> Callable[[dict[str, Array], dict[str, int]], None]:
    fill, bytes = np.zeros if block.zero else np.empty, block.bytes + ALIGNMENT
    new = partial(_mapped, block.bytes, block.zero) if block.bytes >= LARGE else partial(fill, bytes, BYTE)

    def make(arrays: dict[str, Array], places: dict[str, int]) -> None:
        memory = new()
        start = address(memory)
        skipped = -start % ALIGNMENT
        for name, shape, dtype, begin, strides in block.pieces:
            begin += skipped
            arrays[name] = np.ndarray(shape, dtype, memory, begin, strides)
            places[name] = start + begin

    return make


_released: list[tuple[int, mmap.mmap]] = []  # bytes and pages, the longest kept first
_in_use: dict[int, int] = {}  # bytes by the pages' identity
_most = 0  # bytes that were in use at a time


def _mapped(count: int, zero: Sequence[tuple[int, int]]) -> Array:
    """Bytes of whole pages, of which those of `zero` (begin and length) are cleared."""
    global _most
    used = count + sum(tuple(_in_use.values()))
    _most = max(_most, used)
    kept = _kept(count)
    if kept is None:
        _let_go(_most - used)
    pages = kept or _pages(count)
    _in_use[id(pages)] = count
    memory = np.frombuffer(pages, np.uint8)
    for begin, length in zero if kept else ():
        memory[begin : begin + length] = 0
    weakref.finalize(memory, _release, count, pages).atexit = False
    return memory


def _kept(count: int) -> mmap.mmap | None:
    """Pages of that many bytes, if some are kept."""
    for entry in tuple(_released):
        if entry[0] == count:
            with suppress(ValueError):  # another thread has taken it
                _released.remove(entry)
                return entry[1]
    return None


def _release(count: int, pages: mmap.mmap) -> None:
    _in_use.pop(id(pages), None)
    if count <= KEPT:
        _released.append((count, pages))
        _let_go(KEPT)


def _let_go(most: int) -> None:
    """Of what is kept the oldest, until so many bytes are left at most."""
    while sum(bytes for bytes, _ in tuple(_released)) > most:
        with suppress(IndexError):  # another thread has
            _released.pop(0)


def _pages(count: int) -> mmap.mmap:
    """Cleared by the system when they are first touched."""
    try:
        pages = mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"no {count / 2**30:.1f} GiB for a tensor of a call") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel that has no large pages
            pages.madvise(mmap.MADV_HUGEPAGE)
    return pages
