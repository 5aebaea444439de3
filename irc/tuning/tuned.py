"""Choices by measurement, kept for this machine: one JSON file for each program text, element type and feature sizes.

`irc tune` writes them, `irc.compile` reads them. A file that is missing or damaged means that nothing was chosen, and
the model of `codegen/schedule.py` decides.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from irc.codegen.schedule import Schedule, Tiles
from irc.compiled import Precision
from irc.grammar.source import Source
from irc.runtime import cache, machine


def directory() -> Path:
    return cache.directory() / "tuned"


def path(source: Source, sizes: Mapping[str, int], precision: Precision) -> Path:
    """The file of a program's choices; `sizes` are those that its kernels are compiled for."""
    parts = [cache.machine(), source.text, repr(sorted(sizes.items())), repr(precision)]
    return directory() / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]}.json"


def schedule(source: Source, sizes: Mapping[str, int], precision: Precision) -> Schedule:
    """The choices stored for a program, and the machine's caches for what is left to the model."""
    stored = read(path(source, sizes, precision)).get("chosen", {})
    try:
        chosen = tuple(sorted((str(kernel), Tiles(int(p), int(c))) for kernel, (p, c) in stored.items()))
    except (TypeError, ValueError, AttributeError):
        chosen = ()
    return Schedule(machine.caches(), chosen)


def read(file: Path) -> dict[str, Any]:
    """What is in a file of choices; nothing where it cannot be read."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write(file: Path, contents: Mapping[str, Any]) -> None:
    """All of it or nothing: a reader, or a run that is cut off, finds the old file or the new one."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, suffix=".part")
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(json.dumps(contents, indent=1) + "\n")
    Path(name).replace(file)
