"""Compile rendered kernels and call them on numpy arrays."""

from __future__ import annotations

import ctypes

import numpy as np

from irc.codegen.kernel import Kernel
from irc.codegen.render import render
from irc.runtime import libraries
from irc.runtime.cpu import check


def call(
    kernel: Kernel, arrays: dict[str, np.ndarray], sizes: dict[str, int], threads: int = 2, source: str | None = None
) -> None:
    """Run the kernel, of a source that holds it or of its own, in place on the arrays that its tensors name."""
    text = source or render((kernel,), kernel.name, "made by hand")
    function = getattr(libraries.compiled(text).code, kernel.name)
    given = [arrays[tensor.name] for tensor in kernel.tensors]
    check(kernel, given)
    steps = [(ctypes.c_int64 * max(1, a.ndim))(*[s // a.itemsize for s in a.strides]) for a in given]
    data = (ctypes.c_void_p * max(1, len(given)))(*[a.ctypes.data for a in given])
    strides = (ctypes.c_void_p * max(1, len(given)))(*[ctypes.addressof(s) for s in steps])
    values = (ctypes.c_int64 * max(1, len(kernel.sizes)))(*[sizes[name] for name in kernel.sizes])
    function(data, strides, values, ctypes.c_int(threads))


def apart(array: np.ndarray) -> np.ndarray:
    """The same numbers, rows of the last axis far from each other and the other axes in reverse in memory."""
    *others, last = array.shape
    wide = np.zeros((*others[::-1], last + 3), array.dtype)
    turned = wide[..., :last].transpose(*range(len(others))[::-1], len(others))
    turned[...] = array
    return turned
