"""Bulk loads put tensors where wgmma finds them: products in every layout, against numpy."""

from __future__ import annotations

import itertools
from functools import cache

import ml_dtypes
import numpy as np
import pytest

from irc.codegen.ptx import header
from irc.runtime import emulator
from irc.runtime.arrays import Array

ELEMENTS = {"bf16": ml_dtypes.bfloat16, "f16": np.float16}
SWIZZLES = {0: "NONE", 32: "32B", 64: "64B", 128: "128B"}
K = 64
SHARED = 64 << 10

# An operand of `rows` rows along m or n and 64 along k lies in boxes of SWIZZLE bytes (16 without one) times the other
# direction.
SOURCE = """
typedef const uint16_t *Halves;
constexpr int K = 64, A_AT = 1024, B_AT = A_AT + 64 * K * 2;

// The thread that loads: all boxes of one operand, one below the other.
template <int SWIZZLE, int TRANSPOSED>
DEVICE void load(unsigned char *to, const ptx::TensorMap &map, uint64_t *barrier, int rows) {
  const int width = (SWIZZLE ? SWIZZLE : 16) / 2, across = TRANSPOSED ? rows : K, along = TRANSPOSED ? K : rows;
  for (int x = 0; x < across; x += width) ptx::tensor_load(to + x * along * 2, map, barrier, x, 0);
}
template <int SWIZZLE, int TRANSPOSED> DEVICE uint64_t operand(const void *at, int rows, int k) {
  const ptx::Swizzle swizzle = SWIZZLE == 128  ? ptx::SWIZZLE_128B
                               : SWIZZLE == 64 ? ptx::SWIZZLE_64B
                               : SWIZZLE == 32 ? ptx::SWIZZLE_32B
                                               : ptx::SWIZZLE_NONE;
  const uint32_t start = ptx::shared_address(at);
  if constexpr (SWIZZLE == 0 && TRANSPOSED) return ptx::wgmma_descriptor(start + k / 8 * 128, 128, K * 16, swizzle);
  else if constexpr (SWIZZLE == 0) return ptx::wgmma_descriptor(start + k / 8 * rows * 16, rows * 16, 128, swizzle);
  else if constexpr (TRANSPOSED) return ptx::wgmma_descriptor(start + k * SWIZZLE, K * SWIZZLE, 8 * SWIZZLE, swizzle);
  else {
    const uint32_t box = 2 * k / SWIZZLE * rows * SWIZZLE + 2 * k % SWIZZLE;
    return ptx::wgmma_descriptor(start + box, 16, 8 * SWIZZLE, swizzle);
  }
}
template <int N> DEVICE void store(float *out, const float (&d)[N / 2]) {
  const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
  for (int n = 0; n < N / 2; n++) out[(row + n % 4 / 2 * 8) * N + n / 4 * 8 + column + n % 2] = d[n];
}
"""
BODY = """
KERNEL({name}, 128)(
    GRID_CONSTANT const ptx::TensorMap a, GRID_CONSTANT const ptx::TensorMap b, Halves a_memory, float *out) {{
  SHARED_MEMORY(memory);
  uint64_t *barrier = (uint64_t *)memory;
  if (threadIdx.x == 0) ptx::mbarrier_init(barrier, 1), ptx::mbarrier_fence_init();
  __syncthreads();
  if (threadIdx.x == 0) {{
    ptx::prefetch(a);
    ptx::mbarrier_expect(barrier, (64 + {n}) * K * 2);
    load<{swizzle}, {transposed_a}>(memory + A_AT, a, barrier, 64);
    load<{swizzle}, {transposed_b}>(memory + B_AT, b, barrier, {n});
  }}
  ptx::mbarrier_wait(barrier, 0);
  float d[{n} / 2] = {{}};
  uint32_t words[K / 16][4];
  const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
  for (int k = 0; k < K; k += 16)
    for (int n = 0; n < 4; n++) {{
      const Halves pair = a_memory + (row + n % 2 * 8) * K + k + column + n / 2 * 8;
      words[k / 16][n] = pair[0] | uint32_t(pair[1]) << 16;
    }}
  ptx::wgmma_fence();
  for (int k = 0; k < K; k += 16) {{
    const uint64_t right = operand<{swizzle}, {transposed_b}>(memory + B_AT, {n}, k);
    {call}
  }}
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  store<{n}>(out, d);
}}
"""
FROM_SHARED = (
    "ptx::wgmma_m64k16_{element}<{transposed_a}, {transposed_b}>"
    "(d, operand<{swizzle}, {transposed_a}>(memory + A_AT, 64, k), right, k != 0);"
)
FROM_REGISTERS = "ptx::wgmma_m64k16_{element}<{transposed_b}>(d, words[k / 16], right, 1);"

# element, columns, swizzle, a transposed, b transposed, a from registers
CASES = (
    *((e, 64, s, ta, tb, False) for e, s, ta, tb in itertools.product(ELEMENTS, SWIZZLES, (0, 1), (0, 1))),
    *((e, 64, s, 0, tb, True) for e, s, tb in itertools.product(ELEMENTS, SWIZZLES, (0, 1))),
    *(("bf16", n, 128, 0, 0, registers) for n in (8, 24, 96, 256) for registers in (False, True)),
)
COLUMNS = (8, 24, 64, 96, 256)


def named(case: tuple[str, int, int, int, int, bool]) -> str:
    return "product_" + "_".join(str(int(part) if isinstance(part, bool) else part) for part in case)


def kernel(case: tuple[str, int, int, int, int, bool]) -> str:
    element, n, swizzle, transposed_a, transposed_b, registers = case
    names = dict(element=element, n=n, swizzle=swizzle, transposed_a=transposed_a, transposed_b=transposed_b)
    call = (FROM_REGISTERS if registers else FROM_SHARED).format(**names)
    return BODY.format(name=named(case), call=call, **names)


TEXT = header(COLUMNS) + SOURCE + "".join(map(kernel, CASES))


@cache
def module(check: bool) -> emulator.Module:
    return emulator.build(TEXT, check)


def mapped(matrix: Array, transposed: int, swizzle: int) -> tuple[Array, emulator.TensorMap]:
    """The matrix as it lies in memory, rows × K or, transposed, K × rows, in boxes as wide as the swizzle."""
    memory = emulator.guarded(matrix.T if transposed else matrix)
    memory.flags.writeable = False
    return memory, emulator.TensorMap.of(memory, (memory.shape[0], (swizzle or 16) // 2), swizzle)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_products_in_every_layout(case: tuple[str, int, int, int, int, bool]) -> None:
    element, n, swizzle, transposed_a, transposed_b, _ = case
    rng = np.random.default_rng(5)
    a, b = (rng.integers(-8, 9, (rows, K)).astype(ELEMENTS[element]) for rows in (64, n))
    plain = emulator.guarded(a.view(np.uint16))
    (a_memory, a_map), (b_memory, b_map) = mapped(a, transposed_a, swizzle), mapped(b, transposed_b, swizzle)
    want = a.astype(np.float32) @ b.astype(np.float32).T
    for check, seed in ((True, 0), (True, 3), (False, 1), (False, 5)):
        out = emulator.guarded(np.zeros((64, n), np.float32))
        args = [a_map, b_map, plain, out]
        module(check).launch(named(case), (1,), (128,), SHARED, args, buffers=[a_memory, b_memory], seed=seed)
        assert (out == want).all()
