"""Every example through nvcc, for every architecture: it compiles, spills nothing, and keeps within its registers."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import irc
from irc.codegen.cuda import FLAGS, REGISTERS
from tests.test_examples import EXAMPLES, arguments, fixed


def compiled(source: str, architecture: str, folder: Path) -> str:
    """What ptxas says of the kernels of a source."""
    nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    assert nvcc, "nvcc was not found: it is needed on PATH, or in /usr/local/cuda/bin"
    text = folder / "program.cu"
    text.write_text(source, encoding="utf-8")
    command = [nvcc, *FLAGS, "-Xptxas", "-v", "-cubin", f"-arch={architecture}"]
    done = subprocess.run([*command, "-o", str(folder / "program.cubin"), str(text)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_every_example_compiles_and_spills_nothing(path: Path, tmp_path: Path) -> None:
    program = irc.compile(path, target="emulator", sizes=fixed(path))
    program(**arguments(path, np.random.default_rng(0)))
    kernels = len(re.findall(r"^KERNEL\(", program.source, re.MULTILINE))
    for architecture in ("sm_80", "sm_90a"):
        said = compiled(program.source, architecture, tmp_path)
        assert len(re.findall("Compiling entry function", said)) == kernels > 0
        assert set(re.findall(r"(\d+) bytes spill", said)) == {"0"}
        assert max(int(n) for n in re.findall(r"Used (\d+) registers", said)) <= REGISTERS
