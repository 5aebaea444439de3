"""What a compilation yields with its kernels loaded, on each target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from irc import cuda, stored
from irc.codegen.kernel import Kernel
from irc.codegen.schedule import Schedule
from irc.compiled import Compiled, Derived, Precision
from irc.grammar.source import Source
from irc.runtime.execute import Library
from irc.runtime.libraries import Libraries

Result = TypeVar("Result", Compiled, Derived)


@dataclass(frozen=True)
class Built(Generic[Result]):
    """A result for one choice of feature sizes, and its kernels by name."""

    compiled: Result
    library: Library | None  # None: the interpreter
    kernels: Mapping[str, Kernel]


def built(
    target: str, source: Source, sizes: Mapping[str, int], precision: Precision, schedule: Schedule, what: str,
    build: Callable[[Schedule | None], Result],
) -> Built[Result]:  # fmt: skip
    """What `build` makes in tiles of a schedule (None: for the interpreter), and a library of its kernels. `what` tells
    apart the results for one text. Raises ToolchainError, or what `build` and `cuda.load` do."""
    if target == "reference":
        return Built(build(None), None, {})
    on_device = cuda.is_target(target)
    tiles = Schedule() if on_device else schedule  # of which CUDA kernels have none: one entry does for all
    made = stored.compiled(source, sizes, precision, tiles, what, build)
    kernels = {kernel.name: kernel for run in made.runs for kernel in run.kernels}
    if on_device:
        text, library = cuda.load(target, tuple(kernels.values()), made.name, source.text)
        return Built(replace(made, source=text), library, kernels)
    runs = [(run.kernels, parts) for run, parts in zip(made.runs, made.parts, strict=True)]
    return Built(made, Libraries(source.name, made.source, runs), kernels)
