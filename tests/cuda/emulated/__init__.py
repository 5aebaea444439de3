"""A CUDA driver for machines without a device. Loaded under the driver's own name before pycuda asks for it."""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess
from dataclasses import replace
from pathlib import Path

from irc.runtime import cache, toolchain
from irc.runtime.emulator.driver import HERE as EMULATOR
from irc.runtime.emulator.driver import runtime

FOLDER = Path(__file__).parent
NVCC = FOLDER / "nvcc"
FLAGS = ("-std=c++17", "-O2", "-shared", "-fPIC", f"-I{EMULATOR}", "-Wl,-z,defs", "-pthread")


def load() -> None:
    """From now on this process, and what it imports, finds the emulated driver and its cuBLASLt."""
    driver = _library("libcuda.cpp", "libcuda.so.1", (str(runtime()[1]), "-ldl"), _missing())
    ctypes.CDLL(str(driver), mode=ctypes.RTLD_GLOBAL)
    blas = _library("libcublasLt.cpp", "libcublasLt.so.13", (str(driver),))
    ctypes.CDLL(str(blas), mode=ctypes.RTLD_GLOBAL)


def _library(source: str, name: str, libraries: tuple[str, ...], more: str = "") -> Path:
    text = (FOLDER / source).read_text(encoding="utf-8") + more
    compiler = toolchain.find()
    flags = (*FLAGS, f"-Wl,-soname,{name}", "-Wl,--no-as-needed", *libraries)
    tools = replace(compiler, flags=flags)
    key = cache.key([text], flags, compiler.version)
    return cache.get_or_build(key, lambda folder: toolchain.compile(text, folder / name, tools)) / name


def _missing() -> str:
    """Definitions of the driver's functions that pycuda refers to and `libcuda.cpp` does not have."""
    found = importlib.util.find_spec("pycuda")
    assert found is not None and found.submodule_search_locations, "pycuda is missing: tests/cuda/build_pycuda.py"
    module = next(Path(found.submodule_search_locations[0]).glob("_driver*.so"))
    done = subprocess.run(["nm", "-D", "--undefined-only", str(module)], capture_output=True, text=True, check=True)
    wanted = sorted({word for word in done.stdout.split() if word.startswith("cu")})
    here = (FOLDER / "libcuda.cpp").read_text(encoding="utf-8")
    missing = [name for name in wanted if f" {name}(" not in here]
    lines = [f'extern "C" __attribute__((visibility("default"))) int {name}() {{ return 801; }}' for name in missing]
    return "\n".join(lines) + "\n"
