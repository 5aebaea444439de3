"""Calls into a compiled library, by the ABI in `codegen/kernel.py`.

What the C code cannot check is checked here before every call: element type, rank, layout, writability. A mismatch
is a defect of the compiler, so it is a ValueError naming kernel and tensor. ctypes releases the GIL during a call.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from irc.codegen.kernel import Kernel
from irc.runtime.arrays import DTYPE, Array
from irc.runtime.errors import InputError, ToolchainError

LAYOUTS_KEPT = 256

# OpenMP's threads sleep between kernels: spinning ones starve the BLAS threads that the products between them use.
# Only a default, and only where no other library has started OpenMP before.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def threads() -> int:
    """How many threads kernels use: IRC_THREADS, else the processors that this process may run on."""
    chosen = os.environ.get("IRC_THREADS", "").strip()
    if chosen:
        if not chosen.isdecimal() or int(chosen) < 1:
            raise InputError(f"IRC_THREADS: expected a number of threads, 1 or more, got {chosen!r}")
        return int(chosen)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Library:
    """A loaded shared library. Safe to call from many threads at once: nothing that a call changes is shared."""

    def __init__(self, path: Path) -> None:
        try:
            self._library = ctypes.CDLL(str(path))
        except OSError as error:
            raise ToolchainError(f"the compiled library cannot be loaded: {error}") from error
        self._functions: dict[str, _Function] = {}

    def call(self, kernel: Kernel, tensors: Mapping[str, Array], sizes: Mapping[str, int], threads: int) -> None:
        """Run one kernel over the tensors and sizes that its declaration names, on at most `threads` threads."""
        function = self._functions.get(kernel.name)
        if function is None or function.kernel is not kernel:
            function = self._functions[kernel.name] = _Function(self._library, kernel)
        function([tensors[t.name] for t in kernel.tensors], [sizes[s] for s in kernel.sizes], threads)


class _Function:
    """One kernel with its argument arrays' types, and the stride arrays of the layouts seen lately."""

    def __init__(self, library: ctypes.CDLL, kernel: Kernel) -> None:
        try:
            self._code: Callable[..., None] = getattr(library, kernel.name)
        except AttributeError as error:
            raise ValueError(f"kernel {kernel.name} is not in the compiled library") from error
        self._code.restype = None
        self._code.argtypes = (
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_int,
        )
        self.kernel = kernel
        self._pointers = ctypes.c_void_p * max(1, len(kernel.tensors))
        self._sizes = ctypes.c_int64 * max(1, len(kernel.sizes))
        self._layouts: dict[tuple[tuple[int, ...], ...], _Strides] = {}

    def __call__(self, arrays: Sequence[Array], sizes: Sequence[int], threads: int) -> None:
        layout = tuple(a.strides for a in arrays)
        self._check(arrays)
        strides = self._layouts.get(layout)
        if strides is None:
            if len(self._layouts) >= LAYOUTS_KEPT:
                self._layouts = {}
            strides = self._layouts[layout] = _Strides(arrays)
        data = self._pointers(*[a.__array_interface__["data"][0] for a in arrays])
        self._code(data, strides.pointers, self._sizes(*sizes), max(1, threads))

    def _check(self, arrays: Sequence[Array]) -> None:
        for tensor, array in zip(self.kernel.tensors, arrays, strict=True):
            if array.dtype != DTYPE[tensor.storage]:
                self._refuse(tensor.name, f"is {array.dtype}, not {tensor.storage}")
            if array.ndim != tensor.rank:
                self._refuse(tensor.name, f"has {array.ndim} axes, not {tensor.rank}")
            flags = array.flags
            if tensor.written and not flags.writeable:
                self._refuse(tensor.name, "cannot be written")
            if flags.c_contiguous and flags.aligned:
                continue
            size = array.itemsize
            if not flags.aligned or any(s % size for s in array.strides):
                self._refuse(tensor.name, "is not aligned to its elements")
            if array.strides[-1] != size and array.shape[-1] > 1 and array.size:
                self._refuse(tensor.name, "has a last axis that is not contiguous")

    def _refuse(self, tensor: str, what: str) -> None:
        raise ValueError(f"kernel {self.kernel.name}: tensor {tensor} {what}")


class _Strides:
    """The strides of a list of arrays, in elements, as the ABI wants them. Never changed after it is made."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self._rows: list[Any] = [
            (ctypes.c_int64 * max(1, a.ndim))(*[s // a.itemsize for s in a.strides]) for a in arrays
        ]
        self.pointers = (ctypes.c_void_p * max(1, len(arrays)))(*[ctypes.addressof(row) for row in self._rows])
