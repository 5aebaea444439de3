"""Tensor maps as the emulator has them. On a device the driver makes them (cuTensorMapEncodeTiled); same limits."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from irc.runtime.arrays import Array

SWIZZLES = (0, 32, 64, 128)
MAX_RANK, MAX_BOX, ALIGNMENT = 5, 256, 16


class TensorMap(ctypes.Structure):
    """A tensor in global memory and the box of it that one bulk copy moves."""

    _fields_ = (  # emu_tensor_map of abi.h
        ("base", ctypes.c_void_p),
        ("size", ctypes.c_uint64 * MAX_RANK),
        ("stride", ctypes.c_uint64 * (MAX_RANK - 1)),
        ("box", ctypes.c_uint32 * MAX_RANK),
        ("rank", ctypes.c_uint16),
        ("element", ctypes.c_uint16),
        ("swizzle", ctypes.c_uint32),
        ("_padding", ctypes.c_uint8 * 20),
    )

    @classmethod
    def of(cls, array: Array, box: Sequence[int], swizzle: int = 0) -> TensorMap:
        """A map of the array, its last axis contiguous; `box` has a number of elements for each axis, `swizzle` is 0,
        32, 64 or 128 bytes. The array has to live as long as the map, and is named in the `buffers` of a launch.

        Raises ValueError for what a device does not take.
        """
        contiguous = array.ndim > 0 and array.strides[-1] == array.itemsize
        if not contiguous:
            raise ValueError("no tensor map: the last axis is not contiguous")
        return cls.at(array.ctypes.data, array.shape, array.strides[:-1], box, array.itemsize, swizzle)

    @classmethod
    def at(
        cls, address: int, shape: Sequence[int], strides: Sequence[int], box: Sequence[int], element: int, swizzle: int
    ) -> TensorMap:
        """A map of what lies at an address: `strides` in bytes of all axes but the last. Raises as `of`."""
        row = element * box[-1] if box else 0
        limits = (
            (
                1 <= len(shape) == len(box) <= MAX_RANK,
                f"a box {tuple(box)} for {len(shape)} axes, of at most {MAX_RANK}",
            ),
            (all(n > 0 and n % ALIGNMENT == 0 for n in strides), f"strides {(*strides, element)} are not on 16 bytes"),
            (address % ALIGNMENT == 0, "the array does not begin on 16 bytes"),
            (all(1 <= n <= MAX_BOX for n in box), f"a box {tuple(box)} with sides beyond 1 to {MAX_BOX}"),
            (row % ALIGNMENT == 0, f"the box's rows have {row} bytes, no multiple of 16"),
            (swizzle in SWIZZLES, f"a swizzle of {swizzle} bytes: expected one of {SWIZZLES}"),
            (not swizzle or row <= swizzle, f"the box's rows have {row} bytes, more than the swizzle's {swizzle}"),
        )
        for holds, otherwise in limits:
            if not holds:
                raise ValueError(f"no tensor map: {otherwise}")
        made = cls(base=address, rank=len(shape), element=element, swizzle=swizzle)
        for n in range(len(shape)):
            made.size[n], made.box[n] = shape[-1 - n], box[-1 - n]
        for n in range(len(shape) - 1):
            made.stride[n] = strides[-1 - n]
        return made
