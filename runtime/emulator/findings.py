"""What a checked launch found, with its places in the kernel's source and in the spec."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from irc.runtime.errors import Error

SPEC = "// spec: "  # begins a comment that quotes the spec's line over the code that it became
KINDS = (  # as in findings.h
    "race",
    "out of bounds",
    "never written",
    "divergence",
    "deadlock",
    "not waited for",
    "misaligned",
    "misuse",
    "read-only",
    "missing fence",
)


@dataclass(frozen=True, slots=True)
class Place:
    """A line of the kernel's source: its number, its text, and the spec's line quoted nearest above it."""

    line: int
    text: str
    spec: str | None

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" + (f"\n      for {self.spec}" if self.spec else "")


@dataclass(frozen=True, slots=True)
class Finding:
    """One defect: of which of the KINDS, what happened, where. The first place is where it showed, the second, of races
    and the like, the other access; a place is the chain of calls that leads there, the innermost first."""

    kind: str
    text: str
    block: tuple[int, int, int]
    thread: int
    places: tuple[tuple[Place, ...], ...]

    def __str__(self) -> str:
        lines = [f"{self.kind}: {self.text} (block {self.block}, thread {self.thread})"]
        for word, chain in zip(("at", "and"), self.places, strict=False):
            lines += [f"  {word if n == 0 else 'from'} {place}" for n, place in enumerate(chain)]
        return "\n".join(lines)


class EmulatorError(Error):
    """A kernel does what none may. `findings` has what was seen, at most one of a kind for each pair of places."""

    def __init__(self, kernel: str, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join([f"kernel {kernel}, in the emulator:", *map(str, findings)]))


def read(report: str, source: Path) -> list[Finding]:
    """The findings of `emu_findings`'s report about a library that was compiled from `source`."""
    rows = [line.split("\t") for line in report.splitlines()]
    addresses = [
        (library, int(offset) - 1) for row in rows for library, offset in zip(row[6::2], row[7::2], strict=True)
    ]
    lines = _lines(addresses, source)
    text = source.read_text(encoding="utf-8").splitlines()
    found = []
    for kind, x, y, z, thread, message, *places in rows:
        chains = [lines.get((lib, int(offset) - 1), ()) for lib, offset in zip(places[::2], places[1::2], strict=True)]
        shown = tuple(tuple(_place(text, line) for line in chain) for chain in chains if chain)
        found.append(Finding(kind, message, (int(x), int(y), int(z)), int(thread), shown))
    return found


def _place(text: Sequence[str], line: int) -> Place:
    """The line of the source, which counts from 1."""
    above = (t.strip().removeprefix(SPEC) for t in reversed(text[:line]) if t.strip().startswith(SPEC))
    return Place(line, text[line - 1].strip(), next(above, None))


def _lines(addresses: Sequence[tuple[str, int]], source: Path) -> dict[tuple[str, int], tuple[int, ...]]:
    """For each address (library, offset) the lines of `source` that it comes from, through inlined calls outwards."""
    program = shutil.which("addr2line")
    if program is None:  # of the binutils, like the linker; without it findings have no lines
        return {}
    lines: dict[tuple[str, int], tuple[int, ...]] = {}
    for library in {library for library, _ in addresses}:
        offsets = sorted({offset for other, offset in addresses if other == library})
        command = [program, "-e", library, "-i", "-a", *map(hex, offsets)]
        told = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
        for line in told.stdout.splitlines():
            if line.startswith("0x"):
                address = (library, int(line, 16))
                lines[address] = ()
                continue
            file, _, number = line.partition(" ")[0].rpartition(":")
            if Path(file).name == source.name and number.isdecimal() and int(number) > 0:
                lines[address] += (int(number),)
    return lines
