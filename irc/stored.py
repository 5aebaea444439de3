"""Results of our passes kept across processes: graphs and verdicts by text, steps and sources by sizes and precision
too. What the C++ compiler makes of a source is kept by `runtime/libraries.py`.

An entry is only as good as the passes that made it, so the key holds a fingerprint of their files.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TypeVar

from irc.codegen.schedule import Schedule
from irc.compiled import Precision
from irc.grammar.source import Source
from irc.graph.ir import Graph
from irc.proof.verdict import Verdict
from irc.runtime import cache as store

Proved = tuple[Graph, tuple[Verdict, ...]]
Result = TypeVar("Result")
GRAPH, COMPILED = "graph.pickle", "compiled.pickle"


@cache
def fingerprint() -> str:
    """Name, size and time of change of every file of the package."""
    root = Path(__file__).parent
    rooms = (root, *(root / room for room in ("grammar", "codegen", "runtime")))
    files = sorted({p for room in rooms for p in room.rglob("*") if p.suffix in (".py", ".lark", ".j2", ".h", ".cuh")})
    return "\n".join(f"{p.name} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in files)


def front(source: Source, build: Callable[[], Proved]) -> Proved:
    """The graph of a text and its verdicts; whatever `build` raises passes through and nothing is kept."""

    def write(directory: Path) -> None:
        (directory / GRAPH).write_bytes(pickle.dumps(build()))

    key = store.key(("graph", source.name, source.text, fingerprint()))
    graph, verdicts = pickle.loads((store.get_or_build(key, write) / GRAPH).read_bytes())
    assert isinstance(graph, Graph)
    return graph, verdicts


def compiled(
    source: Source, sizes: Mapping[str, int], precision: Precision, schedule: Schedule | None, what: str,
    build: Callable[[], Result],
) -> Result:  # fmt: skip
    """What `build` makes: with C++ in tiles of a schedule, or (None) without, or what CUDA comes of that. `what` tells
    apart the results for one text."""

    def write(directory: Path) -> None:
        (directory / COMPILED).write_bytes(pickle.dumps(build()))

    parts = (
        what,
        source.name,
        source.text,
        repr(sorted(sizes.items())),
        repr(precision),
        repr(schedule),
        fingerprint(),
    )
    found: Result = pickle.loads((store.get_or_build(store.key(parts), write) / COMPILED).read_bytes())
    return found
