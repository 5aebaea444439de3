"""python -m benchmarks.masks: what masks save, and what asking for it costs.

Prints three tables: speed by mask as a multiple of the full core in the same run; a sliding window at two lengths; and
the share of a kernel's time that goes into verdicts on tiles, measured by asking each verdict many times over.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

import irc
from benchmarks.measure import interleaved
from irc.calls.program import Run
from irc.runtime import execute, libraries

SPEC = """
attention core {{
  size B, H, S, D
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]
  {declare}
  core o[b,h,i,d] {{
    score q[b,h,i,c] * k[b,h,j,c]
    scale 1 / sqrt(D)
    {mask}
    softmax j
    matmul v[b,h,j,d]
  }}
  return o
}}
"""
GRID = """
attention grid {{
  size B, H, Y, X, D
  input q[B,H,(Y X),D], k[B,H,(Y X),D], v[B,H,(Y X),D]
  core o[b,h,(yi xi),d] {{
    score q[b,h,(yi xi),c] * k[b,h,(yj xj),c]
    scale 1 / sqrt(D)
    {mask}
    softmax (yj xj)
    matmul v[b,h,(yj xj),d]
  }}
  return o
}}
"""
REPEATS = 30
ASKED = ("causal", "causal, 8 documents", "4 sinks, window 256", "every third key of 384", "7 x 7 neighbourhood")
VERDICT = re.compile(
    r"auto (rows_of|columns_of|may|must) = \[&\]\(([^)]*)\)( -> bool)? \{\n(.*?)\n      \};",
    re.DOTALL,
)
REPEATED = """auto {name} = [&]({parameters}) {{
        auto once = [&]() {{
{body}
        }};
        for (int r = 1; r < irc_repeats; ++r) {{
          asm volatile("" : {opaque} : "memory");
          const auto answer = once();
          asm volatile("" : : "r"(&answer) : "memory");
        }}
        return once();
      }};"""


def repeated(verdict: re.Match[str]) -> str:
    """The definition of a verdict, or of what one reads, that is evaluated `irc_repeats` times a call."""
    names = [parameter.split()[-1].lstrip("&") for parameter in verdict[2].split(",")]
    by_value = "&" not in verdict[2]
    operands = ", ".join(f'"+r"({n})' if by_value else f'"r"(&{n})' for n in names)
    return REPEATED.format(
        name=verdict[1], parameters=verdict[2], body=verdict[4], opaque=f"{operands} :" if by_value else f": {operands}"
    )


@dataclass(frozen=True)
class Mask:
    """A mask on `length` tokens, with what it declares and the values of that."""

    mask: str = ""
    declare: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    plane: bool = False

    def run(self, shape: tuple[int, int, int, int]) -> tuple[irc.Program, dict[str, Any], Run]:
        """The program, its arguments and one forward run."""
        b, h, s, d = shape
        rng = np.random.default_rng(0)
        arrays = {n: rng.standard_normal((b, h, s, d)).astype(np.float32) for n in "qkv"} | self.values
        side = round(s**0.5)
        sizes = {"D": d} | ({"Y": side, "X": side} if self.plane else {})
        program = irc.compile((GRID if self.plane else SPEC).format(mask=self.mask, declare=self.declare), sizes=sizes)
        return program, arrays, program.forward(**arrays)


def masks(length: int) -> dict[str, Mask]:
    ids = np.repeat(np.arange(8, dtype=np.int32), length // 8)[None]
    documents = "input doc[B,S]: int"
    nondecreasing = f"{documents}\n  assume nondecreasing doc[b,s] over s"
    both = "allow j <= i and doc[b,i] == doc[b,j]"
    return {
        "full": Mask(),
        "causal": Mask("allow j <= i"),
        "causal, 8 documents": Mask(both, nondecreasing, {"doc": ids}),
        "causal, 8 documents, no assumption": Mask(both, documents, {"doc": ids}),
        "documents in any order": Mask("allow doc[b,i] == doc[b,j]", documents, {"doc": ids[:, ::-1].copy()}),
        "window 256": Mask("allow j <= i and i - j < 256"),
        "4 sinks, window 256": Mask("allow j <= i and (j < 4 or i - j < 256)"),
        "padding to half": Mask("allow j < len[b]", "input len[B]: int", {"len": np.asarray([length // 2], np.int32)}),
        "blocks of 64, causal": Mask("allow j // 64 <= i // 64"),
        "every third key of 384": Mask("allow j <= i and i - j < 384 and (i - j) % 3 == 0"),
        "7 x 7 neighbourhood": Mask("allow abs(yi - yj) <= 3 and abs(xi - xj) <= 3", plane=True),
    }


def speeds(shape: tuple[int, int, int, int], rounds: int) -> None:
    print(f"(B,H,S,D) = {shape}; ms, and the time of the full core as a multiple", flush=True)
    runs = {name: mask.run(shape) for name, mask in masks(shape[2]).items()}
    cotangent = np.ones(shape, np.float32)
    ways = {
        "forward": {n: partial(program, **arrays) for n, (program, arrays, _) in runs.items()},
        "backward": {n: partial(run.backward, o=cotangent) for n, (_, _, run) in runs.items()},
    }
    times = {way: interleaved(candidates, rounds) for way, candidates in ways.items()}
    for name in runs:
        cells = [f"{1e3 * t[name].median:8.1f} {t['full'].median / t[name].median:6.2f}x" for t in times.values()]
        print(f"{name:36} {'   '.join(cells)}", flush=True)


def lengths(shape: tuple[int, int, int, int], rounds: int) -> None:
    b, h, s, d = shape
    candidates = {}
    for length in (s, 2 * s):
        program, arrays, _ = Mask("allow j <= i and i - j < 256").run((b, h, length, d))
        cotangent = np.ones((b, h, length, d), np.float32)
        candidates[str(length)] = lambda p=program, a=arrays, g=cotangent: p.forward(**a).backward(o=g)
    first, second = (times.median for times in interleaved(candidates, rounds).values())
    print(f"window 256, forward and backward: {1e3 * first:.1f} ms at {s}, {1e3 * second:.1f} ms at {2 * s}, "
          f"{second / first:.2f}x", flush=True)  # fmt: skip


def verdicts(shape: tuple[int, int, int, int], rounds: int) -> None:
    """The slope of the processor time over how often each verdict is asked, relative to once. Least of the rounds."""
    print(f"(B,H,S,D) = {shape}; share of verdicts in the processor time of kernels", flush=True)
    cotangent = np.ones(shape, np.float32)
    for name in ASKED:
        _, arrays, run = masks(shape[2])[name].run(shape)
        built = run._call.built
        compiled = built.compiled
        asked = VERDICT.sub(repeated, compiled.source)
        library = libraries.compiled(f'extern "C" {{ __attribute__((weak)) int irc_repeats = 1; }}\n{asked}')
        repeats = ctypes.c_int.in_dll(library.code, "irc_repeats")
        run._call.built = replace(built, library=library)
        run._call._forward.clear()
        run._call._backward.clear()
        shares = []
        for way in ("forward", "backward"):
            least: dict[int, float] = {}
            for times in (1, 1 + REPEATS) * rounds:
                repeats.value = times
                start = time.process_time()
                if way == "forward":
                    execute.run(compiled.forward.plan, library, built.kernels, arrays, run._call.sizes, 1)
                else:
                    run.backward(o=cotangent)
                least[times] = min(time.process_time() - start, least.get(times, np.inf))
            shares.append((least[1 + REPEATS] - least[1]) / REPEATS / least[1])
        print(f"{name:36} forward {100 * shares[0]:5.2f} %   backward {100 * shares[1]:5.2f} %", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.masks", description=__doc__)
    parser.add_argument("--shape", default="1,8,4096,64", help="batch, heads, tokens, width (default 1,8,4096,64)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("tables", nargs="*", default=["speeds", "lengths", "verdicts"])
    given = parser.parse_args()
    b, h, s, d = (int(n) for n in given.shape.split(","))
    os.environ["IRC_THREADS"] = str(given.threads)
    if "speeds" in given.tables:
        speeds((b, h, s, d), given.rounds)
    if "lengths" in given.tables:
        lengths((b, h, 8192, d), given.rounds)
    if "verdicts" in given.tables:
        os.environ["IRC_THREADS"] = "1"
        verdicts((b, 2, s, d), given.rounds)


if __name__ == "__main__":
    main()
