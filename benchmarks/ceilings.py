"""What the machine can do at most, measured by `ceilings.cpp`, built here for the machine.

A ceiling takes its turn in every round of a case, so that a share of it compares like moments of a noisy machine.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import Case
from irc.runtime.toolchain import find

SOURCE = Path(__file__).with_name("ceilings.cpp")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fopenmp", "-shared", "-fPIC")
STEPS = 1_000_000  # some 20 ms
FLOATS = 1 << 28  # 1 GiB to read, more than a processor caches

Ceiling = Callable[[], float]


class Ceilings:
    """Of the machine with a number of threads: calls that do nothing but reach a limit, and return their work."""

    def __init__(self, threads: int, folder: Path) -> None:
        library = folder / "ceilings.so"
        subprocess.run([*find().command, *FLAGS, str(SOURCE), "-o", str(library)], check=True)
        self._threads = threads
        self._library = ctypes.CDLL(str(library))

    def of(self, case: Case) -> tuple[str, Ceiling]:
        """The name and the call of the one that bounds a case: bytes of keys and values, or products in its type."""
        if case.decodes:
            return "read", self.read
        return self._products[case.dtype]

    @cached_property
    def _products(self) -> dict[str, tuple[str, Ceiling]]:
        """bf16 by the instruction that does most; f16, which is computed in f32, by f32's."""
        names = ("multiply_adds", "dot_products", "tile_products")
        wide, *narrow = [(name.replace("_", " "), self._call(name)) for name in names]
        able = [(name, call) for name, call in narrow if call()]
        return {"f32": wide, "f16": wide, "bf16": able[-1] if able else wide}

    @cached_property
    def read(self) -> Ceiling:
        memory = np.ones(FLOATS, np.float32)
        function = self._function("read_memory", ctypes.c_int, ctypes.c_int64, ctypes.c_void_p)
        return lambda: float(function(self._threads, memory.size, memory.ctypes.data))

    def _call(self, name: str) -> Ceiling:
        function = self._function(name, ctypes.c_int, ctypes.c_int64)
        return lambda: float(function(self._threads, STEPS))

    def _function(self, name: str, *kinds: Any) -> Callable[..., Any]:
        function = getattr(self._library, name)
        function.restype, function.argtypes = ctypes.c_double, kinds
        return function  # type: ignore[no-any-return]
