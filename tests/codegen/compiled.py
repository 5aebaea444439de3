"""Compile rendered kernels and call them on numpy arrays."""

from __future__ import annotations

import ctypes

import numpy as np

from irc.codegen.kernel import Kernel
from irc.codegen.render import render
from irc.runtime import libraries


def call(kernel: Kernel, arrays: dict[str, np.ndarray], sizes: dict[str, int], threads: int = 2) -> None:
    """Run the kernel in place on the arrays that its tensors name."""
    function = getattr(libraries.compiled(render((kernel,), kernel.name, "made by hand")).code, kernel.name)
    given = [arrays[tensor.name] for tensor in kernel.tensors]
    steps = [(ctypes.c_int64 * max(1, a.ndim))(*[s // a.itemsize for s in a.strides]) for a in given]
    data = (ctypes.c_void_p * max(1, len(given)))(*[a.ctypes.data for a in given])
    strides = (ctypes.c_void_p * max(1, len(given)))(*[ctypes.addressof(s) for s in steps])
    values = (ctypes.c_int64 * max(1, len(kernel.sizes)))(*[sizes[name] for name in kernel.sizes])
    function(data, strides, values, ctypes.c_int(threads))
