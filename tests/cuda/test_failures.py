"""What fails on the way to a device and on it, and what the user is told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import irc
from tests.test_examples import FOLDER

CAUSAL = FOLDER / "causal.attn"


@pytest.fixture
def given() -> dict[str, np.ndarray]:
    return {n: np.ones((1, 2, 37, 8), np.float32) for n in "qkv"}


def test_without_pycuda(monkeypatch: pytest.MonkeyPatch) -> None:
    from irc.runtime.cuda import device

    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(irc.DeviceError, match=r"pycuda is not installed.*pip install 'attention-irc\[cuda\]'"):
        device.driver()


def test_without_a_device(emulator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from irc.runtime.cuda import device

    monkeypatch.setenv("EMULATED_DEVICES", "0")
    with pytest.raises(irc.DeviceError, match="no CUDA device: cuInit failed: no CUDA-capable device is detected"):
        device.driver()


def test_a_device_that_is_too_old(emulator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from irc.runtime.cuda import device

    monkeypatch.setenv("EMULATED_CAPABILITY", "75")
    with pytest.raises(irc.DeviceError, match=r"emulated device has compute capability 7\.5: .* need 8\.0 or newer"):
        device.Cuda(device.driver(), 0)


@pytest.mark.parametrize(("capability", "name"), [("80", "sm_80"), ("90", "sm_90a"), ("120", "sm_120")])
def test_architectures(emulator: None, monkeypatch: pytest.MonkeyPatch, capability: str, name: str) -> None:
    from irc.runtime.cuda import device

    monkeypatch.setenv("EMULATED_CAPABILITY", capability)
    assert device.Cuda(device.driver(), 0).architecture == name


def test_without_nvcc(device: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from irc.runtime.cuda import nvcc

    monkeypatch.setenv("IRC_NVCC", "no-such-nvcc")
    with pytest.raises(irc.ToolchainError, match="IRC_NVCC names 'no-such-nvcc'"):
        irc.compile(CAUSAL, target="cuda")(**{n: np.ones((1, 1, 5, 4), np.float32) for n in "qkv"})
    monkeypatch.delenv("IRC_NVCC")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(nvcc, "_named", lambda home: iter(()))
    monkeypatch.setattr(nvcc, "_wheels", lambda: iter(()))
    with pytest.raises(irc.ToolchainError, match=r"nvcc was not found.*install the CUDA toolkit"):
        nvcc.find()


def test_out_of_memory(emulator: None, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    program = irc.compile(CAUSAL, target="cuda")
    expected = program(**given)[0]
    monkeypatch.setenv("EMULATED_MEMORY", str(64 << 20))
    large = {n: np.ones((1, 64, 1500, 64), np.float32) for n in "qkv"}
    with pytest.raises(
        irc.DeviceError, match=r"out of memory on the device: 2\d MiB more .*, \d+ of its 64 MiB are free"
    ):
        program(**large)
    assert (program(**given)[0] == expected).all()  # and what comes after runs


def test_a_kernel_that_fails(emulator: None, given: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    from irc.runtime.cuda import device
    from irc.runtime.cuda.launch import Library

    program = irc.compile(CAUSAL, target="cuda")
    expected = program(**given)[0]
    sizes = {n: 8 for n in program.features}
    library = program.built(sizes).library
    assert library is not None
    broken = program.source.replace(
        "SHARED_MEMORY(memory);", "SHARED_MEMORY(memory); if (threadIdx.x) __syncthreads();"
    )
    program.measured_through(sizes, Library(device.find(), broken))
    with pytest.raises(
        irc.DeviceError, match="emulated device failed: cuLaunchKernel failed: unspecified launch failure"
    ):
        program(**given)
    assert "deadlock" in capfd.readouterr().err
    program.measured_through(sizes, library)
    assert (program(**given)[0] == expected).all()


def test_more_shared_memory_than_a_block_has(device: None) -> None:
    program = irc.compile(CAUSAL, target="cuda", dtype="f64")
    with pytest.raises(irc.DeviceError, match="bytes of shared memory, a block of the device has"):
        program(**{n: np.ones((1, 1, 4, 8192)) for n in "qkv"})


def test_arguments_that_do_not_fit(device: None, given: dict[str, Any]) -> None:
    program = irc.compile(CAUSAL, target="cuda")
    with pytest.raises(irc.InputError, match="q: expected f32, got f64"):
        program(**given | {"q": given["q"].astype(np.float64)})
    with pytest.raises(irc.InputError, match="k: missing"):
        program(q=given["q"], v=given["v"])


def test_a_target_that_is_compiled_alone(given: dict[str, Any], tmp_path: Path) -> None:
    program = irc.compile(CAUSAL, sizes={"D": 16}, target="cuda:sm_80")
    assert "KERNEL(" in program.source
    code = program.cubin
    assert code[:4] == b"\x7fELF" and code[18] == 190  # EM_CUDA
    with pytest.raises(irc.DeviceError, match='target="cuda:sm_80" compiles, and does not run'):
        program(**{n: np.ones((1, 2, 5, 16), np.float32) for n in "qkv"})
    with pytest.raises(irc.DeviceError, match="target 'cpu' has no cubin"):
        irc.compile(CAUSAL, sizes={"D": 16}).cubin  # noqa: B018
    with pytest.raises(irc.DeviceError, match="kernels need sm_80 or newer"):
        irc.compile(CAUSAL, target="cuda:sm_75")
    with pytest.raises(irc.InputError, match="expected one of cpu, cuda, emulator, reference or cuda:sm_80"):
        irc.compile(CAUSAL, target="cuda:hopper")


def test_a_source_that_nvcc_refuses() -> None:
    from irc.runtime.cuda import nvcc

    with pytest.raises(irc.ToolchainError, match=r"nvcc refused the generated source, kept in .*\.cu\n.*error"):
        nvcc.cubin("this is no CUDA", "sm_80")
