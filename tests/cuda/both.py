"""Launches that run on a device and in the emulator, and have to leave the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from irc.runtime import emulator
from irc.runtime.arrays import Array
from irc.runtime.boxes import Layout
from irc.runtime.cuda import device, launch, tensor_map
from irc.runtime.emulator.driver import Argument

LOOSE = {("numbers", 4)}  # arguments that instructions fill which are approximate


class Module:
    """A source with kernels, as that of `emulator.build`."""

    def __init__(self, source: str) -> None:
        self._cuda = device.find()
        self._emulated = emulator.build(source, check=False)
        self._loaded = launch.Module(self._cuda, source)

    def launch(
        self,
        kernel: str,
        grid: Sequence[int],
        block: Sequence[int],
        shared_bytes: int,
        args: Sequence[Argument],
        *,
        buffers: Sequence[Array] = (),
        seed: int = 0,
    ) -> None:
        """Run a kernel on both, from the same values: the arrays hold what it leaves."""
        arrays = {a.ctypes.data: a for a in (*args, *buffers) if isinstance(a, np.ndarray)}
        with self._cuda.running(()):
            there = {at: self._cuda.take("argument", _bytes(a).view(np.bool_), "bool") for at, a in arrays.items()}
            self._emulated.launch(kernel, grid, block, shared_bytes, args, buffers=buffers, seed=seed)
            given = b""
            for arg in args:
                value, alignment = _value(arg, there)
                given += bytes(-len(given) % alignment) + value
            prepared = self._loaded.prepared(kernel, _three(grid), _three(block), shared_bytes, len(given))
            prepared(None, given)
            for n, (at, a) in enumerate(arrays.items()):
                got = np.empty(a.nbytes, np.uint8)
                self._cuda.driver.memcpy_dtoh(got, there[at].ctypes.data)
                if (kernel, n) not in LOOSE:
                    assert got.tobytes() == a.tobytes(), f"{kernel}: array {n} differs from the emulator's"
                elif a.flags.writeable:
                    a[...] = got.view(a.dtype).reshape(a.shape)


def _bytes(array: Array) -> Array:
    return np.frombuffer(array.tobytes(), np.uint8)


def _three(given: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = (*given, 1, 1, 1)[:3]
    return x, y, z


def _value(arg: Argument, there: dict[int, Array]) -> tuple[bytes, int]:
    """The bytes of a parameter and their alignment."""
    if isinstance(arg, np.ndarray):
        return there[arg.ctypes.data].ctypes.data.to_bytes(8, "little"), 8
    if isinstance(arg, np.generic):
        return arg.tobytes(), arg.itemsize
    assert isinstance(arg, emulator.TensorMap)
    return _tensor_map(arg, there[arg.base].ctypes.data), 64


def _tensor_map(given: Any, address: int) -> bytes:
    """The emulator's map as the driver makes it, of memory on the device."""
    rank = given.rank
    layout = Layout(
        tuple(given.size[:rank]), tuple(given.stride[: rank - 1]), tuple(given.box[:rank]), given.element, given.swizzle
    )
    made = tensor_map.encoded(layout, address)
    assert made is not None
    return made
