"""Calls on a stream that is being captured into a graph. pycuda knows nothing of it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from irc.runtime.errors import DeviceError

RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED


class Capture(NamedTuple):
    """A capture of a stream. What is made on the device while it lasts is the graph's: no call elsewhere may use its
    memory again, and none may free it, for a graph may be launched as long as the process lives."""

    stream: int
    number: int


def of(stream: int) -> Capture:
    """That which a stream is in. Raises DeviceError."""
    status, number = ctypes.c_int(), ctypes.c_uint64()
    _call("cuStreamGetCaptureInfo", ctypes.c_void_p(stream), ctypes.byref(status), ctypes.byref(number))
    return Capture(stream, number.value)


@contextmanager
def permitted() -> Iterator[None]:
    """Within, this thread may ask the driver for memory and load kernels, which are no work of a stream, while streams
    are captured; else the driver refuses, and the capture is lost."""
    mode = ctypes.c_int(RELAXED)
    _call("cuThreadExchangeStreamCaptureMode", ctypes.byref(mode))
    try:
        yield
    finally:
        _call("cuThreadExchangeStreamCaptureMode", ctypes.byref(mode))


def _call(name: str, *arguments: object) -> None:
    status = getattr(ctypes.CDLL("libcuda.so.1"), name)(*arguments)
    if status:
        raise DeviceError(f"{name} answered {status}")
