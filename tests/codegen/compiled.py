"""Compile rendered kernels and call them on numpy arrays."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np

from irc.codegen.kernel import Kernel
from irc.codegen.render import render
from irc.runtime import cache, toolchain


def _library(source: str) -> ctypes.CDLL:
    tools = toolchain.find()

    def build(folder: Path) -> None:
        toolchain.compile(source, folder / "kernel.so", tools)

    key = cache.key(("a kernel made by hand", source), tools.flags, tools.version)
    return ctypes.CDLL(str(cache.get_or_build(key, build) / "kernel.so"))


def call(kernel: Kernel, arrays: dict[str, np.ndarray], sizes: dict[str, int], threads: int = 2) -> None:
    """Run the kernel in place on the arrays that its tensors name."""
    function = getattr(_library(render((kernel,), kernel.name, "made by hand")), kernel.name)
    given = [arrays[tensor.name] for tensor in kernel.tensors]
    steps = [(ctypes.c_int64 * max(1, a.ndim))(*[s // a.itemsize for s in a.strides]) for a in given]
    data = (ctypes.c_void_p * max(1, len(given)))(*[a.ctypes.data for a in given])
    strides = (ctypes.c_void_p * max(1, len(given)))(*[ctypes.addressof(s) for s in steps])
    values = (ctypes.c_int64 * max(1, len(kernel.sizes)))(*[sizes[name] for name in kernel.sizes])
    function(data, strides, values, ctypes.c_int(threads))
