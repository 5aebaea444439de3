"""A library for each run: what is compiled when."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import irc
from irc.runtime import libraries
from irc.runtime.errors import ToolchainError

SPEC = """
attention small {
  size B, S, D
  input q[B,S,D], k[B,S,D], v[B,S,D]
  core o[b,i,d] {
    score q[b,i,c] * k[b,j,c]
    softmax j
    matmul v[b,j,d]
  }
  return o
}
"""
Made = list[tuple[int, ...]]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """The parts that are compiled or taken from the cache, in order."""
    found: Made = []
    honest = libraries.compiled

    def noted(source: str, parts: tuple[int, ...], *given: Any) -> Any:
        found.append(parts)
        return honest(source, parts, *given)

    monkeypatch.setattr(libraries, "compiled", noted)
    return found


def test_a_call_wants_the_forward_kernels_alone(made: Made) -> None:
    program = irc.compile(SPEC, sizes={"D": 8})
    assert made == []
    x = np.ones((1, 3, 8), np.float32)
    program(q=x, k=x, v=x)
    assert made == [(0,)]
    run = program.forward(q=x, k=x, v=x)
    gradients = run.backward(o=x)
    assert made == [(0,), (2, 3)]
    assert np.allclose(gradients["v"], 1)


def test_a_run_with_gradients_wants_both_at_the_same_time(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=60)
    noted = libraries.compiled
    monkeypatch.setattr(libraries, "compiled", lambda *given: (both.wait(), noted(*given))[1])
    x = np.ones((1, 3, 8), np.float32)
    irc.compile(SPEC, sizes={"D": 8}).forward(q=x, k=x, v=x)
    assert sorted(made) == [(0,), (2, 3)]


def test_what_cannot_be_compiled_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    honest, tries = libraries.compiled, iter((True, False))

    def first_fails(*given: Any) -> Any:
        if next(tries):
            raise ToolchainError("no space")
        return honest(*given)

    monkeypatch.setattr(libraries, "compiled", first_fails)
    program, x = irc.compile(SPEC, sizes={"D": 8}), np.ones((1, 3, 8), np.float32)
    with pytest.raises(ToolchainError, match="no space"):
        program(q=x, k=x, v=x)
    assert np.allclose(program(q=x, k=x, v=x), 1)


def test_without_a_compiler_there_is_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRC_CXX", "no-such-compiler")
    with pytest.raises(ToolchainError, match="no-such-compiler"):
        irc.compile(SPEC, sizes={"D": 8})
