"""Small kernels with one signature, many to a source so that they are compiled at once, and arguments for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import ml_dtypes
import numpy as np

from irc.codegen.ptx import header
from irc.runtime import emulator
from irc.runtime.arrays import Array

HEADER = header([64])
THREADS, TILES = 128, 4
SHARED = 8192  # bytes
BULK_THREADS, BULK_TILES, BULK_SHARED = 256, 5, 41024
BULK_SIGNATURE = (
    "(GRID_CONSTANT const ptx::TensorMap a, GRID_CONSTANT const ptx::TensorMap b, "
    "GRID_CONSTANT const ptx::TensorMap out, int tiles)"
)
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
    """One with bulk copies has the signature for it."""
    bulk = "tensor_load" in body
    threads, signature = (BULK_THREADS, BULK_SIGNATURE) if bulk else (THREADS, SIGNATURE)
    return f"KERNEL({name}, {threads}){signature} {{{NAMES}{body}}}\n"


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


def launch_bulk(text: str, name: str, seed: int = 0, check: bool = True) -> tuple[Array, Array]:
    """Run a kernel with bulk copies on integers: what it makes, and the sum of a · bₙᵀ over its tiles."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-8, 9, (n, 64)).astype(ml_dtypes.bfloat16) for n in (64, 64 * BULK_TILES))
    left, right, out = emulator.guarded(a), emulator.guarded(b), emulator.guarded(np.zeros((64, 64), np.float32))
    left.flags.writeable = right.flags.writeable = False
    maps = [emulator.TensorMap.of(left, (64, 64), 128), emulator.TensorMap.of(right, (64, 64), 128)]
    args = [*maps, emulator.TensorMap.of(out, (64, 64)), np.int32(BULK_TILES)]
    built(text, check).launch(name, (1,), (BULK_THREADS,), BULK_SHARED, args, buffers=[left, right, out], seed=seed)
    return out, a.astype(np.float32) @ b.astype(np.float32).reshape(-1, 64, 64).sum(0).T
