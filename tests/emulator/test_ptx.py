"""The wrappers of `ptx.cuh` under nvcc: a kernel that uses each of them becomes a cubin for every architecture."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from irc.codegen.ptx import header
from irc.runtime.cuda import nvcc
from tests.emulator.bugs import RIGHT
from tests.emulator.kernels import HEADER, kernel, source
from tests.emulator.test_wgmma import TEXT as PRODUCTS

SM_80 = """
struct alignas(16) Four { uint32_t x[4]; };
KERNEL(every_wrapper, 128)(GRID_CONSTANT const Four given, const uint16_t *half, float *out, int n) {
  SHARED_MEMORY(memory);
  const int t = threadIdx.x;
  ptx::cp_async<16>(memory + 16 * t, half + 8 * t, n);
  ptx::cp_async<8>(memory + 4096 + 8 * t, half);
  ptx::cp_async<4>(memory + 8192 + 4 * t, half);
  ptx::cp_async_commit();
  ptx::cp_async_wait<1>();
  ptx::barrier_arrive(1, 128);
  ptx::barrier_sync(2, 128);
  uint32_t a[4], b[4];
  ptx::ldmatrix_x4(a, memory + 16 * t);
  ptx::ldmatrix_x4_trans(b, memory + 16 * t);
  float d[4] = {};
  ptx::mma_m16n8k16_bf16(d, a, b[0], b[1]);
  ptx::mma_m16n8k16_f16(d, a, b[2], b[3]);
  const uint32_t c[4] = {ptx::to_tf32(d[0]), ptx::to_tf32(d[1]), ptx::shared_address(memory), given.x[0]};
  ptx::mma_m16n8k8_tf32(d, c, ptx::pack_bf16(d[0], d[1]), ptx::pack_f16(d[2], d[3]));
  d[0] += ptx::min_nan(ptx::exp2_approx(d[1]), d[2]) + ptx::unpack_bf16(half[t]) + ptx::unpack_f16(half[t]);
  d[1] = ptx::difference(ptx::product(d[1], d[2]), d[3]) + float(ptx::difference(double(d[0]) * d[2], 1.0));
  ptx::store(out + 4 * t, ptx::load<Four>(d));
  ptx::store_global(out + 512 + 4 * t, c);
}
"""

SM_90A = """
KERNEL(every_wrapper_of_sm_90a, 256)(
    GRID_CONSTANT const ptx::TensorMap map, GRID_CONSTANT const ptx::TensorMap out, float *d_out) {
  SHARED_MEMORY(memory);
  uint64_t *barrier = (uint64_t *)memory;
  if (threadIdx.x == 0) {
    ptx::prefetch(map);
    ptx::mbarrier_init(barrier, 1), ptx::mbarrier_fence_init();
  }
  __syncthreads();
  if (threadIdx.x >= 128) {
    ptx::setmaxnreg_dec<24>();
    if (threadIdx.x > 128) return;
    ptx::mbarrier_expect(barrier, 4 * 8192);
    ptx::tensor_load(memory + 1024, map, barrier, 0, 0);
    ptx::tensor_load(memory + 9216, map, barrier, 0, 0, 0);
    ptx::tensor_load(memory + 17408, map, barrier, 0, 0, 0, 0);
    ptx::tensor_load(memory + 25600, map, barrier, 0, 0, 0, 0, 0);
    return;
  }
  ptx::setmaxnreg_inc<240>();
  ptx::mbarrier_wait(barrier, 0);
  float d[32] = {};
  const uint64_t a = ptx::wgmma_descriptor(ptx::shared_address(memory + 1024), 16, 1024, ptx::SWIZZLE_128B);
  ptx::wgmma_fence();
  ptx::wgmma_m64k16_bf16<0, 0>(d, a, a, 0);
  ptx::wgmma_m64k16_f16<0, 1>(d, ptx::anew(a), ptx::advanced(a, 32), 1);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  ptx::settle(reinterpret_cast<float(&)[8][4]>(d));
  ptx::mbarrier_arrive(barrier);
  for (int n = 0; n < 32; n++) ((float *)memory)[1024 + 128 * n + threadIdx.x] = d[n];
  ptx::fence_proxy_async();
  ptx::barrier_sync(1, 128);
  if (threadIdx.x) return;
  ptx::tensor_store(out, memory + 4096, 0, 0);
  ptx::tensor_store(out, memory + 4096, 0, 0, 0);
  ptx::tensor_store(out, memory + 4096, 0, 0, 0, 0);
  ptx::bulk_commit();
  ptx::bulk_wait<0>();
}
"""


def cubin(source: str, architecture: str, folder: Path) -> Path:
    """Compile, or fail with what nvcc says."""
    text, made = folder / "kernel.cu", folder / "kernel.cubin"
    text.write_text(source, encoding="utf-8")
    command = [nvcc.find().path, "-std=c++17", "-cubin", f"-arch={architecture}", "-o", str(made), str(text)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return made


def wrappers(header: str) -> set[str]:
    """What the header declares for kernels."""
    return set(re.findall(r"^(?:template <[^>]*> )?DEVICE \w+ (\w+)\(", header, re.MULTILINE)) | set(
        re.findall(r"^IRC_W?G?MMA\((\w+)", header, re.MULTILINE)
    )


@pytest.mark.parametrize("architecture", ("sm_80", "sm_90a", "sm_100", "sm_120"))
def test_every_wrapper_of_sm_80_compiles(architecture: str, tmp_path: Path) -> None:
    assert cubin(HEADER + SM_80, architecture, tmp_path).stat().st_size > 0


def test_every_wrapper_of_sm_90a_compiles(tmp_path: Path) -> None:
    assert cubin(HEADER + SM_90A, "sm_90a", tmp_path).stat().st_size > 0


def test_products_in_every_layout_compile(tmp_path: Path) -> None:
    assert cubin(PRODUCTS, "sm_90a", tmp_path).stat().st_size > 0


def test_the_kernels_that_bugs_are_planted_in_compile(tmp_path: Path) -> None:
    assert cubin(source(kernel(name, body) for name, body in RIGHT.items()), "sm_90a", tmp_path).stat().st_size > 0


def test_every_width_of_wgmma_compiles(tmp_path: Path) -> None:
    widths = range(8, 257, 8)
    calls = "".join(f"float d{n}[{n // 2}] = {{}}; ptx::wgmma_m64k16_bf16<0, 0>(d{n}, a, a, 1);\n" for n in widths)
    sums = "".join(f"for (float x : d{n}) sum += x;\n" for n in widths)
    body = f"ptx::wgmma_fence();\n{calls}ptx::wgmma_commit(); ptx::wgmma_wait<0>(); float sum = 0;\n{sums}*out = sum;"
    text = f"KERNEL(widths, 128)(uint64_t a, float *out) {{ {body} }}"
    assert cubin(header(widths) + text, "sm_90a", tmp_path).stat().st_size > 0


@pytest.mark.parametrize("columns", (0, 12, 264))
def test_other_widths_are_refused(columns: int) -> None:
    with pytest.raises(ValueError, match=f"wgmma of {columns} columns"):
        header([columns])


def test_the_kernels_use_every_wrapper() -> None:
    assert len(wrappers(HEADER)) >= 35
    assert {name for name in wrappers(HEADER) if f"ptx::{name}" not in SM_80 + SM_90A} == set()
