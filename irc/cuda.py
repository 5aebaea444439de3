"""Kernels as CUDA, loaded: on a device, in the emulator, or compiled alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from itertools import chain
from typing import TYPE_CHECKING

from irc.codegen.cuda_launch import LEAST, Rendered, most_shared, number
from irc.codegen.kernel import Kernel
from irc.error import DeviceError
from irc.runtime.device import HOST, Device
from irc.runtime.execute import Library

if TYPE_CHECKING:
    from irc.runtime.cuda.device import Cuda

ARCHITECTURE = re.compile(r"(?:cuda|emulator):(sm_\d+[af]?)")
DEVICE = re.compile(r"cuda(?::(\d+))?")
Source = tuple[str, Mapping[str, Rendered]]  # and what is known of its kernels, by their names


def is_target(target: str) -> bool:
    """Whether kernels are CUDA. Raises DeviceError for an architecture that they are not made for."""
    found = ARCHITECTURE.fullmatch(target)
    if found and number(found[1]) < number(LEAST):
        raise DeviceError(f"target {target!r}: irc's kernels need {LEAST} or newer")
    return target == "emulator" or bool(found or DEVICE.fullmatch(target))


def device_of(target: str) -> Device:
    """Where the tensors of a target lie. Raises DeviceError where there is no such device."""
    return _cuda(target) or HOST


def _cuda(target: str) -> Cuda | None:
    """The device that a target names: "cuda" the first, "cuda:1" the second."""
    named = DEVICE.fullmatch(target)
    if named is None:
        return None
    from irc.runtime.cuda import device  # not needed, nor its imports, by other targets

    return device.find(int(named[1] or 0))


def render(kernels: Collection[Kernel], name: str, spec: str, architecture: str) -> Source:
    """The kernels as a CUDA source."""
    from irc.codegen import cuda  # not needed, nor its imports, for what is stored
    from irc.prepared import keep_templates

    keep_templates()
    made = {kernel.name: cuda.made(kernel, architecture) for kernel in kernels}
    return cuda.render(tuple(kernels), name, spec, architecture), made


def load(target: str, name: str, rendered: Callable[[str], Source]) -> tuple[str, Library]:
    """What is rendered for the target's architecture, and its kernels loaded. Raises ToolchainError without a compiler,
    DeviceError without a device or where a block needs more shared memory than there is."""
    named, device = ARCHITECTURE.fullmatch(target), _cuda(target)
    if device is not None:
        whose, most, architecture = "the device", device.shared_bytes, device.architecture
    else:
        architecture = named[1] if named else LEAST
        whose, most = f"sm_{number(architecture)}", most_shared(architecture)
    source, known = rendered(architecture)
    launches = tuple(chain.from_iterable(kernel.launches for kernel in known.values()))
    for each in (*launches, *(e.otherwise for e in launches if e.otherwise)):
        if each.shared_bytes > most:
            raise DeviceError(
                f"{name}: {each.name} needs {each.shared_bytes} bytes of shared memory, a block of {whose} has "
                f"{most}: give its features smaller sizes, or store them in fewer bits"
            )
    if target.startswith("emulator"):
        from irc.runtime import emulated

        return source, emulated.Library(source, architecture=architecture, known=known)
    from irc.runtime.cuda import launch

    return source, launch.Library(device, source, known) if device is not None else launch.Cubin(source, architecture)
