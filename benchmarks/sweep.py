"""python -m benchmarks.sweep OUT: the time of every size of tiles, for the test of the model that chooses them.

One thread, its processor time, all candidates in turns. Per kernel: what the model sees of it, and by candidate the
median of the rounds, each divided by the mean of its round so that a slow moment does not count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict
from itertools import product
from pathlib import Path

import irc
from benchmarks.masks import SPEC
from irc.codegen.kernel import TileKernel
from irc.codegen.schedule import Schedule
from irc.codegen.tiles import footprint
from irc.pipeline import back
from irc.runtime import cache, machine
from irc.tuning.measure import random_arguments, threads_of_kernels
from irc.tuning.tune import CANDIDATES, PANELS, Candidate


def cases(dtype: str, mask: str, sizes: dict[str, int], rounds: int, panels: list[int]) -> list[dict[str, object]]:
    name = f"{dtype} {'causal' if mask else 'full'} D={sizes['D']}"
    program = irc.compile(SPEC.format(mask=mask, declare=""), dtype=dtype)
    arguments = random_arguments(program, sizes, {})
    known = program.kernel_sizes(sizes)
    made = back(program.graph, known, program.precision)
    fused = (made.forward, made.backward)
    kernels = [k for f in fused if f is not None for k in f.kernels if isinstance(k, TileKernel)]
    runs = {}
    for tiles in (t for t in CANDIDATES if t.panels in panels):
        schedule = Schedule(machine.caches(), tuple((k.name, tiles) for k in kernels))
        candidate = Candidate(program.scheduled(schedule, known), sizes, arguments, threads=1)
        runs[f"{tiles.panels} x {tiles.columns}"] = candidate
    taken = [{key: run.seconds() for key, run in runs.items()} for _ in range(rounds + 1)][1:]
    found = []
    for kernel in kernels:
        means = [statistics.mean(times[kernel.name] for times in one.values()) for one in taken]
        scale = statistics.median(means)
        seconds = {
            key: scale * statistics.median(one[key][kernel.name] / mean for one, mean in zip(taken, means, strict=True))
            for key in runs
        }
        print(name, kernel.name, *(f"\n  {key}: {1e3 * value:.2f} ms" for key, value in seconds.items()), flush=True)
        rounded = {key: float(f"{value:.4g}") for key, value in seconds.items()}
        found.append({"name": f"{name} {kernel.name}", "footprint": asdict(footprint(kernel)), "seconds": rounded})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shape", nargs="+", default=["1,2,2048,64"], help="batch, heads, tokens, width")
    parser.add_argument("--panels", type=int, nargs="+", default=list(PANELS))
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    record = {
        "command": f"python -m benchmarks.sweep {' '.join(sys.argv[1:])}",
        "machine": next((line for line in cache.machine().splitlines() if "model name" in line), ""),
        "caches": asdict(machine.caches()),
        "cases": [],
    }
    with threads_of_kernels(1):
        for shape, mask, dtype in product(given.shape, ("", "allow j <= i"), ("f32", "bf16")):
            sizes = dict(zip("BHSD", (int(n) for n in shape.split(",")), strict=True))
            record["cases"] += cases(dtype, mask, sizes, given.rounds, given.panels)
            given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
