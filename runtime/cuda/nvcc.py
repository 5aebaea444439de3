"""nvcc: finding it, its version, and cubins, each made once."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from irc.codegen.cuda_launch import FLAGS
from irc.runtime import cache, toolchain
from irc.runtime.errors import ToolchainError

CUBIN = "kernels.cubin"
MISSING = (
    "nvcc was not found (looked at IRC_NVCC, PATH, CUDA_HOME, /usr/local/cuda and installed nvidia-cuda-nvcc): install "
    "the CUDA toolkit, or pip install 'attention-irc[nvcc]', or name a compiler in IRC_NVCC"
)


@dataclass(frozen=True, slots=True)
class Nvcc:
    """A compiler that answered, and the line in which it says its release."""

    path: str
    version: str


def find() -> Nvcc:
    """The nvcc that IRC_NVCC names, else the first that is found. Raises ToolchainError."""
    return _find(tuple(os.environ.get(name, "") for name in ("IRC_NVCC", "PATH", "CUDA_HOME")))


@lru_cache(maxsize=8)
def _find(environment: tuple[str, ...]) -> Nvcc:
    chosen, path, home = environment
    if chosen and shutil.which(chosen, path=path) is None:
        raise ToolchainError(f"IRC_NVCC names {chosen!r}, which is not a program that can be run")
    for candidate in (chosen,) if chosen else _candidates(home):
        if (found := shutil.which(candidate, path=path)) is not None:
            done = toolchain.start((found, "--version"))
            release = [line for line in done.stdout.splitlines() if "release" in line]
            if done.returncode or not release:
                raise ToolchainError(f"`{found} --version` failed:\n{(done.stderr or done.stdout).strip()}")
            return Nvcc(found, release[0].strip())
    raise ToolchainError(MISSING)


def _candidates(home: str) -> Iterator[str]:
    yield "nvcc"
    for folder in (*_named(home), *_wheels()):
        yield str(folder / "bin" / "nvcc")


def toolkits() -> Iterator[Path]:
    """Folders in which parts of CUDA may be, those of the compiler in use first."""
    with suppress(ToolchainError):
        yield Path(find().path).resolve().parents[1]
    yield from _named(os.environ.get("CUDA_HOME", ""))
    yield from _wheels()


def _named(home: str) -> Iterator[Path]:
    if home:
        yield Path(home)
    yield Path("/usr/local/cuda")


def _wheels() -> Iterator[Path]:
    """What wheels have installed: one folder for all, or one for each part."""
    found = importlib.util.find_spec("nvidia")
    for root in found.submodule_search_locations or () if found is not None else ():
        yield from sorted(Path(root).iterdir())


def cubin(source: str, architecture: str) -> Path:
    """The machine code of a CUDA source for an architecture as nvcc names it, from the cache or compiled.
    Raises ToolchainError, with nvcc's first errors and the place of the source."""
    nvcc = find()
    flags = (*FLAGS, "-w", "-cubin", f"-arch={architecture}")

    def build(folder: Path) -> None:
        text = folder / "kernels.cu"
        text.write_text(source, encoding="utf-8")
        done = toolchain.start((nvcc.path, *flags, "-o", str(folder / CUBIN), str(text)))
        if done.returncode != 0:
            kept = toolchain.keep(source, ".cu")
            said = toolchain.first_errors(done.stderr or done.stdout).replace(str(text), str(kept))
            command = shlex.join((nvcc.path, *flags, str(kept)))
            raise ToolchainError(f"nvcc refused the generated source, kept in {kept}\n{said}\n  run: {command}")

    return cache.get_or_build(cache.key(("cubin", source), flags, nvcc.version), build) / CUBIN
