"""The machine's C++ compiler: finding it, its version, its flags, and one function that makes a shared library.

The flags that the cache sees are the ones asked for. A compiler that lacks OpenMP or `-march=native` is given the
rest: such a library runs on one thread, of which a warning tells, or without the machine's own instructions. It says
what was lacking, and is made again when that has come.

The system's headers are the same in every source and take long to read (the machine's instructions most of all), so
they are compiled once for each set of flags and kept in the cache.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import dropwhile, takewhile
from pathlib import Path

from irc.runtime import cache, machine
from irc.runtime.errors import ToolchainError

CANDIDATES = ("g++", "c++", "clang++")
# The machine's own instructions. On ARM `-march` is the set of instructions alone, which not every clang finds out.
NATIVE = "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"
OPENMP = "-fopenmp"
FLAGS = (
    "-std=c++17",
    "-O3",
    NATIVE,
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-exceptions",  # nothing throws, and unwinding would be compiled for every object of the kernels
    OPENMP,
    "-shared",
    "-fPIC",
)
# Of GCC alone: it compiles in less time to kernels that are as fast (benchmarks/NOTES.md).
GCC_FLAGS = (
    "--param=ggc-min-heapsize=1000000",  # kB: less is never worth a collection while the compiler runs
    "-fno-tree-pre",
    "-fno-gcse",
    "-fno-tree-vrp",
    "-fno-code-hoisting",
    "-fno-tree-tail-merge",
    "-fno-crossjumping",
    "-fno-rerun-cse-after-loop",
    "-fno-cse-follow-jumps",
    "-fno-gnu-unique",  # constants of one name are those of their library: kernels for other vectors have others
)
# What IRC_CXX says instead of a flag of ours, by how it begins: the compiler would take the last one. Not -Ofast, under
# which nothing is NaN.
REPLACED_BY = {NATIVE: ("-march=", "-mcpu="), "-O3": ("-O0", "-O1", "-O2", "-Og", "-Os")}
HEADERS = "headers.h"
LIBRARY = "library.so"
LACKING = "lacking"  # beside a library: the flags that its compiler could not build
PROBES = {  # flags that a compiler may lack, each with source that needs it
    OPENMP: "#include <omp.h>\nint irc_probe() { return omp_get_max_threads(); }\n",
    NATIVE: "int irc_probe() { return 0; }\n",
    "-ftrivial-auto-var-init=pattern": "int irc_probe() { return 0; }\n",
}
ONE_THREAD = (
    "has no OpenMP: kernels run on one thread. Install it, for instance `apt install libomp-dev`, "
    "`dnf install libomp-devel` or `brew install libomp`, or name another compiler in IRC_CXX"
)
ERRORS_SHOWN = 5
MISSING = (
    "no C++ compiler found (looked for g++, c++, clang++): install one, "
    "for instance `apt install g++`, `dnf install gcc-c++` or `xcode-select --install`, or name one in IRC_CXX"
)


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A compiler that answered: the words that start it, what it says it is, the flags it is given."""

    command: tuple[str, ...]
    version: str
    flags: tuple[str, ...]


def find() -> Toolchain:
    """The compiler that IRC_CXX names, else the first of g++, c++, clang++. Raises ToolchainError."""
    return _find(os.environ.get("IRC_CXX", ""), os.environ.get("PATH", ""))


@lru_cache(maxsize=8)
def _find(chosen: str, path: str) -> Toolchain:
    if chosen.strip():
        try:
            words = shlex.split(chosen)
        except ValueError as error:
            raise ToolchainError(f"IRC_CXX is no command, as in `g++ -O2`: {error}: {chosen}") from error
        program = shutil.which(words[0], path=path)
        if program is None:
            raise ToolchainError(f"IRC_CXX names {words[0]!r}, which is not a program that can be run")
        command = (program, *words[1:])
        version = " ".join((_version(command), *words[1:]))  # words change what is made: a cache asks
        return Toolchain(command, version, _flags(version, words[1:]))
    for name in CANDIDATES:
        program = shutil.which(name, path=path)
        if program is not None:
            version = _version((program,))
            return Toolchain((program,), version, _flags(version))
    raise ToolchainError(MISSING)


def _flags(version: str, given: Iterable[str] = ()) -> tuple[str, ...]:
    matrices = ("-DIRC_AMX",) if machine.has_matrices() else ()
    return beside(given, FLAGS + matrices if "clang" in version else FLAGS + matrices + GCC_FLAGS)


def beside(given: Iterable[str], flags: tuple[str, ...]) -> tuple[str, ...]:
    """The flags but for those that one of the given words stands for."""
    words = tuple(given)
    return tuple(f for f in flags if not any(word.startswith(REPLACED_BY.get(f, ())) for word in words))


def _version(command: tuple[str, ...]) -> str:
    done = start((*command, "--version"))
    if done.returncode != 0:
        told = done.stderr.strip() or f"exit code {done.returncode}, without a word"
        raise ToolchainError(f"`{shlex.join((*command, '--version'))}` failed:\n{told}")
    return next(iter(done.stdout.splitlines()), "unknown").strip()


def compile(
    source: str, output: Path, toolchain: Toolchain | None = None, parts: Mapping[int, int] | None = None
) -> None:
    """Compile C++ source to a shared library. The source stays beside it, under the name of the library with `.cpp`.
    parts: compile these alone, lengths by numbers, shared out to `machine.compilers()`; else all.

    Raises ToolchainError with the compiler's first errors and the place of the source, which is then kept
    in the cache directory under `failed`.
    """
    chosen = toolchain or find()
    text = output.with_suffix(".cpp")
    text.write_text(source, encoding="utf-8")
    flags = _without(_known_to_lack.get(chosen.command, frozenset()), chosen.flags)
    headers = _headers(source)

    def build() -> subprocess.CompletedProcess[str]:
        read = _precompiled(chosen, flags, headers)
        command = (*chosen.command, *flags, *read)
        return _build(command, text, output, parts)

    done = build()
    if done.returncode != 0 and (lacking := lacking_of(chosen.command, flags)):
        flags = _without(lacking, flags)
        done = build()
        if done.returncode == 0 and not lacking <= _known_to_lack.get(chosen.command, frozenset()):
            _known_to_lack[chosen.command] = lacking | _known_to_lack.get(chosen.command, frozenset())
            if OPENMP in lacking:
                warnings.warn(one_thread(chosen), RuntimeWarning, stacklevel=2)
    if without := [flag for flag in chosen.flags if flag not in flags]:
        output.with_name(LACKING).write_text("\n".join(without), encoding="utf-8")
    if done.returncode != 0:
        kept = keep(source)
        said = first_errors(done.stderr).replace(str(text), str(kept))
        command = shlex.join((*chosen.command, *flags, str(kept)))
        raise ToolchainError(f"the C++ compiler refused the generated source, kept in {kept}\n{said}\n  run: {command}")


def library(source: str, tools: Toolchain) -> Path:
    """The shared library of a source that is the same for all programs: from the cache, or compiled. Raises
    ToolchainError."""

    def write(directory: Path) -> None:
        compile(source, directory / LIBRARY, tools)

    key = cache.key(("library", source), tools.flags, tools.version)
    return cache.get_or_build(key, write, partial(is_current, tools=tools)) / LIBRARY


def is_current(entry: Path, tools: Toolchain | None = None) -> bool:
    """Whether the compiler still lacks what it lacked when it made the library in that folder."""
    try:
        flags = (entry / LACKING).read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return True
    chosen = tools or find()
    return lacking_of(chosen.command, chosen.flags) >= {*flags}


def _build(
    command: tuple[str, ...], text: Path, output: Path, parts: Mapping[int, int] | None
) -> subprocess.CompletedProcess[str]:
    """A library of the source: what the first step that fails says, or the last."""
    if not parts:
        return start((*command, str(text), "-o", str(output)))

    def compiled(share: list[int]) -> subprocess.CompletedProcess[str]:
        chosen = ("-DIRC_PARTS", *[f"-DIRC_PART_{part}" for part in share])
        return start((*command, *chosen, "-c", str(text), "-o", str(objects[share[0]])))

    shares = shared_out(parts, machine.compilers())
    objects = {share[0]: output.with_suffix(f".{share[0]}.o") for share in shares}
    with ThreadPoolExecutor(len(shares)) as compilers:
        done = list(compilers.map(compiled, shares))
    failed = next((d for d in done if d.returncode != 0), None)
    linked = failed or start((*command, *map(str, objects.values()), "-o", str(output)))
    for path in objects.values():
        path.unlink(missing_ok=True)
    return linked


def shared_out(lengths: Mapping[int, int], most: int) -> list[list[int]]:
    """Parts in so many shares at most: the longest first, each to the share that has least so far. What parts have in
    common, a share compiles once."""
    shares: list[list[int]] = [[] for _ in range(min(most, len(lengths)))]
    for part in sorted(lengths, key=lambda part: -lengths[part]):
        min(shares, key=lambda share: sum(lengths[p] for p in share)).append(part)
    return shares


def _headers(source: str) -> str:
    """The first lines of a source that include the system's headers, with the conditions that they stand under."""
    lines = dropwhile(lambda line: not line.startswith("#include <"), source.splitlines(keepends=True))
    return "".join(takewhile(lambda line: not line.strip() or line.startswith(("#include <", "#if ", "#endif")), lines))


def _precompiled(chosen: Toolchain, flags: tuple[str, ...], headers: str) -> tuple[str, ...]:
    """Flags that put headers, compiled before, in front of a source; none where the compiler cannot make them, or, as
    clang, would read them only in the folder where they were made."""
    if not headers or "clang" in chosen.version:
        return ()

    def write(folder: Path) -> None:
        text = folder / HEADERS
        text.write_text(headers, encoding="utf-8")
        done = start((*chosen.command, *flags, "-x", "c++-header", str(text), "-o", f"{text}.gch"))
        if done.returncode != 0:
            raise ToolchainError(done.stderr)

    try:
        folder = cache.get_or_build(cache.key(("headers", headers), flags, chosen.version), write)
    except ToolchainError:
        return ()
    return "-include", str(folder / HEADERS)


def start(command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run a compiler with its messages in English, so that errors can be told from notes."""
    try:
        return subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
        )
    except OSError as error:
        raise ToolchainError(f"`{command[0]}` could not be started: {error}") from error


def one_thread(tools: Toolchain) -> str:
    """What a compiler without OpenMP makes, and a way out."""
    return f"{tools.command[0]} {ONE_THREAD}"


# Of each compiler, what it is not asked for again in this process.
_known_to_lack: dict[tuple[str, ...], frozenset[str]] = {}


def _without(lacking: frozenset[str], flags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(flag for flag in flags if flag not in lacking)


@lru_cache(maxsize=8)
def lacking_of(command: tuple[str, ...], flags: tuple[str, ...]) -> frozenset[str]:
    """Those of the flags under which the compiler cannot build what needs them."""
    lacking = set()
    with tempfile.TemporaryDirectory() as folder:
        text, output = Path(folder) / "probe.cpp", Path(folder) / "probe.so"
        for flag, source in PROBES.items():
            text.write_text(source, encoding="utf-8")
            if flag in flags and start((*command, flag, "-shared", "-fPIC", str(text), "-o", str(output))).returncode:
                lacking.add(flag)
    return frozenset(lacking)


def keep(source: str, suffix: str = ".cpp") -> Path:
    """Store refused source under a name made of its content, so that trying again leaves one file."""
    folder = cache.directory() / "failed"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(source.encode()).hexdigest()[:16]}{suffix}"
    path.write_text(source, encoding="utf-8")
    return path


def first_errors(stderr: str) -> str:
    """The lines of a compiler's messages that say what is wrong, a few of them."""
    lines = [line for line in stderr.splitlines() if "error:" in line or "undefined reference" in line]
    return "\n".join(f"  {line}" for line in (lines or stderr.splitlines())[:ERRORS_SHOWN])
