"""python -m benchmarks.cubins: CUDA kernels of every program of the examples through nvcc, and what ptxas says of them.

Compiles each program's kernels, forward and backward, in every form that an architecture has: of sm_90a those on
warpgroups and those for other layouts. Writes a line a program, element type, width and architecture into OUTPUT, at
once; lines that stand there are not made again, if they are of this machine, commit and choice. `kernels`: how many
there are, how many of them multiply on tensor cores, and how many on warpgroups; `most`: registers that a thread has,
of any of them. The verdict names the kernels that spill or keep what they work on in local memory, with the bytes, and
those with more registers than are theirs. Exits with 1 where there are any.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import textwrap
import time
from functools import partial
from itertools import product
from pathlib import Path

import irc
from benchmarks.gallery import FOLDER, case, every, name
from benchmarks.lines import record
from benchmarks.machine import describe
from irc.codegen import cuda
from irc.codegen.kernel import Kernel
from irc.runtime.cuda import nvcc
from tests.cuda.test_cubins import compiled

FITS = "fits"
TITLE = f"{'program':30} dtype width architecture kernels on tensor cores, warpgroups  most  seconds  verdict"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cubins", description=__doc__)
    parser.add_argument("programs", nargs="*", metavar="NAME", help="such as causal or masks/local; all without")
    parser.add_argument("--dtype", default="bf16", help="of f32, f64, bf16, f16 (default bf16)")
    parser.add_argument("--width", default="64,128", help="of heads (default 64,128)")
    parser.add_argument("--architecture", default="sm_90a", help="of sm_80, sm_90a, sm_100, … (default sm_90a)")
    parser.add_argument("--output", type=Path, default=Path("out/cubins.txt"), help="default out/cubins.txt")
    given = parser.parse_args()
    programs = [FOLDER / f"{p}.attn" for p in given.programs] or every()
    chosen = [given.dtype.split(","), given.width.split(","), given.architecture.split(",")]
    cases = [(path, *of) for of in product(*chosen) for path in programs]
    machine = describe()
    header = f"{machine['machine']}, {nvcc.find().version}; irc at {machine['commit']}"
    measures = {(name(path), *of): partial(line, path, *of) for path, *of in cases}
    sys.exit(record(given.output, header, TITLE, measures, FITS) > 0)


def line(path: Path, dtype: str, width: str, architecture: str) -> tuple[str, str]:
    """The line, and its verdict."""
    start = time.perf_counter()
    numbers, verdict = measured(path, dtype, int(width), architecture)
    seconds = time.perf_counter() - start
    return f"{name(path):30} {dtype:5} {width:>5} {architecture:12} {numbers}  {seconds:7.1f}", verdict


def measured(path: Path, dtype: str, width: int, architecture: str) -> tuple[str, str]:
    """Numbers and verdict."""
    untold, sizes, _ = case(path, {"D": width})
    try:
        program = irc.compile(path, sizes=untold, dtype=dtype, target=f"emulator:{architecture}")
        built = program.built({n: sizes[n] for n in program.features})
        with tempfile.TemporaryDirectory() as folder:
            target = f"arch={architecture.replace('sm', 'compute')},code={architecture}"
            found = {n: said for (_, n), said in compiled(built.compiled.source, (target,), Path(folder)).items()}
    except (irc.Error, AssertionError) as error:
        return "", textwrap.shorten(f"{type(error).__name__}: {error}", 400)
    allowed = registers(list(built.kernels.values()), architecture)
    wrong = [f"{n} {c.spills} + {c.stack} B" for n, c in found.items() if c.spills or c.stack]
    wrong += [f"{n} {c.registers} > {allowed[n]}" for n, c in found.items() if c.registers > allowed[n]]
    products = sum(c.products > 0 for c in found.values()), sum(c.wide_products > 0 for c in found.values())
    most = max(c.registers for c in found.values())
    return f"{len(found):7} {products[0]:16} {products[1]:10}  {most:4}", "; ".join(wrong) or FITS


def registers(kernels: list[Kernel], architecture: str) -> dict[str, int]:
    """What a thread of each launch may have."""
    launches = [launch for kernel in kernels for launch in cuda.launches(kernel, architecture)]
    launches += [launch.otherwise for launch in launches if launch.otherwise]
    return {launch.name: launch.registers for launch in launches}


if __name__ == "__main__":
    main()
