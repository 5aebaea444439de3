"""Kernels that are right, and what becomes of them by one mistake: a text replaced, and the finding that names it."""

from __future__ import annotations

from dataclasses import dataclass

REVERSE = """
  // spec: reverse.attn:3: y[s] = x[S-1-s]
  tile[t] = in[t];
  __syncthreads();
  // spec: reverse.attn:4: return y
  out[t] = tile[127 - t];
"""
WARP_SUM = """
  float sum = in[t];
  // spec: sum.attn:2: y = sum over s: x[s]
  for (int n = 16; n; n /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, n);
  if (!lane) tile[warp] = sum;
  __syncwarp();
  out[t] = tile[warp];
"""
PIPELINE = """
  float *const stage[2] = {tile, tile + 512};
  float sum = 0;
  // spec: sum.attn:2: y[s] = sum over tiles
  ptx::cp_async<4>(stage[0] + t, in + t);
  ptx::cp_async_commit();
  for (int n = 0; n < tiles; n++) {
    if (n + 1 < tiles) ptx::cp_async<4>(stage[(n + 1) % 2] + t, in + (n + 1) * 128 + t);
    ptx::cp_async_commit();
    ptx::cp_async_wait<1>();
    __syncthreads();
    sum += stage[n % 2][127 - t];
    __syncthreads();  // the stage is free
  }
  out[t] = sum;
"""
MATRICES = """
  if (t >= 32) return;
  uint32_t a[4], b[4];
  float d[4] = {};
  // spec: product.attn:3: y[i,j] = sum over k: a[i,k] b[j,k]
  for (int n = lane; n < 32; n += 32) ptx::store(halves + 24 * n, ptx::load<Four>(half + 16 * n));
  for (int n = lane; n < 32; n += 32) ptx::store(halves + 24 * n + 8, ptx::load<Four>(half + 16 * n + 8));
  __syncwarp();
  ptx::ldmatrix_x4(a, halves + 24 * (lane % 16) + lane / 16 * 8);
  ptx::ldmatrix_x4(b, halves + 24 * (16 + lane % 8 + lane / 16 * 8) + lane / 8 % 2 * 8);
  ptx::mma_m16n8k16_bf16(d, a, b[0], b[1]);
  for (int n = 0; n < 4; n++) out[4 * lane + n] = d[n];
"""
TABLE = """
  // spec: table.attn:5: t[x[s]] += 1
  atomicAdd(table + t % 8, 1);
  out[blockIdx.x * 128 + t] = in[t];
"""
NAMED = """
  // spec: halves.attn:1: y[s] = x[s]
  if (warp < 2) {
    tile[t] = in[t];
    ptx::barrier_arrive(1, 128);
  } else {
    ptx::barrier_sync(1, 128);
    out[t] = tile[t - 64];
  }
"""
VECTORS = """
  // spec: copy.attn:1: y[s] = x[s]
  ptx::store(out + 4 * t, ptx::load<Four>(in + 4 * t));
"""
# Its signature is BULK_SIGNATURE: a producer thread loads tiles of b into two stages, a warpgroup multiplies them by a.
STAGED = """
  unsigned char *const left = memory, *const right = memory + 8192;
  float *const sums = (float *)(memory + 24576);
  uint64_t *const loaded = (uint64_t *)(memory + 40960), *const full = loaded + 1, *const empty = loaded + 3;
  if (t == 0) {
    ptx::mbarrier_init(loaded, 1);
    for (int s = 0; s < 2; s++) ptx::mbarrier_init(full + s, 1), ptx::mbarrier_init(empty + s, 128);
    ptx::mbarrier_fence_init();
  }
  __syncthreads();
  if (t >= 128) {
    ptx::setmaxnreg_dec<24>();
    if (t > 128) return;
    // spec: product.attn:1: a
    ptx::mbarrier_expect(loaded, 8192);
    ptx::tensor_load(left, a, loaded, 0, 0);
    for (int n = 0; n < tiles; n++) {
      // spec: product.attn:2: b
      ptx::mbarrier_wait(empty + n % 2, (n / 2 + 1) % 2);
      ptx::mbarrier_expect(full + n % 2, 8192);
      ptx::tensor_load(right + n % 2 * 8192, b, full + n % 2, 0, 64 * n);
    }
  } else {
    ptx::setmaxnreg_inc<240>();
    float d[32] = {};
    ptx::mbarrier_wait(loaded, 0);
    for (int n = 0; n < tiles; n++) {
      // spec: product.attn:3: y[i,j] = sum over k, n: a[i,k] b[n,j,k]
      ptx::mbarrier_wait(full + n % 2, n / 2 % 2);
      const uint32_t l = ptx::shared_address(left), r = ptx::shared_address(right + n % 2 * 8192);
      ptx::wgmma_fence();
      for (int k = 0; k < 4; k++)
        ptx::wgmma_m64k16_bf16<0, 0>(d, ptx::wgmma_descriptor(l + 32 * k, 16, 1024, ptx::SWIZZLE_128B),
                                     ptx::wgmma_descriptor(r + 32 * k, 16, 1024, ptx::SWIZZLE_128B), 1);
      ptx::wgmma_commit();
      ptx::wgmma_wait<0>();
      ptx::mbarrier_arrive(empty + n % 2);
    }
    // spec: product.attn:4: return y
    for (int n = 0; n < 32; n++)
      sums[(warp * 16 + lane / 4 + n % 4 / 2 * 8) * 64 + n / 4 * 8 + lane % 4 * 2 + n % 2] = d[n];
    ptx::fence_proxy_async();
    ptx::barrier_sync(1, 128);
    if (t == 0) {
      ptx::tensor_store(out, sums, 0, 0);
      ptx::bulk_commit();
      ptx::bulk_wait<0>();
    }
  }
"""
RIGHT = {
    "staged": STAGED,
    "reverse": REVERSE,
    "warp_sum": WARP_SUM,
    "pipeline": PIPELINE,
    "matrices": MATRICES,
    "counts": TABLE,
    "named": NAMED,
    "vectors": VECTORS,
}


@dataclass(frozen=True)
class Bug:
    """In the kernel `of`, `old` becomes `new`. A finding is of that kind, with a place on a line that has `at`."""

    of: str
    name: str
    old: str
    new: str
    kind: str
    at: str
    grid: int = 1


BUGS = (
    Bug("reverse", "no_barrier", "__syncthreads();", "", "race", "out[t] = tile"),
    Bug("reverse", "barrier_of_a_warp", "__syncthreads();", "__syncwarp();", "race", "out[t] = tile"),
    Bug("reverse", "some_unwritten", "tile[t] = in[t];", "if (t) tile[t] = in[t];", "never written", "out[t] = tile"),
    Bug("reverse", "past_shared", "tile[t] = in[t];", "tile[t + 1921] = in[t];", "out of bounds", "tile[t + 1921]"),
    Bug("reverse", "before_shared", "tile[t] = in[t];", "tile[t - 1] = in[t];", "out of bounds", "tile[t - 1]"),
    Bug("reverse", "past_the_output", "out[t] =", "out[t + 385] =", "out of bounds", "out[t + 385]"),
    Bug("reverse", "before_the_input", "= in[t];", "= in[t - 1];", "out of bounds", "in[t - 1]"),
    Bug("reverse", "input_written", "out[t] =", "const_cast<float *>(in)[t] =", "read-only", "const_cast"),
    Bug("reverse", "half_a_warp_at_barrier", "__syncthreads();", "if (t != 5) __syncthreads();", "divergence",
        "t != 5"),
    Bug("reverse", "three_warps_at_barrier", "__syncthreads();", "if (warp) __syncthreads();", "divergence",
        "if (warp)"),
    Bug("reverse", "barrier_of_100", "__syncthreads();", "ptx::barrier_sync(1, 100);", "misuse",
        "barrier_sync(1, 100)"),
    Bug("reverse", "barrier_of_96", "__syncthreads();", "ptx::barrier_sync(1, 96);", "deadlock",
        "barrier_sync(1, 96)"),
    Bug("reverse", "barrier_17", "__syncthreads();", "ptx::barrier_sync(17, 128);", "misuse", "barrier_sync(17"),
    Bug("reverse", "two_barriers", "__syncthreads();", "ptx::barrier_sync(1 + warp % 2, 128);", "deadlock",
        "warp % 2"),
    Bug("reverse", "sizes_differ", "__syncthreads();", "ptx::barrier_sync(1, 64 + warp / 3 * 64);", "misuse",
        "warp / 3"),
    Bug("warp_sum", "divergent_shuffle", "sum += __shfl", "if (lane < 16) sum += __shfl", "divergence", "lane < 16"),
    Bug("warp_sum", "mask_lacks_itself", "(0xffffffffu, sum", "(0xfffffffeu, sum", "divergence", "__shfl_xor_sync"),
    Bug("warp_sum", "from_outside_mask", "float sum = in[t];\n",
        "float sum = in[t];\n  if (lane < 8) sum = __shfl_xor_sync(0xffu, sum, 8);\n", "divergence", "0xffu"),
    Bug("warp_sum", "shuffle_width", "sum, n)", "sum, n, 24)", "misuse", "n, 24"),
    Bug("warp_sum", "lanes_exited", "float sum = in[t];", "float sum = in[t]; if (lane == 9) return;", "divergence",
        "__shfl_xor_sync"),
    Bug("warp_sum", "shuffle_for_syncwarp", "tile[warp] = sum;\n  __syncwarp();",
        "tile[warp] = sum;\n  sum = __shfl_sync(~0u, sum, 0);", "race", "out[t] = tile[warp]"),
    Bug("warp_sum", "lanes_write_one_word", "if (!lane) tile[warp] = sum;", "tile[warp] = lane;", "race",
        "tile[warp] = lane"),
    Bug("pipeline", "wait_too_lax", "wait<1>", "wait<2>", "not waited for", "sum += stage[n % 2][127 - t];"),
    Bug("pipeline", "no_commit", "ptx::cp_async_commit();\n    ptx", "ptx", "not waited for",
        "sum += stage[n % 2][127 - t];"),
    Bug("pipeline", "no_barrier_after_wait", "wait<1>();\n    __syncthreads();", "wait<1>();", "race", "sum +="),
    Bug("pipeline", "stage_not_freed", "__syncthreads();  // the stage is free", "", "race",
        "if (n + 1 < tiles) ptx::cp_async<4>"),
    Bug("pipeline", "wrong_stage", "stage[n % 2][127", "stage[(n + 1) % 2][127", "not waited for",
        "stage[(n + 1) % 2][127"),
    Bug("pipeline", "stage_overlaps", "tile + 512}", "tile + 64}", "not waited for", "ptx::cp_async<4>"),
    Bug("pipeline", "tile_past_the_end", "n + 1 < tiles", "n + 1 <= tiles", "out of bounds", "n + 1 <= tiles"),
    Bug("pipeline", "copy_misaligned", "cp_async<4>(stage[0]", "cp_async<8>(stage[0]", "misaligned", "cp_async<8>"),
    Bug("pipeline", "copy_reads_more", "in + t);", "in + t, 8);", "misuse", "in + t, 8"),
    Bug("pipeline", "copy_within_shared", "in + t);", "tile + t);", "misuse", "tile + t"),
    Bug("pipeline", "copy_to_global", "(stage[0] + t", "(out + t", "misuse", "out + t"),
    Bug("pipeline", "exits_with_copies", "out[t] = sum;", "ptx::cp_async<4>(stage[0] + t, in + t);", "not waited for",
        "in + t"),
    Bug("matrices", "rows_misaligned", "halves + 24 * (lane % 16)", "halves + 23 * (lane % 16)", "misaligned",
        "23 *"),
    Bug("matrices", "rows_in_global", "(a, halves + 24 *", "(a, half + 24 *", "misuse", "half + 24"),
    Bug("matrices", "no_syncwarp", "__syncwarp();", "", "race", "ptx::ldmatrix_x4"),
    Bug("matrices", "row_stride", "24 * (16 + lane % 8", "32 * (16 + lane % 8", "never written", "32 * (16"),
    Bug("matrices", "half_a_warp_multiplies", "ptx::mma", "if (lane < 16) ptx::mma", "divergence", "lane < 16"),
    Bug("matrices", "sums_without_a_value", "float d[4] = {};", "float d[4];", "never written", "ptx::mma"),
    Bug("matrices", "fragment_not_loaded", "ptx::ldmatrix_x4(a, halves", "uint32_t c[4];\n  ptx::ldmatrix_x4(c, halves",
        "never written", "ptx::mma"),
    Bug("matrices", "half_a_fragment", "ptx::ldmatrix_x4(b, ", "uint32_t c[4];\n  ptx::ldmatrix_x4(c, ",
        "never written", "ptx::mma"),
    Bug("matrices", "elements_differ", "ptx::mma_m16n8k16_bf16(d, a, b[0], b[1]);",
        "if (lane < 4) ptx::mma_m16n8k16_f16(d, a, b[0], b[1]);\n  else ptx::mma_m16n8k16_bf16(d, a, b[0], b[1]);",
        "divergence", "ptx::mma"),
    Bug("counts", "no_atomic", "atomicAdd(table + t % 8, 1);", "table[t % 8] += 1;", "race", "table[t % 8] += 1"),
    Bug("counts", "atomic_and_plain", "out[blockIdx", "__syncthreads(); if (!t) table[0] = 0; out[blockIdx", "race",
        "atomicAdd", grid=2),
    Bug("counts", "blocks_write_one_word", "out[blockIdx.x * 128 + t]", "out[t]", "race", "out[t]", grid=2),
    Bug("counts", "block_reads_of_another", "= in[t];", "= out[(blockIdx.x * 128 + t + 128) % 256];", "race",
        "t + 128", grid=2),
    Bug("named", "arrives_twice", "ptx::barrier_arrive(1, 128);",
        "ptx::barrier_arrive(1, 128); ptx::barrier_arrive(1, 128);", "misuse", "barrier_arrive"),
    Bug("named", "arrives_before_writing", "tile[t] = in[t];\n    ptx::barrier_arrive(1, 128);",
        "ptx::barrier_arrive(1, 128);\n    tile[t] = in[t];", "race", "tile[t"),
    Bug("named", "nobody_arrives", "ptx::barrier_arrive(1, 128);", "", "deadlock", "barrier_sync"),
    Bug("vectors", "vector_misaligned", "in + 4 * t)", "in + 4 * t + 1)", "misaligned", "t + 1"),
    Bug("staged", "empty_of_96", "empty + s, 128", "empty + s, 96", "race", "ptx::tensor_load(right"),
    Bug("staged", "empty_of_0", "empty + s, 128", "empty + s, 0", "misuse", "empty + s, 0"),
    Bug("staged", "init_not_fenced", "ptx::mbarrier_fence_init();", "", "missing fence", "ptx::tensor_load"),
    Bug("staged", "init_not_ordered", "__syncthreads();", "", "race or misuse", "ptx::mbarrier_"),
    Bug("staged", "consumer_parity", "n / 2 % 2);\n      const", "n % 2);\n      const", "race", "ptx::wgmma"),
    Bug("staged", "producer_parity", "(n / 2 + 1) % 2", "n / 2 % 2", "deadlock", "ptx::mbarrier_wait"),
    Bug("staged", "parity_of_2", "(full + n % 2, n / 2 % 2)", "(full + n % 2, n / 2)", "misuse",
        "(full + n % 2, n / 2)"),
    Bug("staged", "stage_not_awaited", "ptx::mbarrier_wait(empty + n % 2, (n / 2 + 1) % 2);", "", "misuse",
        "ptx::mbarrier_expect(full"),
    Bug("staged", "tile_not_awaited", "ptx::mbarrier_wait(full + n % 2, n / 2 % 2);", "", "race", "ptx::wgmma_m64k16"),
    Bug("staged", "first_operand_not_awaited", "ptx::mbarrier_wait(loaded, 0);", "", "race", "ptx::wgmma_m64k16"),
    Bug("staged", "expects_less", "(full + n % 2, 8192)", "(full + n % 2, 4096)", "deadlock", "ptx::mbarrier_wait"),
    Bug("staged", "expects_more", "(full + n % 2, 8192)", "(full + n % 2, 16384)", "deadlock", "ptx::mbarrier_wait"),
    Bug("staged", "one_thread_arrives", "ptx::mbarrier_arrive(empty", "if (!lane) ptx::mbarrier_arrive(empty",
        "deadlock", "ptx::mbarrier_wait"),
    Bug("staged", "product_not_awaited", "ptx::wgmma_wait<0>();", "", "not waited for", "= d[n]"),
    Bug("staged", "registers_too_early", "ptx::wgmma_commit();", "ptx::wgmma_commit(); d[0] *= 2;", "not waited for",
        "d[0] *= 2"),
    Bug("staged", "stage_freed_too_early", "ptx::wgmma_wait<0>();\n      ptx::mbarrier_arrive(empty + n % 2);",
        "ptx::mbarrier_arrive(empty + n % 2);\n      ptx::wgmma_wait<0>();", "race", "ptx::tensor_load(right"),
    Bug("staged", "registers_without_a_value", "float d[32] = {};", "float d[32];", "never written",
        "ptx::wgmma_m64k16"),
    Bug("staged", "registers_not_fenced", "ptx::wgmma_fence();", "", "missing fence", "ptx::wgmma_m64k16"),
    Bug("staged", "other_stage", "right + n % 2 * 8192);\n      ptx::wgmma", "right + (n + 1) % 2 * 8192);\n      "
        "ptx::wgmma", "race", "ptx::wgmma_m64k16"),
    Bug("staged", "stages_overlap", "right + n % 2 * 8192, b", "right + n % 2 * 4096, b", "race",
        "ptx::tensor_load(right"),
    Bug("staged", "box_misaligned", "ptx::tensor_load(left,", "ptx::tensor_load(left + 128,", "misaligned",
        "left + 128"),
    Bug("staged", "box_past_shared", "ptx::tensor_load(left,", "ptx::tensor_load(left + 40960,", "out of bounds",
        "left + 40960"),
    Bug("staged", "box_in_global", "ptx::tensor_load(left,", "ptx::tensor_load((void *)&a,", "misuse", "(void *)&a"),
    Bug("staged", "other_rank", "a, loaded, 0, 0)", "a, loaded, 0, 0, 0)", "misuse", "a, loaded, 0, 0, 0"),
    Bug("staged", "within_a_pattern", "ptx::wgmma_descriptor(l + 32 * k", "ptx::wgmma_descriptor(l + 128 * k", "misuse",
        "ptx::wgmma_m64k16"),
    Bug("staged", "stride_too_large", "l + 32 * k, 16, 1024", "l + 32 * k, 16, 8192", "out of bounds",
        "ptx::wgmma_m64k16"),
    Bug("staged", "half_a_warpgroup", "ptx::wgmma_commit();", "if (warp < 2) ptx::wgmma_commit();", "divergence",
        "ptx::wgmma_"),
    Bug("staged", "descriptors_differ", "ptx::shared_address(left)", "ptx::shared_address(left) + warp * 32",
        "divergence", "ptx::wgmma_m64k16"),
    Bug("staged", "store_not_fenced", "ptx::fence_proxy_async();", "", "missing fence", "ptx::tensor_store"),
    Bug("staged", "store_not_ordered", "ptx::barrier_sync(1, 128);", "", "never written", "ptx::tensor_store"),
    Bug("staged", "store_not_awaited", "ptx::bulk_wait<0>();", "", "not waited for", "ptx::tensor_store"),
    Bug("staged", "loads_one_more", "int n = 0; n < tiles; n++) {\n      // spec: product.attn:2",
        "int n = 0; n <= tiles; n++) {\n      // spec: product.attn:2", "not waited for", "ptx::tensor_load(right"),
)  # fmt: skip
