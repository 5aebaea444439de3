"""Calls into a compiled library, by the ABI in `codegen/kernel.py`.

What the C code cannot check is checked here, once for a layout: element type, rank, layout, writability. A mismatch
is a defect of the compiler, so it is a ValueError naming kernel and tensor. ctypes releases the GIL during a call.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from struct import Struct
from typing import Any, NoReturn

from irc.codegen.kernel import Kernel
from irc.runtime.arrays import DTYPE, Array, address
from irc.runtime.device import HOST
from irc.runtime.errors import ToolchainError

# OpenMP's threads sleep between kernels: spinning ones starve those of other libraries that are called in between.
# Only a default, and only where no other library has started OpenMP before.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


class Library:
    """A shared library, loaded as `code`. Safe to call from many threads at once: no call changes what is shared."""

    by_address = True
    device = HOST

    def __init__(self, path: Path) -> None:
        try:
            self.code = ctypes.CDLL(str(path))
        except OSError as error:
            raise ToolchainError(f"the compiled library cannot be loaded: {error}") from error

    def load(self, sizes: Mapping[str, int]) -> None:
        """It is."""

    def call(self, kernel: Kernel, tensors: Mapping[str, Array], sizes: Mapping[str, int], threads: int) -> None:
        """Run one kernel over the tensors and sizes that its declaration names, on at most `threads` threads."""
        places = {name: address(array) for name, array in tensors.items()}
        self.bound(kernel, tensors, sizes, threads)(tensors, places)

    def bound(
        self, kernel: Kernel, tensors: Mapping[str, Array], sizes: Mapping[str, int], threads: int, function: str = ""
    ) -> Callable[[Mapping[str, Any], Mapping[str, int]], None]:
        """The kernel for sizes, threads and the layouts of these tensors: a function of tensors in just those layouts,
        which are not checked again, and of their addresses, which are all that it looks at. `function`: of its name, or
        the form of it that is called."""
        name = function or kernel.name
        try:
            code: Callable[..., None] = getattr(self.code, name)
        except AttributeError as error:
            raise ValueError(f"kernel {name} is not in the compiled library") from error
        code.restype = None  # type: ignore[attr-defined]
        names = [t.name for t in kernel.tensors]
        arrays = [tensors[name] for name in names]
        check(kernel, arrays)
        pack, chosen = Struct(f"{len(names)}P").pack, chooser(names)
        strides = _Strides(arrays)
        counts = (ctypes.c_int64 * max(1, len(kernel.sizes)))(*[sizes[s] for s in kernel.sizes])
        at_most = ctypes.c_int(max(1, threads))

        def call(_: Mapping[str, Any], places: Mapping[str, int]) -> None:
            code(pack(*chosen(places)), strides.pointers, counts, at_most)

        return call


def chooser(names: Sequence[str]) -> Callable[[Mapping[str, int]], tuple[int, ...]]:
    """The values of some names in a mapping."""
    return itemgetter(*names) if len(names) > 1 else lambda values: tuple([values[name] for name in names])


def check(kernel: Kernel, arrays: Sequence[Array]) -> None:
    """Raises ValueError where a tensor is not what the kernel declares: a defect of the compiler."""

    def refuse(what: str) -> NoReturn:
        raise ValueError(f"kernel {kernel.name}: tensor {tensor.name} {what}")

    for tensor, array in zip(kernel.tensors, arrays, strict=True):
        if array.dtype != DTYPE[tensor.storage]:
            refuse(f"is {array.dtype}, not {tensor.storage}")
        if array.ndim != tensor.rank:
            refuse(f"has {array.ndim} axes, not {tensor.rank}")
        flags = array.flags
        if tensor.written and not flags.writeable:
            refuse("cannot be written")
        if flags.c_contiguous and flags.aligned:
            continue
        size = array.itemsize
        if not flags.aligned or any(s % size for s in array.strides):
            refuse("is not aligned to its elements")
        if array.strides[-1] != size and array.shape[-1] > 1 and array.size:
            refuse("has a last axis that is not contiguous")


class _Strides:
    """The strides of a list of arrays, in elements, as the ABI wants them. Never changed after it is made."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self._rows: list[Any] = [
            (ctypes.c_int64 * max(1, a.ndim))(*[s // a.itemsize for s in a.strides]) for a in arrays
        ]
        self.pointers = (ctypes.c_void_p * max(1, len(arrays)))(*[ctypes.addressof(row) for row in self._rows])
