"""Tensor maps as the driver makes them: pycuda has no call for it."""

from __future__ import annotations

import ctypes
from functools import lru_cache

from irc.runtime.boxes import Layout
from irc.runtime.errors import DeviceError

BYTES, ALIGNMENT = 128, 64  # of a CUtensorMap
TYPES = {2: 1, 4: 7}  # CU_TENSOR_MAP_DATA_TYPE_UINT16 and _FLOAT32, by bytes of an element
SWIZZLES = {0: 0, 32: 1, 64: 2, 128: 3}
INVALID_VALUE = 1  # CUDA_ERROR_INVALID_VALUE
PROMOTION = 2  # to 128 bytes, of what the second cache fetches


@lru_cache(maxsize=1024)
def encoded(layout: Layout, address: int) -> bytes | None:
    """The map of what lies at an address of the device; None where the driver takes no such layout. Raises DeviceError
    where it fails."""
    rank, memory = len(layout.shape), (ctypes.c_uint8 * (BYTES + ALIGNMENT))()
    start = -ctypes.addressof(memory) % ALIGNMENT
    status = ctypes.CDLL("libcuda.so.1").cuTensorMapEncodeTiled(
        ctypes.byref(memory, start), TYPES[layout.element], ctypes.c_uint32(rank), ctypes.c_void_p(address),
        (ctypes.c_uint64 * rank)(*layout.shape), (ctypes.c_uint64 * rank)(*layout.strides),
        (ctypes.c_uint32 * rank)(*layout.box), (ctypes.c_uint32 * rank)(*[1] * rank),
        0, SWIZZLES[layout.swizzle], PROMOTION, 0,
    )  # fmt: skip
    if status == INVALID_VALUE:
        return None
    if status:
        raise DeviceError(f"cuTensorMapEncodeTiled answered {status} for {layout}")
    return bytes(memory)[start : start + BYTES]
