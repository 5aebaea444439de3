"""What tensor maps say of the tensors of a call: boxes of kernels, where a tensor lies as a map can have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from irc.codegen.cuda_launch import Box, Launch
from irc.runtime.arrays import Array
from irc.runtime.sizes import evaluate

ALIGNMENT = 16  # bytes, of the first element and of strides


@dataclass(frozen=True, slots=True)
class Layout:
    """A tensor of which a box is copied at a time; directions from the contiguous one on, `strides` in bytes of all but
    that. `element` in bytes, as `swizzle`."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    element: int
    swizzle: int


@dataclass(frozen=True, slots=True)
class Shape:
    """How a tensor lies: its strides and elements in bytes."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    element: int

    @classmethod
    def of(cls, array: Array) -> Shape:
        return cls(array.shape, array.strides, array.itemsize)

    def row_major(self) -> Shape:
        strides = tuple(self.element * prod(self.sizes[d + 1 :]) for d in range(len(self.sizes)))
        return Shape(self.sizes, strides, self.element)


def layouts(launch: Launch, tensors: Mapping[str, Shape], sizes: Mapping[str, int]) -> tuple[Layout, ...] | None:
    """Of each box of a launch, whatever the addresses; None where one has no map, or the launch does not suit sizes."""
    if launch.suits is not None and not evaluate(launch.suits, sizes):
        return None
    found = [_layout(box, tensors[box.tensor], sizes) for box in launch.boxes]
    made = tuple(layout for layout in found if layout is not None)
    return made if len(made) == len(found) else None


def _layout(box: Box, tensor: Shape, sizes: Mapping[str, int]) -> Layout | None:
    shape = [tensor.sizes[d] for d in box.dims]
    shape[:2] = [evaluate(e, sizes) for e in box.extents]
    strides = [tensor.strides[d] if n > 1 else ALIGNMENT for d, n in zip(box.dims, shape, strict=True)]
    contiguous = strides[0] == tensor.element or shape[0] == 1
    if not contiguous or min(shape) < 1 or not all(s > 0 and s % ALIGNMENT == 0 for s in strides[1:]):
        return None
    elements = (*box.elements, *[1] * (len(shape) - 2))
    return Layout(tuple(shape), tuple(strides[1:]), elements, tensor.element, box.swizzle)


def given(maps: bytes, words: bytes) -> bytes:
    """What a launch is given, as long as its structure: maps, which lie on 64 bytes, come first."""
    made = maps + words
    return made + bytes(-len(made) % 64) if maps else made
