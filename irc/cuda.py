"""Kernels as CUDA, loaded: on a device, in the emulator, or compiled alone."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING

from irc.codegen.kernel import Kernel
from irc.error import DeviceError
from irc.runtime.device import HOST, Device
from irc.runtime.execute import Library

if TYPE_CHECKING:
    from irc.runtime.cuda.device import Cuda

SHARED_BYTES = {"sm_80": 163 << 10, "sm_90a": 227 << 10}  # of a block, at most
ARCHITECTURE = re.compile(r"cuda:(sm_\d+[af]?)")
LEAST = 80


def is_target(target: str) -> bool:
    """Whether kernels are CUDA. Raises DeviceError for an architecture that they are not made for."""
    architecture = architecture_of(target)
    if architecture and int(re.sub(r"\D", "", architecture)) < LEAST:
        raise DeviceError(f"target {target!r}: irc's kernels need sm_{LEAST} or newer")
    return target in ("cuda", "emulator") or bool(architecture)


def architecture_of(target: str) -> str:
    """Of a target that is compiled for alone; empty for others."""
    found = ARCHITECTURE.fullmatch(target)
    return found[1] if found else ""


def device_of(target: str) -> Device:
    """Where the tensors of a target lie. Raises DeviceError where "cuda" finds no device."""
    return _cuda() if target == "cuda" else HOST


def _cuda() -> Cuda:
    from irc.runtime.cuda import device  # not needed, nor its imports, by other targets

    return device.find()


def load(target: str, kernels: tuple[Kernel, ...], name: str, spec: str) -> tuple[str, Library]:
    """The kernels as a CUDA source, and loaded. Raises ToolchainError without a compiler, DeviceError without a device
    or where a block needs more shared memory than there is."""
    from irc.codegen import cuda
    from irc.runtime import emulated
    from irc.runtime.cuda import launch

    architecture = architecture_of(target)
    most = _cuda().shared_bytes if target == "cuda" else SHARED_BYTES.get(architecture, SHARED_BYTES["sm_80"])
    for each in chain.from_iterable(map(cuda.launches, kernels)):
        if each.shared_bytes > most:
            raise DeviceError(
                f"{name}: {each.name} needs {each.shared_bytes} bytes of shared memory, a block of "
                f"{architecture or ('the device' if target == 'cuda' else 'sm_80')} has {most}: give its features "
                "smaller sizes, or store them in fewer bits"
            )
    source = cuda.render(kernels, name, spec)
    if architecture:
        return source, launch.Cubin(source, architecture)
    return source, launch.Library(_cuda(), source) if target == "cuda" else emulated.Library(source)
