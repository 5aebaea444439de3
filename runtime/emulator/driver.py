"""Kernels in CUDA C++, compiled for this machine's processor and run by the emulator.

The emulator is a library of its own, built once; a kernel's source, with `ptx.cuh` at its head, becomes another that
calls it. In a checked build every load and store does, through the hooks of the compiler's thread sanitizer.
"""

from __future__ import annotations

import ctypes
import re
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from irc.runtime import cache, toolchain
from irc.runtime.arrays import Array
from irc.runtime.emulator.findings import EmulatorError, read
from irc.runtime.errors import ToolchainError

HERE = Path(__file__).parent
FLAGS = (
    "-std=c++17",
    toolchain.NATIVE,
    "-fno-math-errno",
    "-fno-trapping-math",
    "-shared",
    "-fPIC",
    "-ftls-model=initial-exec",
)
# Compiling takes longer than running: without optimisation half of the time, and kernels 1.3 to 1.7 times.
KERNEL_FLAGS = ("-O0", "-g1", "-w", "-DIRC_EMULATOR", f"-I{HERE}", "-Wl,--no-as-needed")
CONTRACTED_FLAGS = ("-O2", "-ffp-contract=fast")  # products and sums in one instruction, as nvcc makes them
CHECKED_FLAGS = (  # the emulator has the sanitizer's hooks, and knows the pattern of variables without a value
    "-fsanitize=thread",
    "-ftrivial-auto-var-init=pattern",
    "-nodefaultlibs",
    "-lm",
    "-lc",
    "-lgcc_s",
)
MAX_THREADS, MAX_SHARED = 1024, 227 << 10  # of a block
MAX_GRID = (2**31 - 1, 65535, 65535)
MAX_BLOCKS = 1 << 24  # of a launch: more would not end in hours
GUARD = 64 << 10  # bytes
ALIGNMENT = 64  # bytes, of the widest parameter: a tensor map

Argument = Array | np.generic | ctypes.Structure
_one_launch = threading.Lock()


@lru_cache(maxsize=1)
def runtime() -> tuple[str, Path]:
    """The emulator's key and its library, which every library of kernels is linked with."""
    compiler = toolchain.find()
    # what runtime.cpp includes is found beside it, so all files are part of the key
    files = [path.read_text(encoding="utf-8") for path in sorted(HERE.iterdir()) if path.suffix in (".h", ".cpp")]
    flags = (*toolchain.beside(compiler.command, FLAGS), "-O3", "-fvisibility=hidden", f"-I{HERE}", "-pthread")
    key = cache.key(files, flags, compiler.version)
    text = (HERE / "runtime.cpp").read_text(encoding="utf-8")

    def build(folder: Path) -> None:
        toolchain.compile(text, folder / "emulator.so", replace(compiler, flags=flags))

    return key, cache.get_or_build(key, build) / "emulator.so"


@lru_cache(maxsize=1)
def _emulator() -> ctypes.CDLL:
    library = ctypes.CDLL(str(runtime()[1]))
    library.emu_configure.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_uint64, ctypes.c_int]
    library.emu_range.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int, ctypes.c_int]
    library.emu_findings.restype = ctypes.c_char_p
    return library


def build(source: str, check: bool = True, contract: bool = False) -> Module:
    """Compile a source that declares kernels with KERNEL(name, threads), or take it from the cache. With `contract`
    a product and the sum that it goes into are rounded once, where the compiler sees both.

    Raises ToolchainError where the compiler refuses it, or cannot make a checked build.
    """
    compiler = toolchain.find()
    if check and "clang" in compiler.version:  # which leaves out some accesses, and marks what has no value otherwise
        raise ToolchainError(f"kernels are checked as g++ compiles them, not {compiler.version}: name g++ in IRC_CXX")
    names = tuple(re.findall(r"^\s*KERNEL\(\s*(\w+)", source, re.MULTILINE))
    text = source + "".join(f"\nEMU_EXPORT({name})" for name in names) + "\n"
    runtime_key, emulator = runtime()
    modes = (*(CONTRACTED_FLAGS if contract else ()), *(CHECKED_FLAGS if check else ()))
    flags = (*toolchain.beside(compiler.command, FLAGS), *KERNEL_FLAGS, *modes, str(emulator))
    key = cache.key([text, runtime_key], flags, compiler.version)

    def compile(folder: Path) -> None:
        toolchain.compile(text, folder / "kernels.so", replace(compiler, flags=flags))

    return Module(cache.get_or_build(key, compile) / "kernels.so", names, check)


class Module:
    """The kernels of one source, ready to run: `kernels` has their names, `path` is the library that holds them."""

    def __init__(self, path: Path, kernels: tuple[str, ...], check: bool) -> None:
        self.path, self.kernels = path, kernels
        self._check = check
        self._source = path.with_suffix(".cpp")
        self._emulator = _emulator()
        self._library = ctypes.CDLL(str(path))

    def launch(
        self,
        kernel: str,
        grid: Sequence[int],
        block: Sequence[int],
        shared_bytes: int,
        args: Sequence[Argument],
        *,
        buffers: Sequence[Array] = (),
        seed: int = 0,
        threads: int = 1,
    ) -> None:
        """Run a kernel to its end.

        `args` has one value a parameter: an array for a pointer to its first element, a numpy scalar or a ctypes
        structure by value. Arrays that structures point to are named in `buffers`. Kernels may read and write what
        arrays cover, of read-only ones read alone. Seed 0 runs threads and blocks in order with copies as late as they
        may be; others draw orders and times of copies. `threads` processors share the blocks of an unchecked launch.

        Raises EmulatorError for what a checked build finds (an unchecked one: threads that diverge or wait for ever),
        ValueError for a launch that no device takes.
        """
        grid, block = _three(kernel, "grid", grid, MAX_GRID), _three(kernel, "block", block, (MAX_THREADS,) * 3)
        if block[0] * block[1] * block[2] > MAX_THREADS:
            raise ValueError(f"kernel {kernel}: a block of {block} has more than {MAX_THREADS} threads")
        if grid[0] * grid[1] * grid[2] > MAX_BLOCKS:
            raise ValueError(f"kernel {kernel}: a grid of {grid} has more blocks than the emulator runs, {MAX_BLOCKS}")
        if not 0 <= shared_bytes <= MAX_SHARED:
            raise ValueError(f"kernel {kernel}: {shared_bytes} bytes of shared memory: expected 0 to {MAX_SHARED}")
        values = self._parameters(kernel, args)
        pointers = (ctypes.c_void_p * len(values))(*[value.ctypes.data for value in values])
        sizes = (ctypes.c_uint * 6)(*grid, *block)
        arrays = [(n, a) for n, a in enumerate(args) if isinstance(a, np.ndarray)] + [
            (-1 - n, a) for n, a in enumerate(buffers)
        ]
        order = (1 + seed % 2) if seed else 0
        copies = seed // 2 % 3 if seed else 0
        with _one_launch:
            self._emulator.emu_configure(self._check, order, copies, seed, threads)
            for n, array in arrays:
                low, high = np.lib.array_utils.byte_bounds(array)
                self._emulator.emu_range(low, high - low, array.flags.writeable, n)
            found = getattr(self._library, f"emu_run_{kernel}")(pointers, sizes, ctypes.c_uint32(shared_bytes))
            report = self._emulator.emu_findings().decode(errors="replace") if found else ""
        if found:
            raise EmulatorError(kernel, read(report, self._source))

    def _parameters(self, kernel: str, args: Sequence[Argument]) -> list[Array]:
        """The bytes of each parameter, as many as the kernel takes, on ALIGNMENT bytes."""
        if kernel not in self.kernels:
            raise ValueError(f"no kernel {kernel!r}: there are {', '.join(self.kernels) or 'none'}")
        sizes = (ctypes.c_uint32 * 2 * 64)()  # and alignments
        count = getattr(self._library, f"emu_parameters_{kernel}")(sizes, len(sizes))
        if count != len(args):
            raise ValueError(f"kernel {kernel} takes {count} arguments, got {len(args)}")
        values = []
        for n, arg in enumerate(args):
            data = _bytes(arg)
            if data is None:
                expected = "expected an array, a numpy scalar or a structure"
                raise ValueError(f"kernel {kernel}, argument {n}: {expected}, got {arg!r}")
            if len(data) != sizes[n][0]:
                raise ValueError(f"kernel {kernel}, argument {n}: expected {sizes[n][0]} bytes, got {len(data)}")
            memory = np.empty(len(data) + ALIGNMENT, np.uint8)
            begin = -memory.ctypes.data % ALIGNMENT
            memory[begin : begin + len(data)] = np.frombuffer(data, np.uint8)
            values.append(memory[begin : begin + len(data)])
        return values


def _bytes(arg: Argument) -> bytes | None:
    """What a parameter holds: of an array its address. None for what none of them is."""
    match arg:
        case ctypes.Structure():
            return bytes(arg)
        case np.ndarray():
            return arg.ctypes.data.to_bytes(8, sys.byteorder)
        case np.generic():
            return arg.tobytes()
        case _:
            return None


def _three(kernel: str, what: str, given: Sequence[int], most: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = (*given, 1, 1, 1)[:3]
    if len(given) > 3 or not all(1 <= n <= limit for n, limit in zip((x, y, z), most, strict=True)):
        raise ValueError(
            f"kernel {kernel}: a {what} of {tuple(given)}: expected up to three numbers from 1 to {tuple(most)}"
        )
    return x, y, z


def guarded(array: Array) -> Array:
    """A row-major copy of an array with GUARD bytes on either side that belong to nobody: a kernel that leaves it meets
    no other array."""
    memory = np.empty(array.nbytes + 2 * GUARD, np.uint8)
    copy = memory[GUARD : GUARD + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
