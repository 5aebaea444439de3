"""Arrays of other libraries on a device, in by `__cuda_array_interface__` or DLPack; out again; and their streams."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np

from irc.runtime.arrays import DTYPE, Array, address
from irc.runtime.cuda import dlpack
from irc.runtime.cuda.memory import Tensor, tensor
from irc.runtime.errors import InputError

DEFAULT_STREAM = 1
DEFAULT_STREAMS = (0, DEFAULT_STREAM, 2)  # handles of streams that wait for each other
INTERFACE = "__cuda_array_interface__"


def torch_of(value: object) -> Any:
    """PyTorch, where the value is one of its tensors on a CUDA device."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(value, torch.Tensor) and value.is_cuda else None


def cupy_of(value: object) -> Any:
    cupy = sys.modules.get("cupy")
    return cupy if cupy is not None and isinstance(value, cupy.ndarray) else None


def on_device(value: object) -> bool:
    """Whether it says that it lies on a CUDA device. A tensor of PyTorch has the attribute wherever it lies."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return bool(value.is_cuda)
    return hasattr(value, INTERFACE) or dlpack.on_device(value)


def look(value: object) -> tuple[Hashable, int, bool] | None:
    """Of an array on a device its layout, its address, and whether something on a stream that `Current` does not know
    may still be filling it; None where it has DLPack alone, is not strided, or does not lie on a device.

    Arrays of one layout lie on one device, as far as they say, and have one element type, shape, strides and alignment.
    """
    given: Any = value
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        if not given.is_cuda or given.layout is not torch.strided:
            return None
        place, changed = int(given.data_ptr()), given.is_neg() or given.is_conj()
        return (given.device, given.dtype, given.shape, given.stride(), changed, place & 7), place, False
    interface = getattr(given, INTERFACE, None)
    if interface is None:
        return None
    place, strides, masked = interface["data"][0], interface.get("strides"), interface.get("mask") is not None
    number, behind = None, False
    if cupy_of(value) is not None:
        number = given.device.id
    else:
        behind = interface.get("stream") not in (None, *DEFAULT_STREAMS)
    layout = (number, interface["typestr"], tuple(interface["shape"]), strides and tuple(strides), masked, place & 7)
    return layout, place, behind


def view(name: str, value: Any, device: int) -> Tensor:
    """The array itself, its address and strides. Raises InputError where it says that it lies on another device."""
    owner, dtype = value, None
    if (torch := torch_of(value)) is not None:
        if value.device.index != device:
            raise dlpack.elsewhere(name, device, value.device.index)
        if value.layout is not torch.strided:
            raise InputError(f"{name}: expected a strided tensor, got {value.layout}")
        value = value.detach().resolve_conj().resolve_neg()
        if value.dtype == torch.bfloat16:
            value, dtype = value.view(torch.int16), DTYPE["bf16"]
    elif cupy_of(value) is not None and value.device.id != device:
        raise dlpack.elsewhere(name, device, value.device.id)
    if not hasattr(value, INTERFACE):
        return dlpack.view(name, value, device, DEFAULT_STREAM)
    interface = getattr(value, INTERFACE)
    if interface.get("mask") is not None:
        raise InputError(f"{name}: expected a plain array, got a masked one: its mask would have no effect")
    if dtype is None:
        dtype = np.dtype(interface["typestr"])
        if dtype.kind == "V" and dtype.itemsize == 2:
            dtype = DTYPE["bf16"]
    strides = interface.get("strides") or ()
    return tensor((owner, value), interface["data"][0], tuple(interface["shape"]), dtype, tuple(strides))


class DeviceArray:
    """A result on the device for a caller whose arrays are of no library that irc knows. It has
    `__cuda_array_interface__`, by which other libraries take it without a copy."""

    def __init__(self, array: Array, stream: int | None = None) -> None:
        self._array = array
        self.shape, self.dtype = shape, dtype = array.shape, array.dtype
        self.__cuda_array_interface__ = {
            "data": (address(array), False),
            "shape": shape,
            "strides": array.strides,
            "typestr": dtype.str,
            "version": 3,
            "stream": stream,
        }

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype})"


def give(array: Array, like: object) -> Any:
    """The result in the library of `like`, sharing memory."""
    is_bf16 = array.dtype == DTYPE["bf16"]
    plain = DeviceArray(array.view(np.int16) if is_bf16 else array)  # of bf16 neither interface nor CuPy knows
    if (torch := torch_of(like)) is not None:
        made = torch.as_tensor(plain, device=like.device)  # type: ignore[attr-defined]
        return made.view(torch.bfloat16) if is_bf16 else made
    if (cupy := cupy_of(like)) is not None:
        made = cupy.asarray(plain)
        return made.view(like.dtype) if is_bf16 else made  # type: ignore[attr-defined]
    return DeviceArray(array, DEFAULT_STREAM)


class Current:
    """The stream of a device, whose context is current, on which a library of some of the arguments there is at work;
    the default one for all others."""

    def __init__(self, values: Iterable[object], device: int) -> None:
        self.handle = 0
        self._library: Any = None
        for value in values:
            if (torch := torch_of(value)) is not None and value.device.index == device:  # type: ignore[attr-defined]
                self._library, self.handle = torch.cuda, torch.cuda.current_stream(device).cuda_stream
                return
            if (cupy := cupy_of(value)) is not None and value.device.id == device:  # type: ignore[attr-defined]
                self._library, self.handle = cupy.cuda, cupy.cuda.get_current_stream().ptr
                return

    @property
    def is_default(self) -> bool:
        return self.handle in DEFAULT_STREAMS

    @property
    def is_captured(self) -> bool:
        """Whether a graph is made of what is done on it."""
        if hasattr(self._library, "is_current_stream_capturing"):  # PyTorch
            return bool(self._library.is_current_stream_capturing())
        return bool(self._library.get_current_stream().is_capturing())

    def before(self, handle: int) -> None:
        """What follows on the stream with this handle waits for what is on this one now."""
        self._order(handle, True)

    def after(self, handle: int) -> None:
        """What follows on this stream waits for what is on the one with this handle now."""
        self._order(handle, False)

    def _order(self, handle: int, before: bool) -> None:
        ours, theirs = self._library.ExternalStream(handle), self._library.ExternalStream(self.handle)
        first, then = (theirs, ours) if before else (ours, theirs)
        event = self._library.Event()
        event.record(first)
        then.wait_event(event)
