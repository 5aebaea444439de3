"""The wrappers of `ptx.cuh` under nvcc: a kernel that uses each of them becomes a cubin for every architecture."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.emulator.kernels import HEADER

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
  d[0] += ptx::exp2_approx(d[1]) + ptx::unpack_bf16(half[t]) + ptx::unpack_f16(half[t]);
  ptx::store(out + 4 * t, ptx::load<Four>(d));
}
"""


def cubin(source: str, architecture: str, folder: Path) -> Path:
    """Compile, or fail with what nvcc says."""
    nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    assert nvcc, "nvcc was not found: it is needed on PATH, or in /usr/local/cuda/bin"
    text, made = folder / "kernel.cu", folder / "kernel.cubin"
    text.write_text(source, encoding="utf-8")
    command = [nvcc, "-std=c++17", "-cubin", f"-arch={architecture}", "-o", str(made), str(text)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return made


def wrappers(header: str) -> set[str]:
    """What the header declares for kernels."""
    return set(re.findall(r"^(?:template <[^>]*> )?DEVICE \w+ (\w+)\(", header, re.MULTILINE)) | set(
        re.findall(r"^IRC_MMA\((\w+)", header, re.MULTILINE)
    )


@pytest.mark.parametrize("architecture", ("sm_80", "sm_90a"))
def test_every_wrapper_compiles(architecture: str, tmp_path: Path) -> None:
    assert cubin(HEADER + SM_80, architecture, tmp_path).stat().st_size > 0


def test_the_kernel_uses_every_wrapper() -> None:
    assert len(wrappers(HEADER)) >= 18
    assert {name for name in wrappers(HEADER) if f"ptx::{name}" not in SM_80} == set()
