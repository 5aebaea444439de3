"""The kernels of a plan as CUDA, run by the emulator: on any machine, checked where that is asked for."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np

from irc.codegen.cuda_launch import LEAST, Launch, Rendered, before
from irc.codegen.kernel import Kernel
from irc.runtime import boxes, emulator, launches
from irc.runtime.arrays import Array
from irc.runtime.device import HOST

PROCESSORS = 2  # of the device that is emulated


class Library:
    """Kernels of one CUDA source; `check`: every access, race and barrier is watched, and `seed` draws a schedule, of
    each launch from then on. `architecture`: that the source was rendered for; `known`: what is known of its kernels.
    `contract`: products are fused with sums, as on a device.

    What a check finds is an `EmulatorError`: a defect of the compiler, not of the call.
    """

    by_address = False
    device = HOST

    def __init__(
        self, source: str, check: bool = False, seed: int = 0, architecture: str = LEAST,
        known: Mapping[str, Rendered] | None = None, contract: bool = False,
    ) -> None:  # fmt: skip
        self._source, self._check, self.known = source, check, known or {}
        self.seed, self.architecture, self._contract = seed, architecture, contract

    @cached_property
    def _module(self) -> emulator.Module:
        return emulator.build(self._source, self._check, self._contract)

    def load(self, sizes: Mapping[str, int]) -> None:
        _ = self._module

    def bound(
        self, kernel: Kernel, tensors: Mapping[str, Array], sizes: Mapping[str, int], threads: int
    ) -> Callable[[Mapping[str, Array], Mapping[str, int]], None]:
        """The kernel for sizes and threads, as a function of the tensors that its declaration names."""
        made = launches.rendered(kernel, self.architecture, self.known)
        run = [launch for launch in made.launches if launches.blocks(launch, sizes)]
        bytes = launches.workspace(run, sizes)
        counts = [sizes[name] for name in kernel.sizes]

        def call(tensors: Mapping[str, Array], _: Mapping[str, int]) -> None:
            named = {t.name: tensors[t.name] for t in kernel.tensors}
            named |= {before(name): tensors[name].copy() for name in made.copied}
            arrays, words = list(named.values()), []
            for array in arrays:
                words += [array.ctypes.data, *(s // array.itemsize for s in array.strides)]
            workspace = np.empty(bytes, np.uint8)
            for launch in run:
                maps = _maps(launch, named, sizes)
                if maps is None and launch.otherwise:
                    launch = launch.otherwise
                own = [workspace] if launch.workspace is not None else []
                numbers = words + counts + [array.ctypes.data for array in own]
                given = _structure(boxes.given(maps or b"", np.array(numbers, np.int64).tobytes()))
                blocks = launches.blocks(launch, sizes)
                grid = min(blocks, PROCESSORS) if launch.boxes else blocks
                self._module.launch(
                    launch.name, (grid,), (launch.threads,), launch.shared_bytes, [given], buffers=arrays + own,
                    seed=self.seed, threads=threads,
                )  # fmt: skip

        return call


def _maps(launch: Launch, tensors: Mapping[str, Array], sizes: Mapping[str, int]) -> bytes | None:
    """The tensor maps of a launch, one after another; None where a tensor lies as none can say."""
    layouts = boxes.layouts(launch, {name: boxes.Shape.of(a) for name, a in tensors.items()}, sizes)
    places = [tensors[box.tensor].ctypes.data for box in launch.boxes]
    if layouts is None or any(place % boxes.ALIGNMENT for place in places):
        return None
    return b"".join(
        bytes(emulator.TensorMap.at(place, o.shape[::-1], o.strides[::-1], o.box[::-1], o.element, o.swizzle))
        for place, o in zip(places, layouts, strict=True)
    )


def _structure(data: bytes) -> ctypes.Structure:
    kind = type("Arguments", (ctypes.Structure,), {"_fields_": [("bytes", ctypes.c_char * len(data))]})
    made = kind()
    assert isinstance(made, ctypes.Structure)
    ctypes.memmove(ctypes.addressof(made), data, len(data))
    return made
