"""python -m benchmarks.outliers: the speed of every variant of the examples beside the machine's peak.

Prints a line a program and element type, as `irc bench` measures it on one thread: milliseconds forward and backward,
their share of the peak in operations of products on pairs that exist, and what takes most of the rest. A variant that
is slow for no reason of its own stands out. Tokens are 1024 where a program lets them be, heads 4 and features 64, or
as OTHERS says; the rest is small, as the tests have it.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from benchmarks.gallery import FOLDER, case

SIZES = {"B": 1, "H": 4, "G": 2, "S": 1024, "Sq": 1024, "Sk": 1024, "Y": 32, "X": 32, "R": 64, "D": 64}
OTHERS = {
    "native_sparse": {"H": 16, "G": 1, "N": 32, "L": 64, "K": 8},
    "topk_tiles": {"N": 32, "M": 64, "K": 8},
    "triangle_end": {"N": 128},
    "triangle_start": {"N": 128},
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outliers", description=__doc__)
    parser.add_argument("programs", nargs="*", type=Path, help="files; all of examples/variants without")
    parser.add_argument("--dtype", action="append", choices=["f32", "f64", "bf16", "f16"], help="f32 and bf16 without")
    given = parser.parse_args()
    os.environ["IRC_THREADS"] = "1"
    print(f"{'program':22} dtype  forward           backward          the most of the rest")
    for path in given.programs or sorted((FOLDER / "variants").glob("*.attn")):
        for dtype in given.dtype or ("f32", "bf16"):
            print(line(path, dtype), flush=True)


def line(path: Path, dtype: str) -> str:
    import numpy as np

    import irc
    from irc.codegen.expr import Kind
    from irc.runtime.arrays import DTYPE
    from irc.tuning.bench import bench

    untold, sizes, values = case(path, SIZES | OTHERS.get(path.stem, {}))
    program = irc.compile(path, sizes=untold, dtype=dtype)
    floating = {n.name: DTYPE[program.storage(n)] for n in program.graph.inputs if n.kind is Kind.FLOAT}
    report = bench(program, sizes, {n: np.asarray(v, floating.get(n)) for n, v in values.items()}, 3, 1)
    parts = [
        f"{1e3 * each.seconds:8.2f} ms {each.operations / each.seconds / report.peak:5.0%}" for each in report.passes
    ]
    others = [{k: v for k, v in each.shares.items() if "at the peak" not in k} for each in report.passes]
    most = [f"{max(shares, key=lambda k: shares[k])} {max(shares.values()):.0%}" for shares in others]
    return f"{path.stem:22} {dtype:5} {'  '.join(parts)}  {'; '.join(most)}"


if __name__ == "__main__":
    main()
