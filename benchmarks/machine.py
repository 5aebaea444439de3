"""What the results were made with: machine, compiler, versions."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.peers import ENTRIES, version
from irc.runtime.toolchain import find

ROOT = Path(__file__).parent.parent


def describe() -> dict[str, Any]:
    """Everything that results depend on, as JSON holds it."""
    return {
        "machine": f"{_processor()}, {len(os.sched_getaffinity(0))} processors, {_memory()} GiB",
        "compiler": find().version,
        "python": platform.python_version(),
        "versions": {e.distribution: version(e) or "absent" for e in ENTRIES},
        "irc": _contents(),
        "commit": _commit(),
    }


def _contents() -> str:
    """Of the compiler's files, a digest. (That of irc's cache would load it, and set up OpenMP for who runs next.)"""
    digest = hashlib.sha256()
    for folder in ("irc", "grammar", "codegen", "runtime"):
        for path in sorted(p for p in (ROOT / folder).rglob("*") if p.is_file() and p.suffix != ".pyc"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _processor() -> str:
    """The model, with what of its instructions matters here."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    model = re.search(r"model name\s*: (.*)", text)
    flags = set(text.partition("flags")[2].partition("\n")[0].split())
    known = [name for name in ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16") if name in flags]
    family = re.search(r"cpu family\s*: (.*)", text)
    return f"{model[1] if model else platform.machine()} (family {family[1] if family else '?'}; {', '.join(known)})"


def _memory() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "no repository"
