"""Peak memory of forward and backward at S = 8192 on two threads, the buffers of their kernels included."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_examples import EXAMPLES

MEASURE = """
import ctypes, re, sys
from pathlib import Path
import numpy as np
import irc
from tests.test_examples import SMALL, arguments, fixed

path = Path(sys.argv[1])
large = dict(B=1, H=4, G=2, S=8192, Sq=8192, Sk=8192, Sm=8192, N=512, P=512, D=32, E=128, Y=64, X=128)
def memory(what):
    return 1024 * int(re.search(what + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
def step(program, arrays):
    run = program.forward(**arrays)
    cotangent = {n: np.ones_like(o) for n, o in list(run.outputs.items())[:1]}
    return run, cotangent, run.backward(**cotangent)
open_sizes = {n: large[n] for n in fixed(path)}
program = irc.compile(path, sizes=open_sizes)
# As many rows as call for kernels in the form that is measured.
small = large if open_sizes else large | dict(S=64, Sq=32, Sk=64, Sm=32, N=16, P=4)
step(program, arguments(path, np.random.default_rng(0), small))
matrix, tall = np.ones((4096, 1024), np.float32), np.ones((65536, 192), np.float32)
matrix @ matrix[:1024], tall @ tall[:64].T  # BLAS keeps buffers of its own, of a fixed size; long products touch all
del matrix, tall
drawn = arguments(path, np.random.default_rng(0), large)
ctypes.CDLL(None).malloc_trim(0)  # drawing leaves free memory behind, in which the run would hide
Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
before = memory("VmRSS")
arrays = {n: a.copy() for n, a in drawn.items()}
run, cotangent, gradients = step(program, arrays)
used = sum(np.asarray(a).nbytes for group in (arrays, cotangent, run.outputs, gradients) for a in group.values())
print(memory("VmHWM") - before, used)
"""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_peak_is_under_twice_inputs_outputs_and_gradients(path: Path) -> None:
    """Inputs are what the caller passes to either run, cotangents too; the peak counts from before they were made."""
    command = [sys.executable, "-c", MEASURE, str(path)]
    environment = {**os.environ, "IRC_THREADS": "2", "NUMPY_MADVISE_HUGEPAGE": "0"}  # what was drawn lies in the heap
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    grown, used = (int(n) for n in done.stdout.split())
    assert grown < 2 * used, f"{grown / used:.2f} times inputs, outputs and gradients"
