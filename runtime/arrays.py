"""Arrays of any library in as numpy views, results out as the caller's kind. Floating data is not copied.

Copied are only: integers of more than 32 bits, and layouts that a kernel cannot address (last axis not contiguous,
a foreign byte order, misaligned data).
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Hashable
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from irc.codegen.kernel import Storage
from irc.runtime.errors import InputError

Array = NDArray[Any]

DTYPE: dict[Storage, np.dtype[Any]] = {
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f16": np.dtype(np.float16),
    "i8": np.dtype(np.int8),
    "u8": np.dtype(np.uint8),
    "i16": np.dtype(np.int16),
    "u16": np.dtype(np.uint16),
    "i32": np.dtype(np.int32),
    "bool": np.dtype(np.uint8),
}
FLOATS = ("f32", "f64", "bf16", "f16")
INTEGERS = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")
NARROW = frozenset(DTYPE[storage] for storage in ("i8", "u8", "i16", "u16"))  # integers that kernels read as they are
INT32 = np.iinfo(np.int32)
LARGEST = float(np.finfo(np.float32).max)
PLAIN = (np.ndarray, np.generic, bool, int, float)
CPU_DEVICE = 1  # DLPack's kDLCPU

# Of an array's object, `data` comes first after the head: https://numpy.org/doc/stable/reference/c-api/types-and-structures.html
# (PyArrayObject). Read there it takes a seventh of the time of `ctypes.data`.
HEAD = object.__basicsize__
_pointer_at = ctypes.c_size_t.from_address


def address(value: Any) -> int:
    """Where the first element of a numpy array or of a torch tensor lies."""
    if isinstance(value, np.ndarray):
        return _pointer_at(id(value) + HEAD).value
    return int(value.data_ptr())


def look(name: str, value: object, storage: Storage) -> tuple[Hashable, Any, int]:
    """The layout of an argument, the argument, or where `take` would make an array of it that array, and its address.

    Arguments of one layout have one element type, shape, strides and alignment. Raises InputError as `take`.
    """
    kind = type(value)
    if kind is np.ndarray:
        array: Any = value
        place = address(array)
        return (array.dtype, array.shape, array.strides, place & 7), value, place
    torch = sys.modules.get("torch")
    if torch is not None and (kind is torch.Tensor or kind is torch.nn.Parameter):
        tensor: Any = value
        if tensor.layout is torch.strided and tensor.is_cpu and not tensor.is_neg():
            try:
                place = tensor.data_ptr()
                if place:  # 0 is that of one without elements, or without memory, of which all elements are 0
                    return (tensor.dtype, tensor.shape, tensor.stride(), place & 7), value, place
            except RuntimeError:  # no memory, or no shape, of its own: `take` says so
                pass
    taken = take(name, value, storage)
    return (taken.shape, taken.strides), taken, address(taken)


def name_of(dtype: np.dtype[Any]) -> str:
    """The element type as irc writes it: f32, bf16, i64, bool."""
    if dtype == DTYPE["bf16"]:
        return "bf16"
    return f"{dtype.kind}{8 * dtype.itemsize}" if dtype.kind in "fiu" else str(dtype)


def storage_of(array: Array) -> Storage:
    """Its element type, which is one of a tensor's."""
    return next(storage for storage, dtype in DTYPE.items() if dtype == array.dtype)


def take(name: str, value: object, storage: Storage) -> Array:
    """The argument as a numpy array that a kernel can address: a view wherever that is possible. Integers, "i32", may
    have less than 32 bits.

    Raises InputError naming the argument where the element type is not the program's, an integer does not fit
    32 bits, or the data is not in this machine's memory. Python numbers become arrays without axes.
    """
    if isinstance(value, bool | int | float | np.generic):
        return _scalar(name, value, storage)
    array = _view(name, value)
    check_element_type(name, name_of(array.dtype), storage, array.ndim)
    if storage == "i32":
        return addressable(_integers(name, array))
    if storage == "bool":
        return addressable(array.view(np.uint8))
    return addressable(array.astype(DTYPE[storage], copy=False))


def check_element_type(name: str, got: str, storage: Storage, axes: int) -> None:
    """Raises InputError where an array of this element type, as `name_of` writes it, is not one of the program's."""
    if storage == "i32":
        if got not in INTEGERS:
            raise InputError(f"{name}: expected integers, got {got}")
    elif got != storage:
        helps = axes and got in FLOATS and storage in FLOATS  # without axes it may be a scalar, whose type is another
        hint = f': convert it, or compile with dtype="{got}"' if helps else ""
        raise InputError(f"{name}: expected {storage}, got {got}{hint}")


def addressable(array: Array) -> Array:
    """The array itself, or a copy where its layout cannot be told as a pointer and strides in elements. In place of one
    without elements one with a spare element at any index: kernels read `table[clamp(j, 0, N - 1)]` ahead of the
    condition that there is such an entry."""
    if array.size == 0:
        return np.lib.stride_tricks.as_strided(np.zeros(1, array.dtype), array.shape, (0,) * array.ndim)
    return array if is_addressable(array) else np.array(array, order="C", copy=True)


def is_addressable(array: Array) -> bool:
    size = array.itemsize
    if array.flags.c_contiguous and array.flags.aligned:
        return True
    strides = array.strides
    whole = array.flags.aligned and all(s % size == 0 for s in strides)
    return bool(whole and (strides[-1] == size or array.shape[-1] == 1 or array.size == 0))


def give(array: Array, like: object, storage: Storage = "f32") -> Any:
    """The result as an array of the library that `like` came from, sharing memory: torch tensor for torch tensor."""
    if storage == "bool":
        array = array.view(np.bool_)
    if isinstance(like, PLAIN):
        return array
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(like, torch.Tensor):
        if array.dtype == DTYPE["bf16"]:
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)
    namespace = getattr(like, "__array_namespace__", None)
    if namespace is None:
        return array
    library = namespace()
    try:
        return library.from_dlpack(array)
    except (AttributeError, TypeError, BufferError, RuntimeError):
        return library.asarray(array)  # bf16 is unknown to numpy's DLPack


def _view(name: str, value: object) -> Array:
    torch = sys.modules.get("torch")
    if isinstance(value, np.ma.MaskedArray):
        raise InputError(f"{name}: expected a plain array, got a masked one: its mask would have no effect")
    if isinstance(value, np.ndarray):
        array = np.asarray(value)  # of a subclass, the plain array
    elif torch is not None and isinstance(value, torch.Tensor):
        array = _torch_view(name, value, torch)
    elif hasattr(value, "__dlpack__"):
        array = _dlpack_view(name, value)
    elif hasattr(value, "__array__"):
        array = np.asarray(value)
    else:
        of_numbers = isinstance(value, list | tuple)
        expected = "an array" if of_numbers else "an array or a number"
        hint = " (`numpy.asarray` makes one of a list)" if of_numbers else ""
        raise InputError(f"{name}: expected {expected}, got {type(value).__name__}{hint}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _torch_view(name: str, tensor: Any, torch: Any) -> Array:
    if tensor.device.type != "cpu":
        raise InputError(f"{name}: expected a tensor on the CPU, got one on {tensor.device}")
    if tensor.layout != torch.strided:
        raise InputError(f"{name}: expected a strided tensor, got {tensor.layout}")
    if tensor.is_nested:
        raise InputError(f"{name}: expected a plain tensor, got a nested one")
    plain = tensor.detach().resolve_conj().resolve_neg()
    try:
        if plain.dtype == torch.bfloat16:
            return np.asarray(plain.view(torch.int16).numpy()).view(DTYPE["bf16"])
        return np.asarray(plain.numpy())
    except (TypeError, RuntimeError) as error:
        raise InputError(f"{name}: expected a tensor with memory that kernels can read: {error}") from error


def _dlpack_view(name: str, value: Any) -> Array:
    device = getattr(value, "__dlpack_device__", lambda: (CPU_DEVICE, 0))()
    if int(device[0]) != CPU_DEVICE:
        raise InputError(f"{name}: expected an array on the CPU, got one on another device")
    try:
        return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError) as error:
        if hasattr(value, "__array__"):
            return np.asarray(value)
        raise InputError(f"{name}: {error}") from error


def _integers(name: str, array: Array) -> Array:
    if array.dtype == DTYPE["i32"] or (array.ndim and array.dtype in NARROW):
        return array
    if array.size:
        for extreme in (int(array.min()), int(array.max())):
            if not INT32.min <= extreme <= INT32.max:
                raise InputError(f"{name}: expected integers of 32 bits, got {extreme}")
    return array.astype(DTYPE["i32"])


def _scalar(name: str, value: bool | int | float | np.generic, storage: Storage) -> Array:
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, np.generic) and value.dtype == DTYPE["bf16"]:
        plain = float(value)
    if storage == "bool":
        if not isinstance(plain, bool):
            raise InputError(f"{name}: expected a bool, got {value!r}")
        return np.array(plain, np.uint8)
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        raise InputError(f"{name}: expected a number, got {value!r}")
    if storage == "i32":
        if not isinstance(plain, int):
            raise InputError(f"{name}: expected an integer, got {value!r}")
        if not INT32.min <= plain <= INT32.max:
            raise InputError(f"{name}: expected an integer of 32 bits, got {plain}")
    try:
        if storage == "f32" and LARGEST < abs(plain) < math.inf:
            raise OverflowError
        return np.array(plain, DTYPE[storage])
    except OverflowError:
        raise InputError(f"{name}: expected a number, got one beyond the largest float") from None
