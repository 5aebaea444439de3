"""One process for one number of threads: sets every contestant up, checks that they agree, times them interleaved.

`python -m benchmarks` starts it and hands it an Order as JSON on its standard input.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.cases import MAIN, Case, Problem
from benchmarks.ceilings import Ceilings
from benchmarks.measure import interleaved
from benchmarks.memory import Peak
from benchmarks.peers import ENTRIES, Array, Contestant, Entry, Ready, Unsupported, load
from benchmarks.progress import Progress
from benchmarks.store import Result, Store, Timing
from benchmarks.summary import row
from benchmarks.variants import Shape

TOLERANCE = {"f32": 2e-5, "bf16": 3e-2, "f16": 1e-2}  # relative L2, by the rounding of operands and results
TABLES = 10  # times as much for gradients of tables: peers add them up in the element type, over all pairs
LINE = 160  # characters kept of what a library says


@dataclass(frozen=True, slots=True)
class Order:
    """What one process is to do.

    names: who takes part. cases: in order, all with `threads`. everywhere: contestants that hold queries x keys at
    every shape too, not at the main one alone. rounds, seconds: the most that a case takes. results: where they are
    stored. folder: for what is built. crashed: pairs of case and contestant that ended an earlier process. total,
    before: cases of the whole run, and those done.
    """

    threads: int
    names: tuple[str, ...]
    cases: tuple[Case, ...]
    everywhere: bool
    rounds: int
    seconds: float
    results: Path
    folder: Path
    crashed: tuple[tuple[str, str], ...]
    total: int
    before: int

    @property
    def marker(self) -> Path:
        """Holds the case and the contestant that is at work, for whoever finds this process gone."""
        return self.folder / "at_work.json"

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Order:
        data = json.loads(text)
        cases = tuple(Case(**{**c, "shape": Shape(**c["shape"])}) for c in data["cases"])
        paths = {name: Path(data[name]) for name in ("results", "folder")}
        crashed = tuple((case, name) for case, name in data["crashed"])
        return cls(**{**data, **paths, "cases": cases, "names": tuple(data["names"]), "crashed": crashed})


class Worker:
    def __init__(self, order: Order) -> None:
        self.order = order
        self.store = Store.read(order.results)
        self.progress = Progress(order.total, order.before)
        self.ceilings = Ceilings(order.threads, order.folder)
        self.contestants: dict[str, Contestant] = {}
        self.absent: dict[str, Timing] = {}
        for entry in self._entries():  # all before irc compiles: it asks OpenMP's threads not to spin, PyTorch's are to
            try:
                self.contestants[entry.name] = load(entry, order.threads)
            except ImportError as error:
                self.absent[entry.name] = Timing(reason=f"absent: {error}")

    def _entries(self) -> list[Entry]:
        return [entry for entry in ENTRIES if entry.name in self.order.names]

    def run(self) -> None:
        for case in self.order.cases:
            self.progress.begin(case.name)
            result = self._measure(case)
            self.store.add(result)
            self.progress.end(_summary(result))
            gc.collect()

    def _measure(self, case: Case) -> Result:
        problem = Problem(case)
        ready: dict[str, Ready] = {}
        timings: dict[str, Timing] = {}
        once: dict[str, float] = {}
        reference: Mapping[str, Array] | None = None
        for entry in self._entries():
            name = entry.name
            made = self._first(entry, problem)
            if isinstance(made, Timing):
                timings[name] = made
                continue
            ready[name], once[name], results, peak = made
            reference = results if reference is None else reference
            distances = _distances(results, reference)
            far = [f"{n} is {d:.1e} away" for n, d in distances.items() if not d < _tolerance(n, problem)]
            reason = f"computes something else: {', '.join(far)}" if far else ""
            timings[name] = Timing(reason=reason, distances=distances, peak=peak, notes=dict(ready[name].notes))
            if far:
                del ready[name], once[name]
        ceiling, call = self.ceilings.of(case)
        start = time.perf_counter()
        most = call()
        once[ceiling] = time.perf_counter() - start
        self.progress.show("timing " + ", ".join(ready))
        self.order.marker.unlink(missing_ok=True)
        candidates = {name: r.run for name, r in ready.items()} | {ceiling: call}
        before = {name: r.before for name, r in ready.items() if r.before is not None}
        sampled = interleaved(candidates, self.order.rounds, self.order.seconds, once, ceiling, before)
        for name in ready:
            times = sampled[name]
            timings[name] = dataclasses.replace(timings[name], seconds=times.seconds, processor=times.processor)
        limit = sampled[ceiling]
        rates = tuple(most / s for s in limit.seconds)
        quiet = min(1.0, sum(limit.processor) / sum(limit.seconds) / case.threads)
        return Result(case, problem.work, ceiling, rates, quiet, timings)

    def _first(self, entry: Entry, problem: Problem) -> Timing | tuple[Ready, float, Mapping[str, Array], float]:
        """Set up and called once: the call's seconds, results and memory; or why there are none."""
        name, case = entry.name, problem.case
        if name in self.absent:
            return self.absent[name]
        if not self.order.everywhere:
            if entry.dense and not case.decodes and case.shape != MAIN:
                return Timing(reason=f"at {MAIN}, but for --everywhere")
            if entry.slow and case.threads == 1:
                return Timing(reason="with more threads, but for --everywhere")
        if (case.name, name) in self.order.crashed:
            return Timing(reason="ended the process")
        self.progress.show(f"setting up {name}")
        self.order.marker.write_text(json.dumps((case.name, name)))
        try:
            ready = self.contestants[name].prepare(problem)
            with Peak() as peak:
                start = time.perf_counter()
                returned = ready.run()
                seconds = time.perf_counter() - start
            return ready, seconds, ready.results(returned), peak.bytes
        except Unsupported as why:
            return Timing(reason=f"not possible: {why}")
        except Exception as error:  # a library's refusal is a result, whatever its type
            first = next(iter(str(error).strip().splitlines()), "")
            return Timing(reason=f"fails: {type(error).__name__}: {first}"[:LINE])


def _distances(results: Mapping[str, Array], reference: Mapping[str, Array]) -> dict[str, float]:
    """|a - b| / |b| by name."""
    if results.keys() != reference.keys():
        raise ValueError(f"results {sorted(results)}, irc's are {sorted(reference)}")
    found = {}
    for name, array in results.items():
        a, b = (np.asarray(x).astype(np.float32) for x in (array, reference[name]))
        if a.shape != b.shape:
            raise ValueError(f"{name} has shape {a.shape}, irc's has {b.shape}")
        found[name] = float(np.linalg.norm((a - b).ravel()) / np.linalg.norm(b.ravel()))
    return found


def _tolerance(name: str, problem: Problem) -> float:
    rounded = problem.case.dtype != "f32"
    return TOLERANCE[problem.case.dtype] * (TABLES if rounded and name in problem.variant.learned else 1)


def _summary(result: Result) -> str:
    unit = "GB/s" if result.case.decodes else "GFLOP/s"
    summed = row(result)
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in summed.rates.items())
    return f"{rates} {unit}; {result.ceiling} {summed.ceiling:.0f}, {result.quiet:.0%} of the processors"


if __name__ == "__main__":
    try:
        Worker(Order.from_json(sys.stdin.read())).run()
    except KeyboardInterrupt:
        sys.exit(130)
