"""The compiled kernels of a program: a library of both runs, or one for each where a call alone came first, and of
kernels in those forms that the sizes of calls want."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from irc.codegen.kernel import Kernel
from irc.codegen.parts import Part, lengths
from irc.runtime import cache, cpu, toolchain
from irc.runtime.arrays import Array
from irc.runtime.device import HOST
from irc.runtime.sizes import evaluate

LIBRARY = "kernels.so"
MOMENT = 0.1  # s


def compiled(source: str, parts: Mapping[int, int] | None = None) -> cpu.Library:
    """The library of these parts of a source (lengths by numbers), or of the whole: from the cache, or compiled.
    Raises ToolchainError."""
    return _compiled(source, _digest(source), parts)


def _compiled(source: str, digest: str, parts: Mapping[int, int] | None) -> cpu.Library:
    def build(directory: Path) -> None:
        toolchain.compile(source, directory / LIBRARY, parts=parts)

    return cpu.Library(cache.get_or_build(_key(digest, parts), build, toolchain.is_current) / LIBRARY)


def _found(digest: str, parts: Mapping[int, int]) -> cpu.Library | None:
    """The same, where the cache has it."""
    entry = cache.found(_key(digest, parts), toolchain.is_current)
    return None if entry is None else cpu.Library(entry / LIBRARY)


def _digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


def _key(digest: str, parts: Mapping[int, int] | None) -> str:
    tools = toolchain.find()
    return cache.key(("library", digest, *map(str, sorted(parts or ()))), tools.flags, tools.version)


class Libraries:
    """The kernels of one source, compiled when they are first wanted. Safe to call from many threads at once.

    runs: the parts of the source that hold the kernels of each of one or two. Raises ToolchainError without a compiler.
    """

    by_address = True
    device = HOST

    def __init__(self, name: str, source: str, runs: Sequence[Sequence[Part]]) -> None:
        self.name, self.source, self._runs = name, source, runs
        self._digest = _digest(source)  # once: a load asks for several libraries
        self._of = {part.kernel: run for run in runs for part in run}
        self._lengths = lengths(part for run in runs for part in run)
        self._loaded: dict[int, cpu.Library] = {}  # by parts
        self._lock = threading.Lock()
        toolchain.find()  # the place to learn that there is none

    def bound(
        self, kernel: Kernel, tensors: Mapping[str, Array], sizes: Mapping[str, int], threads: int
    ) -> Callable[[Mapping[str, Any], Mapping[str, int]], None]:
        """As that of `cpu.Library`; compiles what calls of these sizes run of the kernel's run, where it is new. Raises
        ToolchainError."""
        run = wanted(self._of[kernel.name], sizes)
        self._load(sizes, (run,))
        part = next(part for part in run if part.kernel == kernel.name)
        return self._loaded[part.number].bound(kernel, tensors, sizes, threads, part.function)

    def load(self, sizes: Mapping[str, int]) -> None:
        """Load what calls of these sizes run, of all runs."""
        self._load(sizes, [wanted(run, sizes) for run in self._runs])

    def _load(self, sizes: Mapping[str, int], runs: Iterable[Sequence[Part]]) -> None:
        """Load what calls of these sizes run of some runs: what the cache has in one library for all runs or for each,
        and what is new in another."""
        with self._lock:
            each = [self._parts(run) for run in runs]
            missing = {n for parts in each for n in parts} - self._loaded.keys()
            if not missing:
                return
            for kept in (self._parts(part for run in self._runs for part in wanted(run, sizes)), *each):
                if kept.keys() & missing and (library := _found(self._digest, kept)):
                    self._loaded = dict.fromkeys(kept, library) | self._loaded
                    missing -= kept.keys()
            if missing:
                new = self._parts(part for run in self._runs for part in run if part.number in missing)
                with _Status(f"compiling the kernels of {self.name}"):
                    library = _compiled(self.source, self._digest, new)
                self._loaded = dict.fromkeys(new, library) | self._loaded

    def _parts(self, parts: Iterable[Part]) -> dict[int, int]:
        """Lengths by numbers, of these and those that they call."""
        numbers = {n for part in parts for n in (part.number, part.calls) if n is not None}
        return {n: self._lengths[n] for n in sorted(numbers)}


def wanted(parts: Iterable[Part], sizes: Mapping[str, int]) -> list[Part]:
    """Those of the functions that a run of these sizes calls."""
    return [part for part in parts if evaluate(part.when, sizes)]


class _Status:
    """A line on a terminal, as long as something takes that takes longer than a moment."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *raised: object) -> None:
        self._done.set()
        self._thread.join()

    def _show(self) -> None:
        if self._done.wait(MOMENT):
            return
        from rich.console import Console  # not needed for what is in the cache, and slow to import

        with Console(stderr=True).status(self._text):
            self._done.wait()
