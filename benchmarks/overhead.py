"""What a call costs beside its work: microseconds of calls so small that they have almost none, and memory after many.

Calls of `examples/causal.attn`, (B,H,S,D) = (1,1,8,16), f32. `python -m benchmarks.overhead [--out FILE] [--cuda]`

With --cuda what the host does in a call on a device, in processor time: on the driver of the tests, with launches left
out, and with arrays of the kinds that lie on a device. Those of PyTorch and CuPy are of stand-ins.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial
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


def microseconds(call: Callable[[], object], clock: Callable[[], float]) -> tuple[float, float]:
    """The median and the least of batches of calls, warm."""
    found = []
    for _ in range(CALLS // BATCH):
        start = clock()
        for _ in range(BATCH):
            call()
        found.append(1e6 * (clock() - start) / BATCH)
    return median(found), min(found)


def host() -> list[str]:
    import torch

    return rows("cpu", {"numpy": lambda array: array, "torch": torch.from_numpy}, time.perf_counter)


def cuda() -> list[str]:
    from tests.cuda import emulated

    emulated.load()
    os.environ |= {"IRC_NVCC": str(emulated.NVCC), "EMULATED_PYTHON": sys.executable}
    from irc.runtime.cuda import launch
    from tests.cuda.test_foreign import Cupy, Elsewhere, Torch

    sys.modules |= {"torch": Torch(), "cupy": Cupy(0)}
    setattr(launch.Launch, "__call__", lambda self, stream, given: None)  # noqa: B010
    kinds = {"torch": Torch.Tensor, "cupy": Cupy.ndarray, "__cuda_array_interface__": Elsewhere}
    return rows("cuda", kinds, time.thread_time)


def rows(target: str, kinds: dict[str, Callable[[Any], Any]], clock: Callable[[], float]) -> list[str]:
    program = irc.compile(Path(__file__).parent.parent / "examples" / "causal.attn", target=target)
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal(SHAPE).astype(np.float32) for name in "qkv"}
    measured = partial(microseconds, clock=clock)
    found = []
    for kind, make in kinds.items():
        given = {name: make(array) for name, array in arrays.items()}

        def forward(given: dict[str, Any] = given) -> object:
            return program(**given)

        def both(given: dict[str, Any] = given) -> object:
            return program.forward(**given).backward(o=given["q"])

        for what, call in (("forward", forward), ("forward and backward", both)):
            measured(call)
            before = resident()
            middle, least = measured(call)
            found.append(f"| {what} | {kind} | {middle:.1f} | {least:.1f} | {(resident() - before) / 1024:+.0f} |")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--out", type=Path, help="a Markdown file to write; by default, standard output")
    parser.add_argument("--cuda", action="store_true", help="calls on a device, as above")
    given = parser.parse_args()
    machine = describe()
    lines = [
        f"{machine['machine']}; Python {machine['python']}; {machine['compiler']}; commit {machine['commit']}",
        "",
        f"{CALLS} calls after as many, in batches of {BATCH}.",
        "",
        "| call | arguments | median µs | least µs | resident memory, KiB |",
        "|---|---|---|---|---|",
        *(cuda() if given.cuda else host()),
    ]
    text = "\n".join(lines) + "\n"
    if given.out is None:
        print(text, end="")
    else:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
