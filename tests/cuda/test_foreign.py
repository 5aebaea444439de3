"""Libraries of arrays on a device: what irc asks them for, and how their streams and irc's wait for each other.

A library that stands in for CuPy notes what it is asked."""

from __future__ import annotations

import ctypes
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import irc
from irc.runtime.arrays import DTYPE, Array
from irc.runtime.cuda import dlpack
from tests.cuda.test_device import Elsewhere, drawn, on_host
from tests.test_examples import FOLDER

pytestmark = pytest.mark.usefixtures("device")
THEIRS = 77  # the handle of the library's stream


class Stream:
    def __init__(self, ptr: int, noted: list[tuple[str, int, object]]) -> None:
        self.ptr, self._noted = ptr, noted

    def wait_event(self, event: Event) -> None:
        self._noted.append(("waits", self.ptr, event))


class Event:
    def __init__(self, noted: list[tuple[str, int, object]]) -> None:
        self._noted = noted

    def record(self, stream: Stream) -> None:
        self._noted.append(("records", stream.ptr, self))


class Place:
    def __init__(self, number: int) -> None:
        self.id = number


class Cupy(ModuleType):
    """As much of CuPy as irc uses; `noted` has what streams were told, in order."""

    class ndarray(Elsewhere):
        def __init__(self, values: Array, device: int = 0) -> None:
            super().__init__(values, device=device)
            self.shape, self.dtype, self.device = values.shape, values.dtype, Place(device)

    def __init__(self, stream: int) -> None:
        super().__init__("cupy")
        noted: list[tuple[str, int, object]] = []
        self.noted = noted
        self.cuda: Any = ModuleType("cupy.cuda")
        self.cuda.get_current_stream = lambda: Stream(stream, noted)
        self.cuda.ExternalStream = lambda handle: Stream(handle, noted)
        self.cuda.Event = lambda: Event(noted)
        self.asarray = lambda given: ("an array of CuPy", given)


@pytest.mark.parametrize("stream", (0, THEIRS))
def test_a_call_waits_for_the_stream_of_its_arguments_and_is_waited_for(
    stream: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {n: drawn(1, 2, 21, 8) for n in "qkv"}
    program = irc.compile(FOLDER / "causal.attn", target="cuda")
    expected = program(**given)[0]
    cupy = Cupy(stream)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    (kind, output), _ = program(**{n: cupy.ndarray(a) for n, a in given.items()})
    assert kind == "an array of CuPy"
    assert on_host(output).tobytes() == expected.tobytes()
    if stream == 0:
        assert not cupy.noted
        return
    (first, theirs, before), (then, ours, waited), (last, done, after), (end, handed, joined) = cupy.noted
    assert (first, then, last, end) == ("records", "waits", "records", "waits")
    assert theirs == handed == THEIRS and ours == done and ours not in (0, THEIRS)
    assert before is waited and after is joined


def test_an_array_on_another_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = Cupy(0)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    arrays = {n: cupy.ndarray(np.ones((1, 1, 3, 4), np.float32)) for n in "qkv"}
    arrays["k"].device.id = 1
    with pytest.raises(irc.InputError, match=r'k: expected an array on device 0, got one on 1: .* target="cuda:1"'):
        irc.compile(FOLDER / "causal.attn", target="cuda")(**arrays)


class Packed:
    """An array on the device that has DLPack alone."""

    def __init__(self, values: Array, device: int = 0) -> None:
        self.there, self.asked = Elsewhere(values), []
        self.shape = (ctypes.c_int64 * values.ndim)(*values.shape)
        code = {"f": 2, "i": 0, "V": 4}[values.dtype.kind]
        address = self.there.__cuda_array_interface__["data"][0]
        bits = values.itemsize * 8
        none = ctypes.POINTER(ctypes.c_int64)()
        self.made = dlpack._Tensor(address, dlpack.CUDA, device, values.ndim, code, bits, 1, self.shape, none, 0)

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self.made.device_id

    def __dlpack__(self, stream: int) -> object:
        self.asked.append(stream)
        make = ctypes.pythonapi.PyCapsule_New
        make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        return make(ctypes.addressof(self.made), dlpack.NAME, None)


@pytest.mark.parametrize("dtype", ("f32", "bf16"))
def test_arrays_with_dlpack_alone_are_used_in_place(dtype: Any) -> None:
    program = irc.compile(FOLDER / "causal.attn", dtype=dtype, target="cuda")
    given = {n: drawn(1, 2, 21, 8).astype(DTYPE[dtype]) for n in "qkv"}
    expected = program(**given)[0]
    packed = {n: Packed(a) for n, a in given.items()}
    assert on_host(program(**packed)[0]).tobytes() == expected.tobytes()
    assert all(set(p.asked) == {1} for p in packed.values())  # ready on the default stream
    with pytest.raises(irc.InputError, match="k: expected an array on device 0, got one on 1"):
        program(**packed | {"k": Packed(given["k"], device=1)})
