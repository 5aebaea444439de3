"""Kernels as CUDA, loaded: what the targets that run it have in common."""

from __future__ import annotations

from itertools import chain

from irc.codegen.kernel import Kernel
from irc.error import DeviceError
from irc.runtime.execute import Library

SHARED_BYTES = 163 * 1024  # of a block, at most, on sm_80


def emulate(kernels: tuple[Kernel, ...], name: str, spec: str) -> tuple[str, Library]:
    """The kernels as a CUDA source, and loaded in the emulator. Raises ToolchainError without a C++
    compiler, DeviceError where a block needs more shared memory than there is."""
    from irc.codegen import cuda  # not needed, nor its imports, by other targets
    from irc.runtime import emulated

    for launch in chain.from_iterable(map(cuda.launches, kernels)):
        if launch.shared_bytes > SHARED_BYTES:
            raise DeviceError(
                f"{name}: {launch.name} needs {launch.shared_bytes} bytes of shared memory, a block of sm_80 has "
                f"{SHARED_BYTES}: give its features smaller sizes, or store them in fewer bits"
            )
    source = cuda.render(kernels, name, spec)
    return source, emulated.Library(source)
