"""Peak memory of forward and backward at S = 8192, kernel buffers included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_examples import EXAMPLES

MEASURE = """
import resource, sys
from pathlib import Path
import numpy as np
import irc
from tests.test_examples import SMALL, arguments, fixed

path = Path(sys.argv[1])
large = dict(B=1, H=4, G=2, S=8192, Sq=8192, Sk=8192, Sm=8192, N=512, P=512, D=32, E=128, Y=64, X=128)
def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def step(program, arrays):
    run = program.forward(**arrays)
    first = next(iter(run.outputs))
    return run, run.backward(**{first: np.ones_like(run.outputs[first])})
rng = np.random.default_rng(0)
open_sizes = {n: large[n] for n in fixed(path)}
program = irc.compile(path, sizes=open_sizes)
step(program, arguments(path, rng, large | dict(S=32, Sq=16, Sk=32, Sm=16, N=8, P=4)) if not open_sizes else
     arguments(path, rng, large))
arrays = arguments(path, rng, large)
before = peak()
run, gradients = step(program, arrays)
used = sum(np.asarray(a).nbytes for group in (arrays, run.outputs, gradients) for a in group.values())
print(peak() - before, used)
"""


# Programs with projections also keep those (three or four tensors as large as the input) from forward to backward, so
# the bound is one for cores: everything else is tested by its plan, in test_examples.py.
BLOCKS = ("charlm", "cross", "gpt2", "minilm")
CORES = [path for path in EXAMPLES if path.stem not in BLOCKS]


@pytest.mark.parametrize("path", CORES, ids=lambda p: p.stem)
def test_peak_is_under_twice_inputs_outputs_and_gradients(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    grown, used = (int(n) for n in done.stdout.split())
    assert grown < 2 * used, f"{grown / used:.2f} times inputs, outputs and gradients"
