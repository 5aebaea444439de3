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
    build: Callable[[bool], Result],
) -> Built[Result]:  # fmt: skip
    """What `build` makes (with steps, or, for the interpreter, without), and a library of its kernels: those in C++ are
    in tiles of the schedule. `what` tells apart the results for one text. Raises ToolchainError, or what `build` and
    `cuda.load` do."""
    if target == "reference":
        return Built(build(False), None, {})
    if cuda.is_target(target):
        made = stored.compiled(source, sizes, precision, None, what, lambda: build(True))
        kernels = _by_name(made)

        def in_cuda(architecture: str) -> cuda.Source:
            def render() -> cuda.Source:
                return cuda.render(kernels.values(), made.name, source.text, architecture)

            return stored.compiled(source, sizes, precision, None, f"{what} for {architecture}", render)

        text, library = cuda.load(target, made.name, in_cuda)
        return Built(replace(made, source=text), library, kernels)

    def in_cpp() -> Result:
        from irc.pipeline import rendered  # not needed, nor its imports, for what is stored

        return rendered(build(True), source, schedule)

    made = stored.compiled(source, sizes, precision, schedule, what, in_cpp)
    return Built(made, Libraries(source.name, made.source, made.parts), _by_name(made))


def _by_name(made: Compiled | Derived) -> dict[str, Kernel]:
    return {kernel.name: kernel for run in made.runs for kernel in run.kernels}
