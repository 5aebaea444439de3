"""Two devices of one machine: a program is one's, by its target, and stays there."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import irc
from irc.runtime.cuda import device
from tests.cuda.test_device import drawn, on_host
from tests.cuda.test_foreign import THEIRS, Cupy
from tests.test_examples import FOLDER

CAUSAL = FOLDER / "causal.attn"
GIVEN = {n: drawn(1, 2, 37, 8) for n in "qkv"}


@pytest.fixture(autouse=True)
def two(real: bool, device: None, monkeypatch: pytest.MonkeyPatch) -> None:
    if real:
        pytest.skip("needs as many devices as it is told")
    monkeypatch.setenv("EMULATED_DEVICES", "2")


def test_each_runs_programs_of_its_own() -> None:
    runs = [irc.compile(CAUSAL, target=target).forward(**GIVEN) for target in ("cuda", "cuda:0", "cuda:1")]
    gradients = [run.backward(o=GIVEN["q"]) for run in runs]
    for run, gradient in zip(runs, gradients, strict=True):
        assert run.outputs["o"].tobytes() == runs[0].outputs["o"].tobytes()
        assert all(gradient[name].tobytes() == value.tobytes() for name, value in gradients[0].items())
    assert device.find(1) is not device.find(0) is device.find()


def test_both_at_once() -> None:
    programs = [irc.compile(CAUSAL, target=f"cuda:{number}") for number in range(2)]
    expected = programs[0](**GIVEN)[0]
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda n: programs[n % 2](**GIVEN)[0], range(12)):
            assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("stream", (0, THEIRS))
def test_arrays_of_the_second_are_used_in_place(stream: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = irc.compile(CAUSAL, target="cuda")(**GIVEN)[0]
    cupy = Cupy(stream)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    there = {n: cupy.ndarray(a, 1) for n, a in GIVEN.items()}
    (_, output), _ = irc.compile(CAUSAL, target="cuda:1")(**there)
    assert on_host(output).tobytes() == expected.tobytes()
    assert len(cupy.noted) == (4 if stream else 0)
    for target, other in (("cuda", there), ("cuda:1", there | {"k": cupy.ndarray(GIVEN["k"], 0)})):
        cupy.noted.clear()
        with pytest.raises(irc.InputError, match=r"expected an array on device (\d), got one on (?!\1)\d: .*target="):
            irc.compile(CAUSAL, target=target)(**other)


def test_a_number_that_no_device_has() -> None:
    with pytest.raises(irc.DeviceError, match="no CUDA device 2: the driver has 2"):
        irc.compile(CAUSAL, target="cuda:2")


def test_a_launch_on_the_other_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the emulated driver, as by a real one: so the tests above would see a slip."""
    program = irc.compile(CAUSAL, target="cuda:1")
    program(**GIVEN)
    monkeypatch.setattr(device.find(1), "_context", device.find(0)._context)
    with pytest.raises(irc.DeviceError, match="invalid resource handle"):
        program(**GIVEN)


def test_what_is_on_one_takes_no_memory_of_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMULATED_MEMORY", str(64 << 20))
    found = [device.find(number) for number in range(2)]
    with found[0].running(()):
        held = found[0].allocate((60 << 20,), "bool")
    with found[1].running(()):
        assert found[1].driver.mem_get_info()[0] > 60 << 20
    with found[0].running(()):
        del held
        found[0]._pool.release()
