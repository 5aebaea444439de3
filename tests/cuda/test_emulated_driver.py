"""What the emulated driver holds a program to, and how a process with a device ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.cuda import emulated

ROOT = Path(__file__).parents[2]
BEGIN = """
from tests.cuda import emulated
emulated.load()
import numpy as np, irc
from irc.runtime.cuda import device
program = irc.compile("examples/causal.attn", target="cuda")
given = {n: np.ones((1, 1, 5, 4), np.float32) for n in "qkv"}
run = program.forward(**given)
"""


def ended(text: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "IRC_NVCC": str(emulated.NVCC), "EMULATED_PYTHON": sys.executable}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-c", BEGIN + text]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_a_process_ends_in_peace_while_results_live() -> None:
    done = ended("print(run.backward(o=given['q'])['v'].shape)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "(1, 1, 5, 4)\n", "")


def test_the_hosts_hands_are_kept_off_the_devices_memory() -> None:
    done = ended("with device.find().running(()): made = device.find().take('x', given['q'], 'f32')\nmade.tobytes()")
    assert done.returncode == -signal.SIGSEGV
