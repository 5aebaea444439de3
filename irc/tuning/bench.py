"""`irc bench`: how fast a program runs beside what the machine can do, and where the rest of the time goes.

The operations that count are those of products on pairs that the mask allows, as the kernels have them, and those of
matrix products. The times are of whole calls, in turns with a measurement of the machine's peak; with one thread they
are processor time, which other processes disturb least. The shares are of kernels compiled once more with clocks
between their phases. Within a phase the processor does several things at once: dots, masks and exponentials of a block
of scores overlap, so what is said of them is what dots would need at the peak, and the rest.
"""

from __future__ import annotations

import ctypes
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from irc.calls.program import Program, Run
from irc.codegen.expr import indices, loads
from irc.codegen.kernel import Dot, Kernel, TileKernel, TileProduct
from irc.codegen.panels import width
from irc.compiled import Fused
from irc.graph.interpret import DTYPES, evaluate, grid
from irc.runtime import cpu, libraries
from irc.runtime.arrays import Array
from irc.runtime.peak import Peak
from irc.runtime.plan import Product
from irc.runtime.sizes import evaluate as size_of
from irc.tuning.measure import Timed, constants, cotangents, threads_of_kernels, timed

PHASES = (
    "buffers", "packing", "masks", "scores", "masked scores", "rescaling", "products", "results", "waiting",
    "reading",
)  # fmt: skip
"""In the order of `codegen/templates/cpu/phases.h`; the last is reading the clocks, which nothing is said of."""


@dataclass(frozen=True, slots=True)
class Work:
    """Operations of a kernel's dots, and of its products, on allowed pairs."""

    dots: float
    products: float


@dataclass(frozen=True, slots=True)
class Pass:
    """Forward or backward: `seconds` of a call, useful `operations`, and `shares` of threads and time by what they went
    for, 1 in all."""

    what: str
    seconds: float
    operations: float
    shares: dict[str, float]


@dataclass(frozen=True, slots=True)
class Report:
    """`peak`: operations in a second of all threads; `clocks`: time of kernels with clocks in them, beside without."""

    program: str
    dtype: str
    sizes: dict[str, int]
    threads: int
    peak: float
    clocks: float
    passes: tuple[Pass, ...]


class Watched(Timed):
    """A library compiled with IRC_PROFILE, and what was counted: seconds of threads in each phase, and work."""

    def __init__(self, library: cpu.Library, clock: Callable[[], float]) -> None:
        super().__init__(library, clock)
        self._phases = getattr(library.code, "irc_phases", None)  # none, where no kernel is one of tiles
        self._counted = (ctypes.c_double * len(PHASES))()
        self.phases = dict.fromkeys(PHASES, 0.0)
        self.idle = 0.0
        self.work: dict[str, Work] = {}

    def bound(
        self, kernel: Kernel, tensors: Mapping[str, Array], sizes: Mapping[str, int], threads: int
    ) -> Callable[[Mapping[str, Any], Mapping[str, int]], None]:
        run = super().bound(kernel, tensors, sizes, threads)
        if kernel.name not in self.work:
            self.work[kernel.name] = work(kernel, tensors, sizes)

        def call(tensors: Mapping[str, Any], places: Mapping[str, int]) -> None:
            start = self.clock()
            run(tensors, places)
            seconds = self.clock() - start
            if self._phases is not None:
                self._phases(self._counted)
            if any(self._counted):
                for name, counted in zip(PHASES, self._counted, strict=True):
                    self.phases[name] += counted
                self.idle += max(0.0, threads * seconds - sum(self._counted))

        return call

    def take_phases(self) -> dict[str, float]:
        """Seconds of threads in each phase since the last time; those of no phase are `waiting`."""
        taken = {**self.phases, "waiting": self.phases["waiting"] + self.idle}
        self.phases, self.idle = dict.fromkeys(PHASES, 0.0), 0.0
        return taken


def work(kernel: Kernel, tensors: Mapping[str, Array], sizes: Mapping[str, int]) -> Work:
    """What a kernel's dots and products come to on the pairs that its mask allows, counted pair by pair."""
    if not isinstance(kernel, TileKernel):
        return Work(0, 0)
    panels = {panel.name: width(panel) for panel in kernel.panels}
    pairs = allowed(kernel, tensors, sizes)
    dots = sum(panels[step.row] for step in kernel.body if isinstance(step, Dot))
    products = sum(panels[step.panel] for step in kernel.body if isinstance(step, TileProduct))
    return Work(2.0 * pairs * dots, 2.0 * pairs * products)


def allowed(kernel: TileKernel, tensors: Mapping[str, Array], sizes: Mapping[str, int]) -> int:
    """How many pairs, over all points of the batch, the kernel's mask allows."""
    axes = (*kernel.serial, *kernel.batch, *kernel.rows, *kernel.columns)
    if kernel.support is None:
        return math.prod(size_of(axis.size, sizes) for axis in axes)
    values = {e.tensor: np.asarray(tensors[e.tensor]).astype(DTYPES[e.kind]) for e in loads(kernel.support)}
    read = indices(kernel.support)
    some = tuple(a for a in axes if a.role or a.name in read)  # of a batch that the mask does not read, one point
    whole = grid(some, values, sizes)
    found = 0
    for part, _ in whole.chunks(len(some)):
        found += int(np.broadcast_to(evaluate(kernel.support, part), part.shape).sum())
    return found * math.prod(size_of(a.size, sizes) for a in axes if a not in some)


def bench(
    program: Program, sizes: Mapping[str, int], arguments: Mapping[str, Any], rounds: int, threads: int
) -> Report:
    """Measure a program on arguments: medians of rounds: the peak, a call, and one with clocks in its kernels."""
    clock = time.process_time if threads == 1 else time.perf_counter
    known = constants(program, sizes)
    schedule = program.schedule(sizes)
    plain = program.scheduled(schedule, known)
    library = timed(plain, sizes, clock, arguments)
    integers = plain.integers(arguments)
    built = plain.built(sizes, integers)
    compiled = built.compiled
    clocked = program.scheduled(schedule, known)
    source = f"#define IRC_PROFILE\n{compiled.source}"
    watched = Watched(libraries.compiled(source), clock)
    clocked.measured_through(sizes, watched, integers)

    tiles = [k for k in built.kernels.values() if isinstance(k, TileKernel)]
    peak = Peak(any(k.pairs for k in tiles), plain.precision.arithmetic)
    ways = ("forward", "backward") if compiled.backward is not None else ("forward",)
    rates: list[float] = []
    rows: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    with threads_of_kernels(threads):
        for number in range(rounds + 1):
            rate = peak.rate(threads, clock)
            done = _round(plain, library, arguments, ways)
            seen = _round(clocked, watched, arguments, ways)
            if number == 0:
                continue
            rates.append(rate)
            for way in ways:
                rows[way].append({**{f"{k} clocked": v for k, v in seen[way].items()}, **done[way]})
    rate = statistics.median(rates)
    medians = {way: {k: statistics.median(row[k] for row in rows[way]) for k in rows[way][0]} for way in ways}
    passes = []
    for way in ways:
        fused = compiled.forward if way == "forward" else compiled.backward
        assert fused is not None
        passes.append(_pass(way, medians[way], fused, watched.work, sizes, rate, threads))
    kernels = [sum(medians[way][key] for way in ways) for key in ("kernels clocked", "kernels")]
    clocks = kernels[0] / kernels[1] if kernels[1] else 1.0
    return Report(program.graph.name, plain.precision.storage, dict(sizes), threads, rate, clocks, tuple(passes))


def _round(
    program: Program, library: Timed, arguments: Mapping[str, Any], ways: tuple[str, ...]
) -> dict[str, dict[str, float]]:
    """Seconds by way: `call` the whole, `kernels` those in kernels, and of threads in each phase if watched. Of calls
    that come after others, as most do: what was measured in between has left nothing of them in the caches."""
    _timed(program, library, arguments, ways)
    return _timed(program, library, arguments, ways)


def _timed(
    program: Program, library: Timed, arguments: Mapping[str, Any], ways: tuple[str, ...]
) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    run: Run | None = None
    ones: dict[str, Array] = {}
    for way in ways:
        start = library.clock()
        if run is None:
            run = program.forward(**arguments)
        else:
            run.backward(**ones)
        call = library.clock() - start
        ones = ones or cotangents(run.outputs)
        phases = library.take_phases() if isinstance(library, Watched) else {}
        found[way] = {"call": call, "kernels": sum(library.take().values()), **phases}
    return found


def _pass(
    what: str, seconds: Mapping[str, float], fused: Fused, counted: Mapping[str, Work], sizes: Mapping[str, int],
    rate: float, threads: int,
) -> Pass:  # fmt: skip
    ran = [counted[k.name] for k in fused.kernels if k.name in counted]  # without what a call finds kept
    dots, products = sum(work.dots for work in ran), sum(work.products for work in ran)
    matrix = sum(_operations(step, sizes) for step in fused.plan.steps if isinstance(step, Product))
    phases = {name: seconds[f"{name} clocked"] for name in PHASES}
    reading = phases.pop("reading")
    total = sum(phases.values())
    inside = seconds["kernels"] / seconds["call"]  # of the call, in kernels
    tiled = min(total / max(threads * seconds["kernels clocked"] - reading, total), 1.0) if total else 0.0
    share = {name: inside * tiled * spent / total if total else 0.0 for name, spent in phases.items()}
    at_peak = {name: n / rate / seconds["call"] for name, n in (("dots", dots), ("products", products))}
    scores = share["scores"] + share["masked scores"]
    shares = {
        "dots of scores, at the peak": min(at_peak["dots"], scores),
        "exp and other elementwise work, masks on pairs": max(scores - at_peak["dots"], 0.0),
        "rescaling": share["rescaling"],
        "products, at the peak": min(at_peak["products"], share["products"]),
        "products, below it": max(share["products"] - at_peak["products"], 0.0),
        "packing": share["packing"],
        "masks of tiles": share["masks"],
        "buffers and results": share["buffers"] + share["results"],
        "idle threads, or others in their place": share["waiting"],
        "other kernels": inside * (1 - tiled),
        "matrix products, calls": 1 - inside,
    }
    return Pass(what, seconds["call"], dots + products + matrix, shares)


def _operations(step: Product, sizes: Mapping[str, int]) -> float:
    """A multiplication and an addition for each point of all axes of a matrix product."""
    dims = (*step.left.dims, *step.right.dims)
    axes = {axis.name: axis.size for dim in dims if not isinstance(dim, int) for axis in dim}
    return 2.0 * math.prod(size_of(size, sizes) for size in axes.values())


def table(report: Report) -> str:
    """The report for a terminal."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    sizes = ", ".join(f"{name} = {value}" for name, value in report.sizes.items())
    grid = Table(box=SIMPLE, show_edge=False, pad_edge=False)
    grid.add_column("")
    for measured in report.passes:
        grid.add_column(measured.what, justify="right")

    def row(name: str, cells: list[str], end: bool = False) -> None:
        grid.add_row(name, *cells, end_section=end)

    row("time of a call", [f"{1e3 * p.seconds:.2f} ms" for p in report.passes])
    row("useful GFLOP", [f"{p.operations / 1e9:.3f}" for p in report.passes])
    row("GFLOP/s", [f"{p.operations / p.seconds / 1e9:.1f}" for p in report.passes])
    row("share of the peak", [f"{p.operations / p.seconds / report.peak:.1%}" for p in report.passes], end=True)
    for name in report.passes[0].shares:
        row(name, [f"{p.shares[name]:.1%}" for p in report.passes])
    console = Console(highlight=False, width=110)
    with console.capture() as captured:
        threads = f"{report.threads} thread{'s' if report.threads != 1 else ''}"
        console.print(f"{report.program}, {report.dtype}, {sizes}, {threads}", soft_wrap=True)
        console.print(f"the machine's peak in this form: {report.peak / 1e9:.1f} GFLOP/s\n")
        console.print(grid)
        console.print()
        for measured in report.passes:
            console.print(bound(measured))
        console.print(f"shares from kernels with clocks, which take {report.clocks:.2f} of their time without", end="")
    return captured.get()


def bound(measured: Pass) -> str:
    """The largest share that is not products at the machine's peak."""
    least = {name: share for name, share in measured.shares.items() if "at the peak" not in name}
    name = max(least, key=lambda n: least[n])
    return f"{measured.what}: the largest share beside products at the peak: {name}, {least[name]:.0%}"
