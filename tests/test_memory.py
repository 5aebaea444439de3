"""Peak memory of forward and backward at S = 8192, kernel buffers included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

MEASURE = """
import resource, sys
import numpy as np
import irc

path, shapes, scalars = sys.argv[1], eval(sys.argv[2]), eval(sys.argv[3])
def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
program = irc.compile(path)
small = {n: np.ones([min(e, 8) if k == 2 else e for k, e in enumerate(s)], np.float32) for n, s in shapes.items()}
program.forward(**small, **scalars).backward()
arrays = {n: np.ones(s, np.float32) for n, s in shapes.items()}
before = peak()
run = program.forward(**arrays, **scalars)
gradients = run.backward(o=np.ones_like(run.outputs["o"]))
used = sum(a.nbytes for group in (arrays, run.outputs, gradients) for a in group.values())
print(peak() - before, used)
"""

TOKENS = 8192
CASES = {
    "causal": ({n: (1, 4, TOKENS, 64) for n in "qkv"}, {}),
    "softcap_window": (
        {"q": (1, 4, TOKENS, 64), "k": (1, 2, TOKENS, 64), "v": (1, 2, TOKENS, 64)},
        {"window": 64, "cap": 30.0},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_peak_is_under_twice_inputs_outputs_and_gradients(name: str) -> None:
    shapes, scalars = CASES[name]
    command = [sys.executable, "-c", MEASURE, str(EXAMPLES / f"{name}.attn"), repr(shapes), repr(scalars)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    grown, used = (int(n) for n in done.stdout.split())
    assert grown < 2 * used, f"{grown / used:.2f} times inputs, outputs and gradients"
