"""Results on disk: one JSON file, written again after every case, so that a run that is cut short can go on."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from benchmarks.variants import Shape


@dataclass(frozen=True, slots=True)
class Timing:
    """One contestant at one case: seconds of a call in each round (wall, and processors'), or why there are none.

    distances: of its results from irc's, relative, by name: `o`, and of gradients what they belong to. peak: bytes held
    at the height of the first call beyond those before it. notes: what setting up took.
    """

    seconds: tuple[float, ...] = ()
    processor: tuple[float, ...] = ()
    reason: str = ""
    distances: dict[str, float] = field(default_factory=dict)
    peak: float | None = None
    notes: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """A case measured. work: useful operations, or bytes, of a call. ceiling: its name; rates: of it in the rounds.
    quiet: the part of the processors that the machine left to the ceiling: 1 where nothing else ran."""

    case: Case
    work: float
    ceiling: str
    rates: tuple[float, ...]
    quiet: float
    timings: dict[str, Timing]


@dataclass
class Store:
    """header: machine, versions and settings; results of another header are not continued."""

    path: Path
    header: dict[str, Any]
    results: list[Result] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path, header: dict[str, Any]) -> Store:
        """With the results that the file holds, where they were made under this header (but for its date); others are
        set aside."""
        if path.exists():
            found = cls.read(path)
            if _undated(found.header) == _undated(header):
                return found
            set_aside(path)
        return cls(path, header)

    @classmethod
    def read(cls, path: Path) -> Store:
        data = json.loads(path.read_text(encoding="utf-8"))
        return cls(path, data["header"], [_result(r) for r in data["results"]])

    def add(self, result: Result) -> None:
        """In place of an earlier result of the case, if there is one; on disk when this returns."""
        self.results = [r for r in self.results if r.case != result.case] + [result]
        self.write()

    def write(self) -> None:
        data = {"header": self.header, "results": [dataclasses.asdict(r) for r in self.results]}
        beside = self.path.with_suffix(".new")
        beside.write_text(json.dumps(data, indent=1), encoding="utf-8")
        os.replace(beside, self.path)


def set_aside(path: Path) -> None:
    os.replace(path, path.with_suffix(".old"))


def _undated(header: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in header.items() if name != "date"}


def _result(data: dict[str, Any]) -> Result:
    case = Case(**{**data["case"], "shape": Shape(**data["case"]["shape"])})
    timings = {
        name: Timing(**{**t, "seconds": tuple(t["seconds"]), "processor": tuple(t["processor"])})
        for name, t in data["timings"].items()
    }
    return Result(**{**data, "case": case, "rates": tuple(data["rates"]), "timings": timings})
