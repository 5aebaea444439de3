"""Interleaved timing: every candidate once a round, so that a noisy moment hits all alike.

Libraries leave threads behind that spin for more work, or free memory. Before a candidate is timed, the process has
come to rest, so that none takes time from the next and each waits as it does alone; then it is called once untimed,
since a processor of a virtual machine that has rested may take milliseconds to come back.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

SAMPLE = 0.01  # seconds: shorter calls are timed several at a time
MOMENT = 0.003  # seconds
FEW = 3  # rounds that every candidate takes part in
SLOW = 2  # times the second fastest: a candidate slower than this stays out of further rounds
STEADY = 0.01  # relative standard error of a median at which more rounds add nothing


@dataclass(frozen=True, slots=True)
class Sampled:
    """Of one call, in each round that the candidate took part in: seconds, and seconds of processors by all threads."""

    seconds: tuple[float, ...]
    processor: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def error(self) -> float:
        """The relative standard error of the median: 1.25 standard deviations, estimated by the median deviation."""
        deviation = statistics.median(abs(s - self.median) for s in self.seconds)
        return 1.25 * 1.4826 * deviation / math.sqrt(len(self.seconds)) / self.median


def interleaved(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int,
    seconds: float = float("inf"),
    once: Mapping[str, float] | None = None,
    beside: str = "",
    before: Mapping[str, Callable[[], None]] | None = None,
) -> dict[str, Sampled]:
    """Each candidate timed in up to `rounds` rounds, after one call of each to warm up.

    The rounds end early, but not before every candidate has been in a few, when `seconds` have passed, or when the
    medians of those still in are steady. A candidate far slower than the fastest two then sits out further rounds.
    The order is another one in every round, so that none always follows the same one. once: what the call to warm up
    took, if it has been made. beside: a candidate that is compared with none, and stays in. before: what some do before
    each call, and is not timed.
    """
    order, untimed = random.Random(0), before or {}
    once = once or {name: _timed(run, 1, untimed.get(name))[0] for name, run in candidates.items()}
    calls = {name: max(1, round(SAMPLE / t)) for name, t in once.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    start = time.perf_counter()
    racing = list(candidates)
    for number in range(rounds):
        for name in order.sample(racing, len(racing)):
            rest()
            candidates[name]()
            times[name].append(_timed(candidates[name], calls[name], untimed.get(name)))
        if number + 1 < FEW:
            continue
        sampled = {name: _sampled(times[name]) for name in racing}
        fastest = sorted(s.median for name, s in sampled.items() if name != beside)
        limit = SLOW * max(fastest[:2], default=0.0)
        racing = [name for name in racing if name == beside or sampled[name].median <= limit]
        steady = number + 1 >= 2 * FEW and all(sampled[name].error < STEADY for name in racing)
        if steady or time.perf_counter() - start > seconds:
            break
    return {name: _sampled(values) for name, values in times.items()}


def rest() -> None:
    """Returns when no thread of this process has worked for a moment, after a second at the latest."""
    for _ in range(int(1 / MOMENT)):
        before = time.process_time()
        time.sleep(MOMENT)
        if time.process_time() - before < MOMENT / 20:
            return


def _sampled(times: list[tuple[float, float]]) -> Sampled:
    seconds, processor = zip(*times, strict=True)
    return Sampled(seconds, processor)


def _timed(run: Callable[[], object], calls: int, before: Callable[[], None] | None) -> tuple[float, float]:
    """Seconds of a call, and of processors."""
    if before is None:
        start, processor = time.perf_counter(), time.process_time()
        for _ in range(calls):
            run()
        return (time.perf_counter() - start) / calls, (time.process_time() - processor) / calls
    each = []
    for _ in range(calls):
        before()
        each.append(_timed(run, 1, None))
    return statistics.fmean(seconds for seconds, _ in each), statistics.fmean(used for _, used in each)
