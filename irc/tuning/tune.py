"""`irc tune`: tiles of a program's kernels by measurement on this machine.

Every candidate is compiled for all kernels at once and run in turns with the model's choice, forward and backward; each
kernel keeps the candidate that is fastest beside the model in the same rounds, if that is more than noise. After each
candidate everything is written, so a run that is cut off goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irc import stored
from irc.calls.program import Program
from irc.codegen.kernel import TileKernel
from irc.codegen.schedule import Schedule, Tiles
from irc.error import InputError
from irc.runtime import machine
from irc.tuning import tuned
from irc.tuning.measure import Timed, constants, cotangents, threads_of_kernels, timed

PANELS = (2, 4, 6, 8)
COLUMNS = (48, 96, 192, 256)
CANDIDATES = tuple(Tiles(panels, columns) for columns in COLUMNS for panels in PANELS)
NOISE = 0.02  # a choice must be faster than the model's by more
Ratios = dict[str, float]  # by kernel: time beside the model's choice in the same rounds


@dataclass(frozen=True, slots=True)
class Step:
    """A candidate with its ratios, the best tiles and ratio of each kernel so far, and how many candidates are done."""

    tiles: Tiles
    ratios: Ratios
    best: dict[str, tuple[Tiles, float]]
    done: int
    total: int


def tune(
    program: Program,
    sizes: Mapping[str, int],
    arguments: Mapping[str, Any],
    rounds: int,
    threads: int,
    candidates: tuple[Tiles, ...] = CANDIDATES,
) -> Iterator[Step]:
    """Measure what is not yet measured, one candidate a step; the choices so far are stored before each step is given.

    `sizes` are all sizes of the program, `arguments` those of a call. With one thread the clock is that of the thread's
    processor time, which other processes disturb least; with more it is the wall clock.
    """
    fixed = constants(program, sizes)
    usual = program.scheduled(Schedule(machine.caches()), fixed)
    names = [k.name for k in usual.built(sizes).kernels.values() if isinstance(k, TileKernel)]
    if not names:
        raise InputError(f"{program.graph.name} has no kernel of tiles to choose for")
    file = tuned.path(program.text, program.kernel_sizes(sizes), program.precision)
    state = _resumed(file, program, sizes, threads)
    first = None
    for number, tiles in enumerate(candidates):
        key = f"{tiles.panels} x {tiles.columns}"
        if key not in state["measured"]:
            with threads_of_kernels(threads):
                first = first or Candidate(usual, sizes, arguments, threads)
                chosen = Schedule(machine.caches(), tuple((name, tiles) for name in names))
                second = Candidate(program.scheduled(chosen, fixed), sizes, arguments, threads)
                state["measured"][key] = _ratios(first, second, names, rounds)
            state["chosen"] = {
                name: [best.panels, best.columns]
                for name, (best, ratio) in _best(state, names).items()
                if ratio < 1 - NOISE
            }
            tuned.write(file, state)
        yield Step(tiles, state["measured"][key], _best(state, names), number + 1, len(candidates))


def _resumed(file: Path, program: Program, sizes: Mapping[str, int], threads: int) -> dict[str, Any]:
    """What an earlier run with the same question, the same compiler and threads has left, or a new file."""
    asked = {
        "program": program.graph.name,
        "dtype": program.precision.storage,
        "sizes": dict(sizes),
        "threads": threads,
        "compiler": hashlib.sha256(stored.fingerprint().encode()).hexdigest()[:16],
    }
    found = tuned.read(file)
    if found.get("asked") == asked and isinstance(found.get("measured"), dict):
        return found
    return {"asked": asked, "measured": {}, "chosen": {}}


def _best(state: Mapping[str, Any], names: list[str]) -> dict[str, tuple[Tiles, float]]:
    best: dict[str, tuple[Tiles, float]] = {}
    for key, ratios in state["measured"].items():
        panels, _, columns = key.partition(" x ")
        for name in names:
            if name not in best or ratios[name] < best[name][1]:
                best[name] = (Tiles(int(panels), int(columns)), ratios[name])
    return best


class Candidate:
    """A program that runs forward and backward, and says how long each kernel took."""

    def __init__(self, program: Program, sizes: Mapping[str, int], arguments: Mapping[str, Any], threads: int) -> None:
        self.program, self.arguments = program, arguments
        clock = time.thread_time if threads == 1 else time.perf_counter
        self.library: Timed = timed(program, sizes, clock, arguments)

    def seconds(self) -> dict[str, float]:
        done = self.program.forward(**self.arguments)
        if self.program.backward_graph is not None:
            done.backward(**cotangents(done.outputs))
        return self.library.take()


def _ratios(first: Candidate, second: Candidate, names: list[str], rounds: int) -> Ratios:
    """The median over the rounds, after one to warm up, of the second's time by the first's."""
    pairs = [(first.seconds(), second.seconds()) for _ in range(rounds + 1)][1:]
    return {name: round(statistics.median(b[name] / a[name] for a, b in pairs), 4) for name in names}
