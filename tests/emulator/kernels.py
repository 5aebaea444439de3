"""Small kernels with one signature, many to a source so that they are compiled at once, and arguments for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from irc.codegen.ptx import header
from irc.runtime import emulator

HEADER = header()
THREADS, TILES = 128, 4
SHARED = 8192  # bytes
SIGNATURE = "(const float *in, float *out, const uint16_t *half, int *table, int tiles)"
PRELUDE = """
struct alignas(16) Four { float x[4]; };
"""
# every body begins so: t, lane and warp; shared memory as bytes, as floats, as 16-bit elements
NAMES = """
  SHARED_MEMORY(memory);
  float *const tile = (float *)memory;
  uint16_t *const halves = (uint16_t *)memory;
  const int t = threadIdx.x, lane = t % 32, warp = t / 32;
"""


def kernel(name: str, body: str) -> str:
    return f"KERNEL({name}, {THREADS}){SIGNATURE} {{{NAMES}{body}}}\n"


def source(kernels: Iterable[str]) -> str:
    return HEADER + PRELUDE + "".join(kernels)


@dataclass(frozen=True)
class Arguments:
    """Inputs that are random, outputs that are 0: `in` of THREADS · TILES floats, `half` as many bf16."""

    x: np.ndarray
    out: np.ndarray
    half: np.ndarray
    table: np.ndarray

    @staticmethod
    def make() -> Arguments:
        rng = np.random.default_rng(0)
        x = emulator.guarded(rng.standard_normal(THREADS * TILES).astype(np.float32))
        half = emulator.guarded((rng.standard_normal(2048).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16))
        x.flags.writeable = half.flags.writeable = False
        out, table = emulator.guarded(np.zeros(THREADS * TILES, np.float32)), emulator.guarded(np.zeros(64, np.int32))
        return Arguments(x, out, half, table)


@lru_cache(maxsize=16)
def built(text: str, check: bool = True) -> emulator.Module:
    return emulator.build(text, check)


def launch(text: str, name: str, grid: int = 1, seed: int = 0, check: bool = True) -> Arguments:
    """Run one kernel of the source on new arguments."""
    given = Arguments.make()
    args = [given.x, given.out, given.half, given.table, np.int32(TILES)]
    built(text, check).launch(name, (grid,), (THREADS,), SHARED, args, seed=seed)
    return given
