"""python -m benchmarks.emulated: CUDA kernels of every program of the examples, in the emulator, under drawn schedules.

Compiles each program once, so that the emulator watches every access, and runs it forward and backward under schedules
of seeds 1, 2, …: which thread goes on where several can, and when asynchronous copies land. Writes a line a program and
element type into OUTPUT, at once; lines that stand there are not made again, if they are of this machine, commit and
choice. `forward` and `backward` are the largest relative L2 distances from the interpreter, as in `benchmarks.gallery`,
but in the sizes of the tests unless --size gives others. The verdict is what went wrong, if anything: results beyond
the tolerance of the tests, bits that depend on the schedule, or what the emulator found. Exits with 1 then.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

import irc
from benchmarks.gallery import FOLDER, Results, case, distances, every, name, results
from benchmarks.lines import record
from benchmarks.machine import describe
from irc.runtime import emulated
from irc.runtime.emulator import EmulatorError
from tests.test_kernels import TOLERANCE

TITLE = f"{'program':30} dtype  forward backward  seconds  verdict"
AGREES = "agrees"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.emulated", description=__doc__)
    parser.add_argument("programs", nargs="*", metavar="NAME", help="such as causal or masks/local; all without")
    parser.add_argument("--dtype", default="f32,bf16", help="of f32, f64, bf16, f16 (default f32,bf16)")
    parser.add_argument("--schedules", type=int, default=10, help="default 10")
    parser.add_argument("--target", default="emulator", help="emulator, or that of an architecture: emulator:sm_90a")
    parser.add_argument("--size", action="append", default=[], metavar="NAME=N", help="of every program that has it")
    parser.add_argument("--output", type=Path, default=Path("out/emulated.txt"), help="default out/emulated.txt")
    given = parser.parse_args()
    programs = [FOLDER / f"{p}.attn" for p in given.programs] or every()
    cases = [(path, dtype) for dtype in given.dtype.split(",") for path in programs]
    sizes = {name: int(number) for name, _, number in (size.partition("=") for size in given.size)}
    machine = describe()
    chosen = " ".join((f"--schedules {given.schedules} --target {given.target}", *(f"--size {s}" for s in given.size)))
    header = f"{machine['machine']}, {machine['compiler']}; irc at {machine['commit']}; {chosen}"
    measures = {
        (name(path), dtype): partial(measured, path, dtype, given.schedules, given.target, sizes)
        for path, dtype in cases
    }
    sys.exit(record(given.output, header, TITLE, measures, AGREES) > 0)


def measured(path: Path, dtype: str, schedules: int, target: str, sizes: dict[str, int]) -> tuple[str, str]:
    """The line, and its verdict."""
    start = time.perf_counter()
    forward = backward = float("nan")
    try:
        same, first = runs(path, dtype, range(1, schedules + 1), target, sizes)
        reference = irc.compile(path, sizes=case(path, sizes)[0], target="reference")
        forward, backward = distances(first, reference)
        near = forward < TOLERANCE[dtype] and backward < 3 * TOLERANCE[dtype]
        verdict = (AGREES if near else "differs") + ("" if same else ", bits depend on the schedule")
    except (EmulatorError, AssertionError, irc.Error) as error:
        verdict = textwrap.shorten(f"{type(error).__name__}: {error}", 400)
    seconds = time.perf_counter() - start
    return f"{name(path):30} {dtype:5} {forward:8.1e} {backward:8.1e} {seconds:8.1f}", verdict


def runs(path: Path, dtype: str, seeds: Iterable[int], target: str, sizes: dict[str, int]) -> tuple[bool, Results]:
    """Whether all schedules leave the same bits, and what the first leaves. Raises EmulatorError for what is found."""
    untold, sizes, values = case(path, sizes)
    program = irc.compile(path, sizes=untold, dtype=dtype, target=target)
    kernels = program.built({n: sizes[n] for n in program.features}).library
    assert isinstance(kernels, emulated.Library)
    watching = watched(program.source, kernels.architecture)
    program.measured_through(sizes, watching)
    found = []
    for watching.seed in seeds:
        found.append(results(program, values))
    return len({bits(one) for one in found}) == 1, found[0]


def watched(source: str, architecture: str) -> emulated.Library:
    return emulated.Library(source, check=True, architecture=architecture)


def bits(got: Results) -> tuple[bytes, ...]:
    return tuple(np.asarray(a).tobytes() for part in (got.outputs, got.gradients) for a in part.values())


if __name__ == "__main__":
    main()
