"""The compiled kernels of a program: a library of both runs, or one for each where a call alone came first."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from irc.codegen.kernel import Kernel
from irc.runtime import cache, cpu, toolchain
from irc.runtime.arrays import Array
from irc.runtime.device import HOST

LIBRARY = "kernels.so"
MOMENT = 0.1  # s


def compiled(source: str, parts: Mapping[int, int] | None = None) -> cpu.Library:
    """The library of these parts of a source (lengths by numbers), or of the whole: from the cache, or compiled.
    Raises ToolchainError."""
    return _compiled(source, _digest(source), parts)


def _compiled(source: str, digest: str, parts: Mapping[int, int] | None) -> cpu.Library:
    def build(directory: Path) -> None:
        toolchain.compile(source, directory / LIBRARY, parts=parts)

    return cpu.Library(cache.get_or_build(_key(digest, parts), build) / LIBRARY)


def _found(digest: str, parts: Mapping[int, int]) -> cpu.Library | None:
    """The same, where the cache has it."""
    entry = cache.found(_key(digest, parts))
    return None if entry is None else cpu.Library(entry / LIBRARY)


def joined(runs: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """The parts of several runs."""
    return {part: length for parts in runs for part, length in parts.items()}


def _digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


def _key(digest: str, parts: Mapping[int, int] | None) -> str:
    tools = toolchain.find()
    return cache.key(("library", digest, *map(str, sorted(parts or ()))), tools.flags, tools.version)


class Libraries:
    """The kernels of one source, compiled when they are first wanted. Safe to call from many threads at once.

    runs: of each of one or two, its kernels and the parts of the source that hold them, lengths by numbers. Raises
    ToolchainError without a compiler.
    """

    by_address = True
    device = HOST

    def __init__(self, name: str, source: str, runs: Sequence[tuple[Sequence[Kernel], Mapping[int, int]]]) -> None:
        self.name, self.source = name, source
        self._digest = _digest(source)  # once: a load asks for several libraries
        self._runs = {n: parts for n, (_, parts) in enumerate(runs) if parts}
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
        """Load the kernels of some runs, or of all: those that the cache has in one library for all runs or for each,
        and what is new in another."""
        with self._lock:
            missing = [n for n in runs or self._runs if n not in self._loaded]
            for kept in (tuple(self._runs), *[(n,) for n in missing]):
                if set(kept) & set(missing) and (library := _found(self._digest, self._parts(kept))):
                    self._loaded |= dict.fromkeys(kept, library)
                    missing = [n for n in missing if n not in kept]
            if missing:
                with _Status(f"compiling the kernels of {self.name}"):
                    library = _compiled(self.source, self._digest, self._parts(missing))
                self._loaded |= dict.fromkeys(missing, library)

    def _parts(self, runs: Collection[int]) -> dict[int, int]:
        return joined(self._runs[n] for n in runs)


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
