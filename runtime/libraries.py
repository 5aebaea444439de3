"""The compiled kernels of a program: a library for each of its runs, made when a kernel of that run is first wanted."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from irc.codegen.kernel import Kernel
from irc.runtime import cache, cpu, toolchain
from irc.runtime.arrays import Array
from irc.runtime.device import HOST

LIBRARY = "kernels.so"


def compiled(
    source: str, parts: Sequence[int] = (), workers: Executor | None = None, begins: Callable[[], object] = lambda: None
) -> cpu.Library:
    """The library of these parts of a source, or of all: from the cache, or compiled, which calls `begins` first.
    Raises ToolchainError."""
    tools = toolchain.find()

    def build(directory: Path) -> None:
        begins()
        toolchain.compile(source, directory / LIBRARY, tools, parts, workers)

    key = cache.key(("library", source, *map(str, parts)), tools.flags, tools.version)
    return cpu.Library(cache.get_or_build(key, build) / LIBRARY)


class Libraries:
    """One source in as many libraries as there are runs. Safe to call from many threads at once.

    runs: of each, its kernels and the parts of the source that hold them. Raises ToolchainError without a compiler.
    """

    by_address = True
    device = HOST

    def __init__(self, name: str, source: str, runs: Sequence[tuple[Sequence[Kernel], Sequence[int]]]) -> None:
        self.name, self.source = name, source
        self._runs = {n: tuple(parts) for n, (_, parts) in enumerate(runs) if parts}
        self._of = {kernel.name: n for n, (kernels, _) in enumerate(runs) for kernel in kernels}
        self._loaded: dict[int, cpu.Library] = {}
        self._lock = threading.Lock()
        toolchain.find()  # the place to learn that there is none

    def bound(
        self, kernel: Kernel, tensors: Mapping[str, Array], sizes: Mapping[str, int], threads: int
    ) -> Callable[[Mapping[str, Any], Mapping[str, int]], None]:
        """As that of `cpu.Library`; compiles the kernel's run if it is new. Raises ToolchainError."""
        run = self._of[kernel.name]
        self.load((run,))
        return self._loaded[run].bound(kernel, tensors, sizes, threads)

    def load(self, runs: Collection[int] | None = None) -> None:
        """Load the libraries of some runs, or of all, compiling those that are new at the same time."""
        with self._lock:
            # The last run first: gradients take longest, and what is begun last should be short.
            missing = sorted((n for n in runs or self._runs if n not in self._loaded), reverse=True)
            if not missing:
                return
            with (
                _Status(f"compiling the kernels of {self.name}") as status,
                ThreadPoolExecutor(os.cpu_count()) as workers,
                ThreadPoolExecutor(len(missing)) as pool,
            ):
                made = pool.map(lambda n: compiled(self.source, self._runs[n], workers, status.show), missing)
                self._loaded.update(zip(missing, made, strict=True))


class _Status(ExitStack):
    """A line on a terminal, from when it is first shown to the end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text
        self._shown = False
        self._lock = threading.Lock()

    def show(self) -> None:
        from rich.console import Console  # not needed for what is in the cache

        with self._lock:
            if not self._shown:
                self.enter_context(Console(stderr=True).status(self._text))
            self._shown = True
