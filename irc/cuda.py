"""Kernels as CUDA, loaded: what the targets that run it have in common."""

from __future__ import annotations

from irc.codegen.kernel import Kernel
from irc.runtime.execute import Library


def emulate(kernels: tuple[Kernel, ...], name: str, spec: str) -> tuple[str, Library]:
    """The kernels as a CUDA source, and loaded in the emulator. Raises ToolchainError without a C++ compiler."""
    from irc.codegen import cuda  # not needed, nor its imports, by other targets
    from irc.runtime import emulated

    source = cuda.render(kernels, name, spec)
    return source, emulated.Library(source)
