"""Results of the compiler kept across processes: graphs and verdicts by text, kernels by sizes and precision too.

An entry is only as good as the compiler that made it, so the key holds a fingerprint of the compiler's own files.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from irc.codegen.schedule import Schedule
from irc.compiled import Precision
from irc.grammar.source import Source
from irc.ir import Graph
from irc.proof.verdict import Verdict
from irc.runtime import cache as store
from irc.runtime import cpu, toolchain

Proved = tuple[Graph, tuple[Verdict, ...]]
GRAPH, COMPILED, LIBRARY = "graph.pickle", "compiled.pickle", "kernels.so"


@cache
def fingerprint() -> str:
    """Name, size and time of change of every file of the package."""
    root = Path(__file__).parent
    rooms = (root, *(root / room for room in ("grammar", "codegen", "runtime")))
    files = sorted({p for room in rooms for p in room.rglob("*") if p.suffix in (".py", ".lark", ".j2", ".h")})
    return "\n".join(f"{p.name} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in files)


def front(source: Source, build: Callable[[], Proved]) -> Proved:
    """The graph of a text and its verdicts; whatever `build` raises passes through and nothing is kept."""

    def write(directory: Path) -> None:
        (directory / GRAPH).write_bytes(pickle.dumps(build()))

    key = store.key(("graph", source.name, source.text, fingerprint()))
    graph, verdicts = pickle.loads((store.get_or_build(key, write) / GRAPH).read_bytes())
    assert isinstance(graph, Graph)
    return graph, verdicts


def kernels(
    source: Source, sizes: Mapping[str, int], precision: Precision, build: Callable[[], tuple[object, str]],
    schedule: Schedule, what: str = "kernels",
) -> tuple[object, cpu.Library, Path]:  # fmt: skip
    """What `build` makes (a result, and the C++ of its kernels) with the loaded library, and where they lie. `what`
    tells apart the results for one text."""
    tools = toolchain.find()

    def write(directory: Path) -> None:
        from rich.console import Console

        with Console(stderr=True).status(f"compiling the kernels of {source.name}"):  # on a terminal alone
            compiled, text = build()
            toolchain.compile(text, directory / LIBRARY, tools)
        (directory / COMPILED).write_bytes(pickle.dumps(compiled))

    parts = (
        what,
        source.name,
        source.text,
        repr(sorted(sizes.items())),
        repr(precision),
        repr(schedule),
        fingerprint(),
    )
    directory = store.get_or_build(store.key(parts, tools.flags, tools.version), write)
    compiled = pickle.loads((directory / COMPILED).read_bytes())
    return compiled, cpu.Library(directory / LIBRARY), directory
