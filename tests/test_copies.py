"""Copies of programs: in this process one program, in another, by pickle or by fork, one that gives the same bits."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import irc

ROOT = Path(__file__).parents[1]
CAUSAL = ROOT / "examples" / "causal.attn"
TRANSPOSED = CAUSAL.read_text(encoding="utf-8").replace("j <= i", "i <= j")

PICKLED = """
import pickle, sys
import numpy as np
program = pickle.loads(bytes.fromhex(sys.argv[1]))
q = np.linspace(-1, 1, 2 * 3 * 5 * 8).reshape(2, 3, 5, 8).astype(np.float32)
print(program(q=q, k=q, v=q)[0].tobytes().hex())
"""
FORKED = """
import multiprocessing
import numpy as np
import irc

program = irc.compile("examples/causal.attn")
q = np.linspace(-1, 1, 2 * 4 * 256 * 32).reshape(2, 4, 256, 32).astype(np.float32)

def step():
    run = program.forward(q=q, k=q, v=q)
    return run.outputs["o"].tobytes() + run.backward(o=q)["q"].tobytes()

def child(answers):
    answers.put(step())

here = step()
context = multiprocessing.get_context("fork")
answers = context.Queue()
process = context.Process(target=child, args=(answers,), daemon=True)
process.start()
assert answers.get(timeout=100) == here
process.join()
"""
BEGUN_BEFORE = """
import multiprocessing
import numpy as np
import irc

text = open("examples/causal.attn", encoding="utf-8").read()
text = text.replace("softmax j", "allow  m[b,j]\\n    softmax j").replace("v[B,H,S,D]", "v[B,H,S,D], m[B,S]: bool")
program = irc.compile(text.replace(", rows nonempty", ""))
q = np.linspace(-1, 1, 2 * 4 * 256 * 32).reshape(2, 4, 256, 32).astype(np.float32)
m = np.arange(512).reshape(2, 256) % 3 != 1

def begun():
    return program.forward(q=q, k=q, v=q, m=m)

run = begun()
here = begun().backward(o=q)["q"].tobytes()

def child(answers):
    answers.put(run.backward(o=q)["q"].tobytes())

context = multiprocessing.get_context("fork")
answers = context.Queue()
process = context.Process(target=child, args=(answers,), daemon=True)
process.start()
assert answers.get(timeout=60) == here
assert run.backward(o=q)["q"].tobytes() == here
process.join()
"""


def run(code: str, *arguments: str) -> str:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "IRC_THREADS": "2"}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_copies_are_the_program() -> None:
    program = irc.compile(CAUSAL)
    assert copy.copy(program) is program and copy.deepcopy({"program": program})["program"] is program


def test_another_process_reads_it() -> None:
    program = irc.compile(CAUSAL)
    q = np.linspace(-1, 1, 2 * 3 * 5 * 8).reshape(2, 3, 5, 8).astype(np.float32)
    assert run(PICKLED, pickle.dumps(program).hex()) == program(q=q, k=q, v=q)[0].tobytes().hex()


@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_what_is_read_is_what_was_written(target: str) -> None:
    program = irc.compile(TRANSPOSED, dtype="f16", sizes={"D": 8}, accept=["causal"], target=target)
    again = pickle.loads(pickle.dumps(program))
    assert again.handle == program.handle
    assert again.fixed == program.fixed and again.precision == program.precision and again.target == target
    assert {n: str(v) for n, v in again.verdicts.items()} == {n: str(v) for n, v in program.verdicts.items()}


def test_a_warning_names_the_line_that_compiles_and_is_not_repeated() -> None:
    text = TRANSPOSED.replace("i <= j", "j <= i").replace("softmax j", "bias where(i >= 5, 0, -1e5)\n    softmax j")
    with pytest.warns(irc.SpecWarning) as seen:
        program = irc.compile(text)
    assert {warning.filename for warning in seen} == {__file__}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickle.loads(pickle.dumps(program))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_process_made_by_fork_does_not_wait_for_threads_that_it_has_not() -> None:
    run(FORKED)
    run(BEGUN_BEFORE)
