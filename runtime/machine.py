"""The machine: its data caches, which tiles are chosen for, and the processors that kernels use."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from irc.codegen.schedule import SPILL, Caches
from irc.runtime.errors import InputError

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
PROCESSOR = Path("/proc/cpuinfo")
ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA = 158, 0x1023, 18  # numbers of Linux on x86-64
UNITS = {"K": 1 << 10, "M": 1 << 20}
MOST_THREADS = 4096  # beyond, no process can start them all


PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

_forked = False  # whether this process is the copy of one that ran Python


def _in_copy() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_copy)

# os.environ, which sets what this gets, takes five times as long to say that a variable is not there.
_getenv = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.c_char_p)(("getenv", ctypes.pythonapi))


def threads() -> int:
    """How many threads kernels use: IRC_THREADS, else as many as PyTorch, with which they share OpenMP's threads, else
    the processors that this process might run on when it began. In a process made by fork one: OpenMP's threads are
    not copied, and it would wait for them for ever."""
    if _forked:
        return 1
    chosen = _number(b"IRC_THREADS", "threads")
    if chosen is None:
        theirs: Any = getattr(sys.modules.get("torch"), "get_num_threads", None)  # None while it is being imported too
        return PROCESSORS if theirs is None else int(theirs())
    return chosen


def compilers() -> int:
    """How many compilers a program is shared out to: IRC_COMPILERS, else as many as the processors that this process
    might run on when it began."""
    return _number(b"IRC_COMPILERS", "compilers") or PROCESSORS


def _number(variable: bytes, of: str) -> int | None:
    found = _getenv(variable)
    chosen = os.fsdecode(found).strip() if found else ""
    if not chosen:
        return None
    if not chosen.isdecimal() or not 1 <= int(chosen) <= MOST_THREADS:
        raise InputError(f"{variable.decode()}: expected a number of {of} from 1 to {MOST_THREADS}, got {chosen!r}")
    return int(chosen)


@lru_cache(maxsize=1)
def caches() -> Caches:
    """As Linux tells them; a size that it does not tell, or that no processor has, as `Caches` has it."""
    return read(CACHES, PROCESSOR)


@lru_cache(maxsize=1)
def has_matrices() -> bool:
    """Whether this process may use the matrix registers of Intel's AMX, which Linux lends to those that ask."""
    if platform.machine() != "x86_64" or "amx_bf16" not in _text(PROCESSOR).split():
        return False
    return bool(ctypes.CDLL(None).syscall(ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA) == 0)


def read(folder: Path, processor: Path) -> Caches:
    """From a folder index*/{level,type,size} and a list of processors, as Linux makes them."""
    found: dict[str, int] = {}
    for index in folder.glob("index*"):
        try:
            level, kind, size = (
                (index / name).read_text(encoding="utf-8").strip() for name in ("level", "type", "size")
            )
        except OSError:
            continue
        if kind in ("Data", "Unified") and size[:-1].isdecimal() and size[-1] in UNITS:
            found[level] = int(size[:-1]) * UNITS[size[-1]]
    usual = Caches()
    first, second = found.get("1", usual.first), found.get("2", usual.second)
    if not 8 << 10 <= first < second:
        first, second = usual.first, usual.second
    makers = _text(processor)
    return Caches(first, second, next((spill for maker, spill in SPILL.items() if maker in makers), usual.spill))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
