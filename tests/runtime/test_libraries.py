"""Which kernels are compiled when, in how many libraries."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import irc
from irc.runtime import libraries, toolchain
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
X = np.ones((1, 3, 8), np.float32)
Made = list[tuple[int, ...]]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """The parts that are compiled, in order."""
    found: Made = []
    honest = toolchain.compile

    def noted(source: str, output: Path, parts: tuple[int, ...]) -> None:
        found.append(parts)
        honest(source, output, parts=parts)

    monkeypatch.setattr(toolchain, "compile", noted)
    return found


@pytest.fixture
def another() -> Callable[[], irc.Program]:
    """Compiles a program anew, as another process would, that no cache has seen before this test."""
    text = f"# {uuid.uuid4()}\n{SPEC}"
    return lambda: irc.compile(text, sizes={"D": 8})


def of_runs(program: irc.Program) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The parts of the forward and of the backward kernels."""
    forward, backward = program.built({}).compiled.parts
    return forward, backward


def test_a_call_wants_the_forward_kernels_alone(made: Made, another: Callable[[], irc.Program]) -> None:
    program = another()
    forward, backward = of_runs(program)
    assert made == []
    program(q=X, k=X, v=X)
    assert made == [forward]
    gradients = program.forward(q=X, k=X, v=X).backward(o=X)
    assert made == [forward, backward]
    assert np.allclose(gradients["v"], 1)
    again = another()
    again.forward(q=X, k=X, v=X).backward(o=X)
    assert made == [forward, backward], "both are in the cache"


def test_a_run_with_gradients_wants_one_library(made: Made, another: Callable[[], irc.Program]) -> None:
    program = another()
    both = tuple(sorted(part for parts in of_runs(program) for part in parts))
    program.forward(q=X, k=X, v=X).backward(o=X)
    program(q=X, k=X, v=X)
    assert made == [both]
    assert np.allclose(another()(q=X, k=X, v=X), 1)
    assert made == [both], "it has the forward kernels too"


def test_gradients_after_a_call_in_an_earlier_process(made: Made, another: Callable[[], irc.Program]) -> None:
    another()(q=X, k=X, v=X)
    program = another()
    forward, backward = of_runs(program)
    program.forward(q=X, k=X, v=X)
    assert made == [forward, backward]


def test_the_longest_part_is_compiled_first(another: Callable[[], irc.Program]) -> None:
    source, parts = another().built({}).compiled.source, sorted(p for run in of_runs(another()) for p in run)
    texts = source.split("#if !defined(IRC_PART)")[1:]
    length = [sum(len(text) for text in texts if text.startswith(f" || IRC_PART == {part}\n")) for part in parts]
    assert parts == list(range(len(parts)))
    assert length == sorted(length, reverse=True)


def test_what_cannot_be_compiled_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, another: Callable[[], irc.Program]
) -> None:
    honest, tries = libraries.compiled, iter((True, False))

    def first_fails(*given: Any) -> Any:
        if next(tries):
            raise ToolchainError("no space")
        return honest(*given)

    monkeypatch.setattr(libraries, "compiled", first_fails)
    program = another()
    with pytest.raises(ToolchainError, match="no space"):
        program(q=X, k=X, v=X)
    assert np.allclose(program(q=X, k=X, v=X), 1)


def test_without_a_compiler_there_is_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRC_CXX", "no-such-compiler")
    with pytest.raises(ToolchainError, match="no-such-compiler"):
        irc.compile(SPEC, sizes={"D": 8})
