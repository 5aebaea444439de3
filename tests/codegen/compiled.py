"""Compile rendered kernels and call them on numpy arrays."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from irc.codegen.cpu import FLAGS
from irc.codegen.kernel import Kernel
from irc.codegen.render import render

_FOLDER = Path(tempfile.mkdtemp(prefix="irc-kernels-"))
_COMPILER = shutil.which("g++")


def _library(source: str) -> ctypes.CDLL:
    assert _COMPILER is not None, "these tests need g++"
    stem = _FOLDER / hashlib.sha256(source.encode()).hexdigest()[:16]
    library = stem.with_suffix(".so")
    if not library.exists():
        stem.with_suffix(".cpp").write_text(source)
        command = [_COMPILER, *FLAGS, "-o", str(library), str(stem.with_suffix(".cpp"))]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + source
    return ctypes.CDLL(str(library))


def call(kernel: Kernel, arrays: dict[str, np.ndarray], sizes: dict[str, int], threads: int = 2) -> None:
    """Run the kernel in place on the arrays that its tensors name."""
    function = getattr(_library(render((kernel,), kernel.name, "made by hand")), kernel.name)
    given = [arrays[tensor.name] for tensor in kernel.tensors]
    steps = [(ctypes.c_int64 * max(1, a.ndim))(*[s // a.itemsize for s in a.strides]) for a in given]
    data = (ctypes.c_void_p * max(1, len(given)))(*[a.ctypes.data for a in given])
    strides = (ctypes.c_void_p * max(1, len(given)))(*[ctypes.addressof(s) for s in steps])
    values = (ctypes.c_int64 * max(1, len(kernel.sizes)))(*[sizes[name] for name in kernel.sizes])
    function(data, strides, values, ctypes.c_int(threads))
