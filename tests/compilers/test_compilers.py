"""Sources as clang++ reads them, for x86-64 and for ARM. Without optimisation, and compiled alone."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

import irc
from irc.runtime import emulator, toolchain

SPEC = """
attention conditions_in_a_value {
  size B, H, S, D = 8
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]
  core o[b,h,i,d] {
    score q[b,h,i,c] * k[b,h,j,c]
    map where(j <= i and score > 0.5, 0.5, tanh(score)) + where(floor(score) == 2, 1, 0)
    allow j <= i + 9
    softmax j
    matmul v[b,h,j,d]
  }
  return o
}
"""
CLANG = f"{sys.executable} -m ziglang c++ -O0"  # with the headers and libraries of every processor it compiles for


@pytest.fixture(params=["x86_64-linux-gnu", "aarch64-linux-gnu"])
def compiler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("IRC_CXX", f"{CLANG} -target {request.param}")
    return str(request.param)


@pytest.mark.filterwarnings("ignore:.*has no OpenMP")
@pytest.mark.parametrize("dtype", ["f64", "bf16", "f16"])
def test_kernels_compile(compiler: str, dtype: str, tmp_path: Path) -> None:
    source = irc.compile(SPEC, dtype=dtype).source
    toolchain.compile(source, tmp_path / "kernels.so")


def test_the_emulator_compiles(compiler: str, tmp_path: Path) -> None:
    folder = Path(emulator.__file__).parent
    flags = ("-std=c++17", "-shared", "-fPIC", "-ftls-model=initial-exec", "-pthread", f"-I{folder}")
    text = (folder / "runtime.cpp").read_text()
    toolchain.compile(text, tmp_path / "emulator.so", replace(toolchain.find(), flags=flags))
