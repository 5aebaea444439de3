"""What the launches of a CUDA kernel need for the sizes of a call, on a device and in the emulator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from irc.codegen.cuda_launch import Launch, Rendered
from irc.codegen.kernel import Kernel
from irc.codegen.narrow import MOST as MOST_POSITIONS
from irc.runtime.errors import InputError
from irc.runtime.sizes import evaluate, show


def rendered(kernel: Kernel, architecture: str, known: Mapping[str, Rendered]) -> Rendered:
    """The kernel in CUDA: one of those known by their names, else rendered now."""
    if (found := known.get(kernel.name)) is not None:
        return found
    from irc.codegen import cuda  # not needed, nor its imports, for what is known

    return cuda.made(kernel, architecture)


def blocks(launch: Launch, sizes: Mapping[str, int]) -> int:
    """How many it has; none where it has no part in the call. Raises InputError where positions are too many for it."""
    count = -(-evaluate(launch.tasks, sizes) // launch.share)
    for size in launch.bounded if count else ():
        if (found := evaluate(size, sizes)) > MOST_POSITIONS:
            raise InputError(f"{show(size)} is {found}: CUDA kernels on tensor cores count to {MOST_POSITIONS}")
    return count


def workspace(launches: Iterable[Launch], sizes: Mapping[str, int]) -> int:
    """Bytes of memory for launches that run one after another, all of them with blocks."""
    return max((evaluate(each.workspace, sizes) for each in launches if each.workspace is not None), default=0)
