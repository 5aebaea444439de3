"""Which kernels are compiled when, in how many libraries."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import irc
from irc.codegen.parts import lengths
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
Parts = Mapping[int, int]
Made = list[Parts]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """The parts that are compiled, in order."""
    found: Made = []
    honest = toolchain.compile

    def noted(source: str, output: Path, parts: Parts) -> None:
        found.append(parts)
        honest(source, output, parts=parts)

    monkeypatch.setattr(toolchain, "compile", noted)
    return found


@pytest.fixture
def another() -> Callable[[], irc.Program]:
    """Compiles a program anew, as another process would, that no cache has seen before this test."""
    text = f"# {uuid.uuid4()}\n{SPEC}"
    return lambda: irc.compile(text, sizes={"D": 8})


def of_runs(program: irc.Program) -> tuple[Parts, Parts]:
    """The parts of the forward and of the backward kernels, lengths by numbers."""
    forward, backward = (lengths(parts) for parts in program.built({}).compiled.parts)
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
    forward, backward = of_runs(program)
    program.forward(q=X, k=X, v=X).backward(o=X)
    program(q=X, k=X, v=X)
    assert made == [{**forward, **backward}]
    assert np.allclose(another()(q=X, k=X, v=X), 1)
    assert made == [{**forward, **backward}], "it has the forward kernels too"


def test_gradients_after_a_call_in_an_earlier_process(made: Made, another: Callable[[], irc.Program]) -> None:
    another()(q=X, k=X, v=X)
    program = another()
    forward, backward = of_runs(program)
    program.forward(q=X, k=X, v=X)
    assert made == [forward, backward]


def test_a_call_wants_kernels_in_the_form_that_its_sizes_run(made: Made) -> None:
    text = f"# {uuid.uuid4()}\n{SPEC}".replace("S, D", "T, S, D").replace("q[B,S", "q[B,T")

    def called(rows: int) -> None:
        q, program = np.ones((1, rows, 8), np.float32), irc.compile(text, sizes={"D": 8})
        assert np.allclose(program.forward(q=q, k=X, v=X).backward(o=q)["v"], rows / 3)

    tiles, few = irc.compile(text, sizes={"D": 8}).built({}).compiled.parts[0]
    _, backward = of_runs(irc.compile(text, sizes={"D": 8}))
    called(2)
    assert made == [lengths([few]) | backward]
    called(40)
    assert made[1:] == [lengths([tiles]) | backward]
    called(3)
    assert len(made) == 2


def test_a_source_is_hashed_once(monkeypatch: pytest.MonkeyPatch, another: Callable[[], irc.Program]) -> None:
    hashed: list[str] = []
    honest = libraries._digest
    monkeypatch.setattr(libraries, "_digest", lambda source: [hashed.append(source), honest(source)][1])
    program = another()
    program(q=X, k=X, v=X)
    program.forward(q=X, k=X, v=X)
    assert hashed == [program.source]


def test_every_function_is_a_part(another: Callable[[], irc.Program]) -> None:
    source = another().built({}).compiled.source
    texts = source.split("#if !defined(IRC_PARTS) || defined(IRC_PART_")[1:]
    parts = {number: length for run in of_runs(another()) for number, length in run.items()}
    assert [text.partition(")")[0] for text in texts] == [str(number) for number in parts]
    assert all(0 < length < len(text) for text, length in zip(texts, parts.values(), strict=True))


def test_what_cannot_be_compiled_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, another: Callable[[], irc.Program]
) -> None:
    honest, tries = toolchain.compile, iter((True, False))

    def first_fails(*given: Any, **named: Any) -> None:
        if next(tries):
            raise ToolchainError("no space")
        honest(*given, **named)

    monkeypatch.setattr(toolchain, "compile", first_fails)
    program = another()
    with pytest.raises(ToolchainError, match="no space"):
        program(q=X, k=X, v=X)
    assert np.allclose(program(q=X, k=X, v=X), 1)


def test_without_a_compiler_there_is_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRC_CXX", "no-such-compiler")
    with pytest.raises(ToolchainError, match="no-such-compiler"):
        irc.compile(SPEC, sizes={"D": 8})
