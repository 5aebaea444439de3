"""Kernels of one CUDA source on a device: compiled, loaded, and launched with as little as possible left to do."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irc.codegen import cuda_launch
from irc.codegen.kernel import Kernel
from irc.runtime import boxes, launches
from irc.runtime.arrays import Array, address
from irc.runtime.cpu import check, chooser
from irc.runtime.cuda import nvcc, tensor_map
from irc.runtime.cuda.memory import row_major
from irc.runtime.device import HOST
from irc.runtime.errors import DeviceError

if TYPE_CHECKING:
    from irc.runtime.cuda.device import Cuda

Maps = list[tuple[int, boxes.Layout]]  # of a launch: which tensor each is of, and how that lies
PLAIN_SHARED = 48 << 10  # bytes of shared memory that a launch has without asking
MOST_BLOCKS = 2**31 - 1


class Module:
    """A source for a device, compiled and loaded when it is first launched."""

    def __init__(self, device: Cuda, source: str) -> None:
        self.device, self.source = device, source
        self._lock = threading.Lock()
        self._module: Any = None
        self._functions: dict[str, Any] = {}

    def load(self) -> Any:
        """The module. Raises ToolchainError without nvcc, DeviceError where the driver refuses what it made."""
        with self._lock:
            if self._module is None:
                code = nvcc.cubin(self.source, self.device.architecture).read_bytes()
                self._module = self.device.driver.module_from_buffer(code)
            return self._module

    def prepared(
        self, name: str, grid: tuple[int, int, int], block: tuple[int, int, int], shared_bytes: int, given_bytes: int
    ) -> Launch:
        """A launch of a kernel that is given one structure of so many bytes. Raises as `load`."""
        module = self.load()
        with self._lock:
            if name not in self._functions:
                found = module.get_function(name).prepare([f"{given_bytes}s"])
                if shared_bytes > PLAIN_SHARED:
                    kind = self.device.driver.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
                    found.set_attribute(kind, shared_bytes)
                self._functions[name] = found
        return Launch(self._functions[name].prepared_async_call, grid, block, shared_bytes)


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel with all but its parameters and stream."""

    run: Callable[..., None]
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int

    def __call__(self, stream: Any, given: bytes) -> None:
        self.run(self.grid, self.block, stream, given, shared_size=self.shared_bytes)


class Library:
    """The kernels of a program on a device, as plans call them; `known`: what is known of them."""

    by_address = True

    def __init__(self, device: Cuda, source: str, known: Mapping[str, cuda_launch.Rendered] | None = None) -> None:
        self.device, self.architecture, self.known = device, device.architecture, known or {}
        self._module = Module(device, source)

    def load(self, sizes: Mapping[str, int]) -> None:
        self._module.load()

    def bound(
        self, kernel: Kernel, tensors: Mapping[str, Array], sizes: Mapping[str, int], threads: int
    ) -> Callable[[Mapping[str, Any], Mapping[str, int]], None]:
        """The kernel for sizes, threads and the layouts of these tensors: a function of tensors in those layouts."""
        rendered = launches.rendered(kernel, self.architecture, self.known)
        names, copies = [t.name for t in kernel.tensors], rendered.copied
        arrays = [tensors[name] for name in names]
        check(kernel, arrays)
        strides = [tuple(s // a.itemsize for s in a.strides) for a in arrays]
        strides += [row_major(tensors[name].shape) for name in copies]
        given = _Given(strides, [sizes[s] for s in kernel.sizes])
        shapes = {name: boxes.Shape.of(tensors[name]) for name in names}
        shapes |= {cuda_launch.before(name): shapes[name].row_major() for name in copies}
        run = [each for each in rendered.launches if launches.blocks(each, sizes)]
        prepared = [(self._choices(each, shapes, sizes, given), each.workspace is not None) for each in run]
        bytes, copy, device, chosen = launches.workspace(run, sizes), self.device.copy, self.device, chooser(names)

        def call(tensors: Mapping[str, Any], places: Mapping[str, int]) -> None:
            at, stream = chosen(places), device.stream
            if copies:
                copied = [copy(tensors[name]) for name in copies]
                at = (*at, *map(address, copied))
            words = given.at(at)
            workspace = device.allocate((bytes,), "bool") if bytes else None
            place = b"" if workspace is None else address(workspace).to_bytes(8, "little")
            for choices, works in prepared:
                for launch, maps in choices:
                    made = _encoded(maps, at) if maps else b""
                    if made is not None:
                        launch(stream, boxes.given(made, words + place if works else words))
                        break

        return call

    def _choices(
        self, launch: cuda_launch.Launch, tensors: Mapping[str, boxes.Shape], sizes: Mapping[str, int], given: _Given
    ) -> list[tuple[Launch, Maps]]:
        """Ways to run it, each with its maps: the first whose tensors lie on enough bytes is for a call. None where
        there is nothing to do."""
        found = []
        if launch.otherwise is not None:
            found = self._choices(launch.otherwise, tensors, sizes, given)
        layouts = boxes.layouts(launch, tensors, sizes)
        if layouts is None:
            return found
        blocks = launches.blocks(launch, sizes)
        if launch.boxes:
            blocks = min(blocks, self.device.threads())
        if blocks > MOST_BLOCKS:
            raise DeviceError(f"{launch.name}: {blocks} blocks, a launch has at most {MOST_BLOCKS}")
        if not blocks:
            return []
        needed = len(
            boxes.given(
                bytes(tensor_map.BYTES * len(layouts)), bytes(given.bytes + (8 if launch.workspace is not None else 0))
            )
        )
        grid, block = (blocks, 1, 1), (launch.threads, 1, 1)
        prepared = self._module.prepared(launch.name, grid, block, launch.shared_bytes, needed)
        places = {name: n for n, name in enumerate(tensors)}
        maps = [(places[box.tensor], layout) for box, layout in zip(launch.boxes, layouts, strict=True)]
        return [(prepared, maps), *found]


def _encoded(maps: Maps, at: Sequence[int]) -> bytes | None:
    """Maps of tensors at these addresses; None where one lies on too few bytes, or as the driver has no map for."""
    if any(at[n] % boxes.ALIGNMENT for n, _ in maps):
        return None
    made = [tensor_map.encoded(layout, at[n]) for n, layout in maps]
    return None if None in made else b"".join(filter(None, made))


class _Given:
    """What every launch of a kernel is given, as `codegen.cuda_launch.members` lists it: pointers alone change."""

    def __init__(self, strides: list[tuple[int, ...]], counts: list[int]) -> None:
        strides = [*strides[:-1], (*strides[-1], *counts)]
        self._parts: list[Any] = [part for row in strides for part in (0, struct.pack(f"{len(row)}q", *row))]
        self._struct = struct.Struct("".join([f"Q{8 * len(row)}s" for row in strides]))
        self.bytes = self._struct.size

    def at(self, places: Sequence[int]) -> bytes:
        parts = self._parts.copy()
        parts[::2] = places
        return self._struct.pack(*parts)


class Cubin:
    """Kernels compiled for an architecture, here or not: `path` is the machine code. They are not called."""

    by_address = False
    device = HOST

    def __init__(self, source: str, architecture: str) -> None:
        self.architecture = architecture
        self.path: Path = nvcc.cubin(source, architecture)

    def load(self, sizes: Mapping[str, int]) -> None:
        """It is for loading elsewhere."""

    def bound(
        self, kernel: Kernel, tensors: Mapping[str, Array], sizes: Mapping[str, int], threads: int
    ) -> Callable[[Mapping[str, Any], Mapping[str, int]], None]:
        raise DeviceError(
            f'{kernel.name}: target="cuda:{self.architecture}" compiles, and does not run: `cubin` of the program is '
            'the machine code; target="cuda" runs on the device of this machine'
        )
