"""What the emulated instructions compute, against numpy."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

from irc.runtime import emulator
from irc.runtime.arrays import Array
from tests.emulator.kernels import HEADER

SOURCE = """
// a: 16×16, b: 16×8 by columns, of 16-bit elements; d: 16×8
template <class Multiply> DEVICE void product(const uint16_t *a, const uint16_t *b, float *d, Multiply multiply) {
  const uint32_t *rows = (const uint32_t *)a, *columns = (const uint32_t *)b;
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  const uint32_t fragment[4] = {rows[8 * g + t], rows[8 * (g + 8) + t], rows[8 * g + t + 4], rows[8 * (g + 8) + t + 4]};
  float sum[4] = {d[8 * g + 2 * t], d[8 * g + 2 * t + 1], d[8 * (g + 8) + 2 * t], d[8 * (g + 8) + 2 * t + 1]};
  multiply(sum, fragment, columns[8 * g + t], columns[8 * g + t + 4]);
  d[8 * g + 2 * t] = sum[0], d[8 * g + 2 * t + 1] = sum[1];
  d[8 * (g + 8) + 2 * t] = sum[2], d[8 * (g + 8) + 2 * t + 1] = sum[3];
}
KERNEL(product_bf16, 32)(const uint16_t *a, const uint16_t *b, float *d) { product(a, b, d, ptx::mma_m16n8k16_bf16); }
KERNEL(product_f16, 32)(const uint16_t *a, const uint16_t *b, float *d) { product(a, b, d, ptx::mma_m16n8k16_f16); }
// a: 16×8, b: 8×8 by columns, of float
KERNEL(product_tf32, 32)(const float *a, const float *b, float *d) {
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  const float fragment[4] = {a[8 * g + t], a[8 * (g + 8) + t], a[8 * g + t + 4], a[8 * (g + 8) + t + 4]};
  uint32_t words[4];
  for (int n = 0; n < 4; n++) words[n] = ptx::to_tf32(fragment[n]);
  float sum[4] = {d[8 * g + 2 * t], d[8 * g + 2 * t + 1], d[8 * (g + 8) + 2 * t], d[8 * (g + 8) + 2 * t + 1]};
  ptx::mma_m16n8k8_tf32(sum, words, ptx::to_tf32(b[8 * g + t]), ptx::to_tf32(b[8 * g + t + 4]));
  d[8 * g + 2 * t] = sum[0], d[8 * g + 2 * t + 1] = sum[1];
  d[8 * (g + 8) + 2 * t] = sum[2], d[8 * (g + 8) + 2 * t + 1] = sum[3];
}
// x: four 8×8 matrices below each other; plain and trans: word m of each lane
KERNEL(matrices, 32)(const uint16_t *x, uint32_t *plain, uint32_t *trans) {
  SHARED_MEMORY(memory);
  uint16_t *rows = (uint16_t *)memory;
  for (int n = threadIdx.x; n < 256; n += 32) rows[n] = x[n];
  __syncwarp();
  uint32_t a[4], b[4];
  ptx::ldmatrix_x4(a, rows + 8 * threadIdx.x);
  ptx::ldmatrix_x4_trans(b, rows + 8 * threadIdx.x);
  for (int m = 0; m < 4; m++) plain[32 * m + threadIdx.x] = a[m], trans[32 * m + threadIdx.x] = b[m];
}
KERNEL(numbers, 32)(const float *x, uint32_t *bf16, uint32_t *f16, float *tf32, float *power) {
  const int t = threadIdx.x;
  bf16[t] = ptx::pack_bf16(x[2 * t], x[2 * t + 1]);
  f16[t] = ptx::pack_f16(x[2 * t], x[2 * t + 1]);
  tf32[t] = __uint_as_float(ptx::to_tf32(x[t]));
  power[t] = ptx::exp2_approx(x[t]);
}
KERNEL(widening, 32)(const uint16_t *x, float *bf16, float *f16) {
  for (int n = threadIdx.x; n < 65536; n += 32) bf16[n] = ptx::unpack_bf16(x[n]), f16[n] = ptx::unpack_f16(x[n]);
}
KERNEL(zero_fill, 32)(const float *x, float *y, int bytes) {
  SHARED_MEMORY(memory);
  ptx::cp_async<16>(memory + 16 * threadIdx.x, x + 4 * threadIdx.x, bytes);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  for (int n = 0; n < 4; n++) y[4 * threadIdx.x + n] = ((float *)memory)[4 * threadIdx.x + n];
}
KERNEL(shuffles, 32)(int *y) {
  const int t = threadIdx.x;
  y[t] = __shfl_xor_sync(~0u, t, 5);
  y[32 + t] = __shfl_sync(~0u, t, 3, 8);
  y[64 + t] = __shfl_down_sync(~0u, t, 2, 16);
  y[96 + t] = __shfl_up_sync(~0u, t, 2, 16);
  y[128 + t] = int(__shfl_xor_sync(~0u, double(t) / 3, 1) * 3 + 0.5);
  y[160 + t] = int(__ballot_sync(~0u, t % 3 == 0));
  y[192 + t] = __any_sync(~0u, t == 7) + 2 * __all_sync(~0u, t < 32) + 4 * __all_sync(~0u, t < 31);
  y[224 + t] = int(__match_any_sync(~0u, t % 5));
}
KERNEL(atomics, 64)(int *i, float *f, unsigned *u) {
  atomicAdd(i, int(threadIdx.x)), atomicMax(i + 1, int(threadIdx.x)), atomicMin(i + 2, -int(threadIdx.x));
  atomicAdd(f, 0.5f);
  u[1 + atomicAdd(u, 1u)] = 1;
}
KERNEL(places, 64)(int *y) {
  const unsigned t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  y[b * blockDim.x * blockDim.y * blockDim.z + t] = int(b * 1000 + t);
}
"""
HALVES = {"bf16": ml_dtypes.bfloat16, "f16": np.float16}


@pytest.fixture(scope="module", params=(True, False), ids=("checked", "unchecked"))
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    module = emulator.build(HEADER + SOURCE, check=request.param)

    def launch(
        kernel: str, *args: Array | np.generic, grid: tuple[int, ...] = (1,), block: tuple[int, ...] = (32,)
    ) -> None:
        for seed in (0, 1, 2):
            module.launch(kernel, grid, block, 4096, args, seed=seed)

    return launch


@pytest.mark.parametrize("element", HALVES)
def test_mma_of_halves_is_the_product(run: Callable[..., None], element: str) -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.integers(-8, 9, shape).astype(HALVES[element]) for shape in ((16, 16), (8, 16)))
    d = np.zeros((16, 8), np.float32)
    run(f"product_{element}", a.view(np.uint16), b.view(np.uint16), d)
    assert (d == 3 * (a.astype(np.float32) @ b.astype(np.float32).T)).all()  # launched three times, added each time


def test_mma_of_tf32_is_the_product_of_rounded_numbers(run: Callable[..., None]) -> None:
    rng = np.random.default_rng(2)
    a, b = (rng.integers(-8, 9, shape).astype(np.float32) * np.float32(1 + 2**-13) for shape in ((16, 8), (8, 8)))
    d = np.zeros((16, 8), np.float32)
    run("product_tf32", a, b, d)
    assert (d == 3 * (np.round(a) @ np.round(b).T)).all()


def test_ldmatrix_hands_each_lane_its_words(run: Callable[..., None]) -> None:
    x = np.arange(256, dtype=np.uint16)
    plain, trans = np.zeros((4, 32), np.uint32), np.zeros((4, 32), np.uint32)
    run("matrices", x, plain, trans)
    for m, matrix in enumerate(x.reshape(4, 8, 8)):
        assert (plain[m] == np.ascontiguousarray(matrix).view(np.uint32).ravel()).all()
        assert (trans[m] == np.ascontiguousarray(matrix.T).view(np.uint32).ravel()).all()


def test_numbers_are_rounded_to_the_nearest(run: Callable[..., None]) -> None:
    rng = np.random.default_rng(3)
    x = (rng.standard_normal(64) * 2.0 ** rng.integers(-30, 20, 64)).astype(np.float32)
    x[:8] = [0.0, -0.0, np.inf, -np.inf, 65520.0, 65519.0, 2**-25, 1 + 2**-8]
    bf16, f16 = np.zeros(32, np.uint32), np.zeros(32, np.uint32)
    tf32, power = np.zeros(32, np.float32), np.zeros(32, np.float32)
    run("numbers", x, bf16, f16, tf32, power)
    assert (bf16.view(np.uint16) == x.astype(ml_dtypes.bfloat16).view(np.uint16)).all()
    with np.errstate(over="ignore"):
        assert (f16.view(np.uint16) == x.astype(np.float16).view(np.uint16)).all()
        assert np.allclose(power, np.exp2(x[:32]), rtol=1e-6, atol=1e-37)
    finite = np.isfinite(x[:32])
    assert (abs(tf32[finite] - x[:32][finite]) <= abs(x[:32][finite]) * 2.0**-11).all()
    assert not (tf32[finite].view(np.uint32) & 0x1FFF).any()


def test_every_half_is_widened_exactly(run: Callable[..., None]) -> None:
    x = np.arange(65536, dtype=np.uint16)
    bf16, f16 = np.zeros(65536, np.float32), np.zeros(65536, np.float32)
    run("widening", x, bf16, f16)
    for got, want in ((bf16, x.view(ml_dtypes.bfloat16)), (f16, x.view(np.float16))):
        assert np.array_equal(got, want.astype(np.float32), equal_nan=True)


@pytest.mark.parametrize("given", (0, 4, 12, 16))
def test_cp_async_fills_with_zeros(run: Callable[..., None], given: int) -> None:
    x, y = np.arange(1, 129, dtype=np.float32), np.full(128, -1, np.float32)
    run("zero_fill", x, y, np.int32(given))
    kept = np.arange(128) % 4 < given // 4
    assert (y == np.where(kept, x, 0)).all()


def test_cp_async_of_no_bytes_reads_nothing(run: Callable[..., None]) -> None:
    y = np.full(128, -1, np.float32)
    run("zero_fill", np.zeros(1, np.float32), y, np.int32(0))
    assert (y == 0).all()


def test_shuffles_and_votes(run: Callable[..., None]) -> None:
    y, t = np.zeros((8, 32), np.int32), np.arange(32)
    run("shuffles", y)
    assert (y[0] == t ^ 5).all()
    assert (y[1] == t // 8 * 8 + 3).all()
    assert (y[2] == np.where(t % 16 < 14, t + 2, t)).all()
    assert (y[3] == np.where(t % 16 >= 2, t - 2, t)).all()
    assert (y[4] == t ^ 1).all()
    assert (y[5].view(np.uint32) == sum(1 << n for n in range(0, 32, 3))).all()
    assert (y[6] == 3).all()
    assert (y[7].view(np.uint32) == [sum(1 << n for n in range(32) if n % 5 == lane % 5) for lane in t]).all()


def test_atomics(run: Callable[..., None]) -> None:
    i, f, u = np.zeros(3, np.int32), np.zeros(1, np.float32), np.zeros(200, np.uint32)
    run("atomics", i, f, u, block=(64,))
    assert i.tolist() == [3 * 2016, 63, -63]
    assert f[0] == 96
    assert u[0] == 192 and (u[1:193] == 1).all()


def test_threads_know_their_places(run: Callable[..., None]) -> None:
    y = np.full(24 * 40, -1, np.int32)
    run("places", y, grid=(2, 3, 4), block=(5, 4, 2))
    assert (y.reshape(24, 40) == 1000 * np.arange(24)[:, None] + np.arange(40)).all()
