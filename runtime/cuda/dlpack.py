"""Arrays on a CUDA device through DLPack (https://dmlc.github.io/dlpack/latest/c_api.html): in, as views."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from irc.runtime.arrays import DTYPE
from irc.runtime.cuda.memory import Tensor, tensor
from irc.runtime.errors import InputError

CUDA, CUDA_MANAGED = 2, 13  # DLDeviceType
KINDS = {0: "i", 1: "u", 2: "f", 6: "b"}  # DLDataTypeCode, as numpy has them
BFLOAT = 4
NAME = b"dltensor"

_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


class _Tensor(ctypes.Structure):
    """DLTensor, with which a DLManagedTensor begins."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


def on_device(value: Any) -> bool:
    tell = getattr(value, "__dlpack_device__", None)
    return tell is not None and int(tell()[0]) in (CUDA, CUDA_MANAGED)


def elsewhere(name: str, wanted: int, found: int) -> InputError:
    """For an array on another device than the program's."""
    return InputError(
        f"{name}: expected an array on device {wanted}, got one on {found}: "
        f'a program for that one has target="cuda:{found}"'
    )


def view(name: str, value: Any, device: int, stream: int) -> Tensor:
    """The array itself, once what fills it is done or on the stream. Raises InputError for one on another device, or of
    elements that no program has. The capsule is its owner: it is left unused, and so releases the array in the end."""
    capsule = value.__dlpack__(stream=stream)
    given = _Tensor.from_address(_pointer(capsule, NAME))
    if given.device_id != device:
        raise elsewhere(name, device, given.device_id)
    if given.lanes != 1 or given.bits % 8 or (given.code not in KINDS and (given.code, given.bits) != (BFLOAT, 16)):
        raise InputError(f"{name}: elements of DLPack's type {given.code} with {given.bits} bits have no use here")
    dtype = DTYPE["bf16"] if given.code == BFLOAT else np.dtype(f"{KINDS[given.code]}{given.bits // 8}")
    shape = tuple(given.shape[: given.ndim])
    strides = tuple(step * dtype.itemsize for step in given.strides[: given.ndim]) if given.strides else ()
    return tensor(capsule, (given.data or 0) + given.byte_offset, shape, dtype, strides)
