"""Bars of rates, a picture for each pass, with the machine's ceilings as lines; from results.json alone."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cases import MAIN, PASSES
from benchmarks.peers import ENTRIES
from benchmarks.processes import RESULTS
from benchmarks.store import Store
from benchmarks.summary import Row, row


def write(folder: Path) -> None:
    """One picture for each pass that the folder has results of; none where matplotlib is absent."""
    if not (folder / RESULTS).exists():
        return
    try:
        import matplotlib
    except ImportError:
        print("no plots: matplotlib is not installed", file=sys.stderr)
        return
    matplotlib.use("Agg")
    rows = [row(result) for result in Store.read(folder / RESULTS).results]
    for work in (*PASSES, "decode"):
        chosen = [r for r in rows if r.result.case.work == work and (work == "decode" or r.result.case.shape == MAIN)]
        if chosen:
            _picture(chosen, work, folder / f"{work.replace('+', '_')}.png")


def _picture(rows: Sequence[Row], work: str, path: Path) -> None:
    """A panel for each element type and number of threads, a group of bars for each case."""
    from matplotlib import pyplot

    panels = sorted({(r.result.case.threads, r.result.case.dtype) for r in rows}, key=lambda p: (-p[0], p[1] != "f32"))
    names = [e.name for e in ENTRIES if any(e.name in r.rates for r in rows)]
    figure, axes = pyplot.subplots(len(panels), 1, figsize=(11, 3 * len(panels)), squeeze=False, layout="constrained")
    for axis, (threads, dtype) in zip(axes[:, 0], panels, strict=True):
        mine = [r for r in rows if (r.result.case.threads, r.result.case.dtype) == (threads, dtype)]
        width = 0.8 / len(names)
        for number, name in enumerate(names):
            heights = [r.rates.get(name, 0.0) for r in mine]
            places = [group + (number - (len(names) - 1) / 2) * width for group in range(len(mine))]
            colour = "black" if name == "irc" else f"C{number}"
            axis.bar(places, heights, width, color=colour, label=name)
        ceiling = statistics.median(r.ceiling for r in mine)
        axis.axhline(ceiling, color="grey", linestyle="--", linewidth=1)
        axis.annotate(mine[0].result.ceiling, (0, ceiling), (4, 3), textcoords="offset points", fontsize="small")
        axis.set_xticks(range(len(mine)), [_label(r) for r in mine])
        axis.set_ylabel("GB/s" if work == "decode" else "useful GFLOP/s")
        axis.set_title(f"{work}, {dtype}, {threads} thread{'s' * (threads > 1)}", fontsize="medium", loc="left")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _label(r: Row) -> str:
    shape = r.result.case.shape
    return f"B {shape.batch}, {shape.tokens} keys" if r.result.case.decodes else r.result.case.variant
