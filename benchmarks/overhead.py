"""What a call costs beside its work: microseconds of calls so small that they have almost none, and memory after many.

Calls of `examples/causal.attn`, (B,H,S,D) = (1,1,8,16), f32. `python -m benchmarks.overhead [--out FILE]`
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import irc
from benchmarks.machine import describe
from benchmarks.memory import resident

SHAPE = (1, 1, 8, 16)
CALLS = 10_000
BATCH = 100  # calls between two readings of the clock


def microseconds(call: Callable[[], object]) -> tuple[float, float]:
    """The median and the least of batches of calls, warm."""
    found = []
    for _ in range(CALLS // BATCH):
        start = time.perf_counter()
        for _ in range(BATCH):
            call()
        found.append(1e6 * (time.perf_counter() - start) / BATCH)
    return median(found), min(found)


def rows() -> list[str]:
    import torch

    program = irc.compile(Path(__file__).parent.parent / "examples" / "causal.attn")
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal(SHAPE).astype(np.float32) for name in "qkv"}
    kinds: dict[str, dict[str, Any]] = {
        "numpy": arrays,
        "torch": {name: torch.from_numpy(array) for name, array in arrays.items()},
    }
    found = []
    for kind, given in kinds.items():

        def forward(given: dict[str, Any] = given) -> object:
            return program(**given)

        def both(given: dict[str, Any] = given) -> object:
            return program.forward(**given).backward(o=given["q"])

        for what, call in (("forward", forward), ("forward and backward", both)):
            microseconds(call)
            before = resident()
            middle, least = microseconds(call)
            found.append(f"| {what} | {kind} | {middle:.1f} | {least:.1f} | {(resident() - before) / 1024:+.0f} |")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--out", type=Path, help="a Markdown file to write; by default, standard output")
    out = parser.parse_args().out
    machine = describe()
    lines = [
        f"{machine['machine']}; Python {machine['python']}; {machine['compiler']}; commit {machine['commit']}",
        "",
        f"{CALLS} calls after as many, in batches of {BATCH}.",
        "",
        "| call | arguments | median µs | least µs | resident memory, KiB |",
        "|---|---|---|---|---|",
        *rows(),
    ]
    text = "\n".join(lines) + "\n"
    if out is None:
        print(text, end="")
    else:
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
