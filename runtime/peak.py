"""The machine's peak at multiplying and adding, measured by a small program of its own."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from irc.codegen.kernel import Arithmetic
from irc.codegen.render import render_peak
from irc.runtime import toolchain

SECONDS = 0.02  # of one measurement, about


class Peak:
    """Operations in one form: in pairs of bf16 where the machine multiplies these, else in single numbers."""

    def __init__(self, pairs: bool, arithmetic: Arithmetic) -> None:
        library = ctypes.CDLL(str(toolchain.library(render_peak(pairs, arithmetic), toolchain.find())))
        self._run = library.irc_peak
        self._run.argtypes, self._run.restype = (ctypes.c_int64, ctypes.c_int), None
        self._operations = int(library.irc_peak_operations())
        self._steps = 1 << 12

    def rate(self, threads: int, clock: Callable[[], float]) -> float:
        """Operations in a second of so many threads together, by the clock."""
        while (seconds := self._seconds(threads, clock)) < SECONDS / 4:
            self._steps *= 2
        return threads * self._operations * self._steps / seconds

    def _seconds(self, threads: int, clock: Callable[[], float]) -> float:
        start = clock()
        self._run(self._steps, threads)
        return clock() - start
