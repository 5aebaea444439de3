"""Starts the processes that measure: one for each number of threads, or one for each contestant alone."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from signal import Signals

from benchmarks.cases import Case
from benchmarks.machine import describe
from benchmarks.store import Store, set_aside
from benchmarks.worker import Order

RESULTS = "results.json"
ALONE = "alone"  # the folder of what contestants reach in processes of their own


@dataclass(frozen=True, slots=True)
class Limits:
    """rounds, seconds: the most of a case. everywhere: whether dense contestants are measured at every shape."""

    rounds: int
    seconds: float
    everywhere: bool


def run_together(cases: Sequence[Case], names: tuple[str, ...], limits: Limits, folder: Path) -> None:
    """All contestants interleaved."""
    _run(cases, names, limits, folder / RESULTS)


def run_alone(cases: Sequence[Case], names: tuple[str, ...], limits: Limits, folder: Path) -> None:
    """Each contestant in a process of its own: what shows whether the company slows it."""
    (folder / ALONE).mkdir(exist_ok=True)
    for name in names:
        _run(cases, (name,), limits, folder / ALONE / f"{name}.json")


def forget(folder: Path) -> None:
    """Sets the results in the folder aside."""
    for path in (folder / RESULTS, *(folder / ALONE).glob("*.json")):
        if path.exists():
            set_aside(path)


def _run(cases: Sequence[Case], names: tuple[str, ...], limits: Limits, path: Path) -> None:
    """What the file does not hold yet. A contestant that ends the process is left out of the case in the next one."""
    header = {**describe(), **asdict(limits), "date": datetime.date.today().isoformat()}
    Store.open(path, header).write()
    for threads in sorted({case.threads for case in cases}, reverse=True):
        crashed: list[tuple[str, str]] = []
        while todo := _missing([case for case in cases if case.threads == threads], names, path):
            left = len(_missing(cases, names, path))
            with tempfile.TemporaryDirectory(prefix="irc-benchmarks-") as folder:
                order = Order(
                    threads=threads, names=names, cases=tuple(todo), everywhere=limits.everywhere,
                    rounds=limits.rounds, seconds=limits.seconds, results=path, folder=Path(folder),
                    crashed=tuple(crashed), total=len(cases), before=len(cases) - left,
                )  # fmt: skip
                code = _start(order)
                if code > 0:
                    sys.exit(code)
                if code < 0 and not order.marker.exists():
                    sys.exit(f"{Signals(-code).name} ended the process while it measured; what it had measured is kept")
                if code < 0:
                    case, name = json.loads(order.marker.read_text())
                    crashed.append((case, name))


def _missing(cases: Sequence[Case], names: tuple[str, ...], path: Path) -> list[Case]:
    done = {result.case for result in Store.read(path).results if set(names) <= result.timings.keys()}
    return [case for case in cases if case not in done]


def _start(order: Order) -> int:
    """Runs the order to its end. The process may use as many processors as it has threads, and no more."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(order.threads),
        "TORCHINDUCTOR_CACHE_DIR": str(order.folder / "inductor"),  # new folders: what is compiled is compiled here
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "IRC_CACHE_DIR": str(order.folder / "irc"),
    }
    command = [sys.executable, "-m", "benchmarks.worker"]
    done = subprocess.run(
        command, input=order.to_json(), text=True, env=environment, preexec_fn=_confine(order.threads), check=False
    )
    return done.returncode


def _confine(threads: int) -> Callable[[], None] | None:
    if not hasattr(os, "sched_setaffinity"):
        return None
    processors = sorted(os.sched_getaffinity(0))[-threads:]
    return lambda: os.sched_setaffinity(0, processors)
