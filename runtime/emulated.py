"""The kernels of a plan as CUDA, run by the emulator: on any machine, checked where that is asked for."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping

import numpy as np

from irc.codegen import cuda
from irc.codegen.kernel import Kernel
from irc.runtime import emulator, launches
from irc.runtime.arrays import Array
from irc.runtime.device import HOST


class Library:
    """Kernels of one CUDA source; `check`: every access, race and barrier is watched, and `seed` draws a schedule.

    What a check finds is an `EmulatorError`: a defect of the compiler, not of the call.
    """

    by_address = False
    device = HOST

    def __init__(self, source: str, check: bool = False, seed: int = 0) -> None:
        self._module = emulator.build(source, check)
        self.seed = seed

    def load(self) -> None:
        """It is."""

    def bound(
        self, kernel: Kernel, tensors: Mapping[str, Array], sizes: Mapping[str, int], threads: int
    ) -> Callable[[Mapping[str, Array], Mapping[str, int]], None]:
        """The kernel for sizes and threads, as a function of the tensors that its declaration names."""
        copies = cuda.copied(kernel)
        run = [launch for launch in cuda.launches(kernel) if launches.blocks(launch, sizes)]
        bytes = launches.workspace(run, sizes)
        counts = [sizes[name] for name in kernel.sizes]

        def call(tensors: Mapping[str, Array], _: Mapping[str, int]) -> None:
            arrays = [tensors[t.name] for t in kernel.tensors] + [tensors[name].copy() for name in copies]
            words: list[int] = []
            for array in arrays:
                words += [array.ctypes.data, *(s // array.itemsize for s in array.strides)]
            workspace = np.empty(bytes, np.uint8)
            for launch in run:
                own = [workspace] if launch.workspace is not None else []
                given = _structure(words + counts + [array.ctypes.data for array in own])
                self._module.launch(
                    launch.name, (launches.blocks(launch, sizes),), (launch.threads,), launch.shared_bytes, [given],
                    buffers=arrays + own, seed=self.seed, threads=threads,
                )  # fmt: skip

        return call


def _structure(words: list[int]) -> ctypes.Structure:
    """A structure of eight-byte members, as `codegen.cuda.members` lists them."""
    kind = type("Arguments", (ctypes.Structure,), {"_fields_": [("words", ctypes.c_int64 * len(words))]})
    made = kind((ctypes.c_int64 * len(words))(*words))
    assert isinstance(made, ctypes.Structure)
    return made
