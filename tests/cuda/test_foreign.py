"""Libraries of arrays on a device: what irc asks them for, and how their streams and irc's wait for each other.

A library that stands in for CuPy notes what it is asked."""

from __future__ import annotations

import ctypes
import sys
import weakref
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import irc
from irc.runtime.arrays import DTYPE, Array
from irc.runtime.cuda import device, dlpack, foreign
from tests.cuda.test_device import Elsewhere, drawn, on_host
from tests.test_examples import FOLDER

pytestmark = pytest.mark.usefixtures("device")
THEIRS = 77  # the handle of the library's stream


class Stream:
    def __init__(self, ptr: int, noted: list[tuple[str, int, object]]) -> None:
        self.ptr, self._noted = ptr, noted
        self.captured = False

    def is_capturing(self) -> bool:
        return self.captured

    def wait_event(self, event: Event) -> None:
        self._noted.append(("waits", self.ptr, event))


class Event:
    def __init__(self, noted: list[tuple[str, int, object]]) -> None:
        self._noted = noted

    def record(self, stream: Stream) -> None:
        self._noted.append(("records", stream.ptr, self))


@dataclass(unsafe_hash=True)
class Place:
    """A device as CuPy and PyTorch name it."""

    id: int

    @property
    def index(self) -> int:
        return self.id


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


class Torch(ModuleType):
    """As much of PyTorch as irc uses, of float tensors on a device."""

    class Tensor(Elsewhere):
        is_cuda, layout, requires_grad = True, "strided", False

        def __init__(self, values: Array, device: int = 0) -> None:
            super().__init__(values, device=device)
            self.device = Place(device)
            self.dtype, self.shape = str(values.dtype), values.shape
            self._steps = tuple(s // values.itemsize for s in np.ascontiguousarray(values).strides)

        def stride(self) -> tuple[int, ...]:
            return self._steps

        def data_ptr(self) -> int:
            return int(self.__cuda_array_interface__["data"][0])

        def is_neg(self) -> bool:
            return False

        is_conj = is_neg

        def detach(self) -> Any:
            return self

        resolve_conj = resolve_neg = detach

    def __init__(self) -> None:
        super().__init__("torch")
        self.bfloat16, self.strided = "bfloat16", "strided"
        self.cuda = SimpleNamespace(current_stream=lambda device: SimpleNamespace(cuda_stream=0))
        self.as_tensor = lambda plain, device: plain
        self.is_grad_enabled = lambda: True


def of_torch(values: Array, device: int = 0) -> Any:
    return Torch.Tensor(values, device)


KINDS = pytest.mark.parametrize("kind", [of_torch, Cupy.ndarray, Elsewhere])


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", Torch())
    monkeypatch.setitem(sys.modules, "cupy", Cupy(0))


def plain(result: Any) -> Array:
    """A result on the host, whichever library it is of."""
    return on_host(result[1] if isinstance(result, tuple) else result)


@KINDS
def test_of_what_kernels_alone_read_no_array_is_made(
    kind: Any, libraries: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = irc.compile(FOLDER / "causal.attn", target="cuda")
    arrays = [{n: drawn(1, 2, 21, 8) + seed for n in "qkv"} for seed in range(3)]
    wanted = [program.forward(**a) for a in arrays]
    gradients = [run.backward(o=a["q"]) for run, a in zip(wanted, arrays, strict=True)]
    seen: list[str] = []
    view = foreign.view
    monkeypatch.setattr(foreign, "view", lambda name, value, device: seen.append(name) or view(name, value, device))
    for given, expected, gradient in zip(arrays, wanted, gradients, strict=True):
        seen.clear()
        there = {n: kind(a) for n, a in given.items()}
        run = program.forward(**there)
        assert plain(run.outputs["o"]).tobytes() == expected.outputs["o"].tobytes()
        found = run.backward(o=kind(given["q"]))
        assert all(plain(found[n]).tobytes() == g.tobytes() for n, g in gradient.items())
    assert not seen  # by the last of them


@KINDS
def test_arguments_are_let_go_after_a_call(kind: Any, libraries: None) -> None:
    program = irc.compile(FOLDER / "causal.attn", target="cuda")
    for _ in range(2):
        given = {n: kind(drawn(1, 2, 21, 8)) for n in "qkv"}
        watched = [weakref.ref(value) for value in given.values()]
        run = program.forward(**given)
        del given
        assert all(ref() is not None for ref in watched)  # the backward run reads them
        run.backward(o=kind(drawn(1, 2, 21, 8)))
        del run
        assert not any(ref() is not None for ref in watched)


@pytest.mark.parametrize("kind", [of_torch, Cupy.ndarray])
def test_another_device_is_seen_after_a_call_of_the_same_layout(kind: Any, libraries: None) -> None:
    program = irc.compile(FOLDER / "causal.attn", target="cuda")
    given = {n: kind(drawn(1, 2, 21, 8)) for n in "qkv"}
    other = kind(drawn(1, 2, 21, 8))
    other.device = Place(1)
    said = r'expected an array on device 0, got one on 1: .* target="cuda:1"'
    for _ in range(2):
        run = program.forward(**given)
        with pytest.raises(irc.InputError, match="k: " + said):
            program(**given | {"k": other})
        run.backward(o=given["q"])
        with pytest.raises(irc.InputError, match="cotangent of o: " + said):
            program.forward(**given).backward(o=other)


def test_a_tensor_that_is_not_strided(libraries: None) -> None:
    program = irc.compile(FOLDER / "causal.attn", target="cuda")
    given = {n: of_torch(drawn(1, 2, 21, 8)) for n in "qkv"}
    given["k"].layout = "sparse_coo"
    with pytest.raises(irc.InputError, match="k: expected a strided tensor, got sparse_coo"):
        program(**given)


@KINDS
def test_memory_given_between_a_forward_run_and_its_backward(kind: Any, libraries: None) -> None:
    program = irc.compile(FOLDER / "causal.attn", target="cuda")
    given = {n: kind(drawn(1, 2, 21, 8)) for n in "qkv"}
    cotangent = kind(drawn(1, 2, 21, 8))
    for _ in range(2):
        moved = kind(drawn(1, 2, 21, 8))
        run = program.forward(**given | {"k": moved})
        wanted = plain(program.forward(**given).backward(o=cotangent)["q"])
        again = kind(drawn(1, 2, 21, 8))
        moved.memory, moved.__cuda_array_interface__ = again.memory, again.__cuda_array_interface__
        assert plain(run.backward(o=cotangent)["q"]).tobytes() == wanted.tobytes()
        run = program.forward(**given | {"k": moved})
        smaller = kind(drawn(1, 2, 20, 8))
        moved.memory, moved.__cuda_array_interface__ = smaller.memory, smaller.__cuda_array_interface__
        moved.shape = (1, 2, 20, 8)
        with pytest.raises(irc.InputError, match="k: its element type or its layout is not that of the forward run"):
            run.backward(o=cotangent)


def test_a_number_on_the_device_is_read_where_the_program_assumes_something_of_it() -> None:
    rng = np.random.default_rng(0)
    shapes = {"q": (2, 4, 20, 8), "k": (2, 2, 33, 8), "v": (2, 2, 33, 8)}
    given = {n: Elsewhere(rng.standard_normal(s).astype(np.float32)) for n, s in shapes.items()}
    program = irc.compile(FOLDER / "softcap_window.attn", target="cuda")
    outputs = [program(**given, window=w, cap=5.0) for w in (7, *(Elsewhere(np.array(7, np.int32)) for _ in range(2)))]
    assert all(on_host(o[0]).tobytes() == on_host(outputs[0][0]).tobytes() for o in outputs)
    with pytest.raises(irc.InputError, match="assumes window >= 1, but window = 0"):
        program(**given, window=Elsewhere(np.array(0, np.int32)), cap=5.0)


def test_what_lies_on_too_few_bytes_is_copied_each_time() -> None:
    program = irc.compile(FOLDER / "causal.attn", target="cuda")
    given = {n: drawn(1, 2, 21, 8) for n in "qkv"}
    expected = program(**given)[0]
    there = {n: Elsewhere(a) for n, a in given.items()}
    for _ in range(2):
        assert on_host(program(**there)[0]).tobytes() == expected.tobytes()
        shifted = Elsewhere(np.concatenate([np.zeros(2, np.uint8), given["k"].reshape(-1).view(np.uint8)]))
        begin, _ = shifted.__cuda_array_interface__["data"]
        shifted.__cuda_array_interface__ = there["k"].__cuda_array_interface__ | {"data": (begin + 2, False)}
        assert on_host(program(**there | {"k": shifted})[0]).tobytes() == expected.tobytes()


def test_what_a_stream_of_others_may_still_be_filling(libraries: None) -> None:
    for stream, behind in ((None, False), (1, False), (2, False), (THEIRS, True)):
        array = Elsewhere(drawn(2))
        array.__cuda_array_interface__["stream"] = stream
        looked = foreign.look(array)
        assert looked is not None and looked[2] is behind
        known = Cupy.ndarray(drawn(2))  # its stream is waited for
        known.__cuda_array_interface__["stream"] = stream
        looked = foreign.look(known)
        assert looked is not None and not looked[2]


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


def test_a_graph_has_memory_of_its_own(emulator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver gives memory while a graph is captured, asked as it wants; no later call uses that again."""
    cupy = Cupy(THEIRS)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    program = irc.compile(FOLDER / "softcap_window.attn", target="cuda")
    on_device = {n: cupy.ndarray(drawn(1, 2, 40, 8)) for n in "qkv"}

    def called(**others: Any) -> Any:
        return program(**(on_device | {"cap": 20.0, "window": 9} | others))[0][1]

    def place(made: Any) -> int:
        return int(made.__cuda_array_interface__["data"][0])

    expected = on_host(called())
    driver = ctypes.CDLL("libcuda.so.1")
    with monkeypatch.context() as while_captured:
        while_captured.setattr(Stream, "is_capturing", lambda stream: True)
        driver.emulated_capture(ctypes.c_void_p(THEIRS), ctypes.c_uint64(5))
        try:
            made = called(cap=20.0)
            with pytest.raises(irc.InputError, match="q: lies on the host, and a graph is being captured: expected"):
                called(q=drawn(1, 2, 40, 8))
        finally:
            driver.emulated_capture(None, ctypes.c_uint64(0))
    assert np.array_equal(on_host(made), expected)
    of_the_graph = place(made)
    del made
    with device.find().running(()):
        device.find()._pool.release()
    assert of_the_graph not in {place(called()), place(called())}
    assert np.array_equal(on_host(called()), expected)


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
