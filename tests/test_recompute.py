"""What a backward run computes again, and what it uses up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import irc
from irc.arrangement import recompute
from tests.test_examples import arguments
from tests.test_kernels import relative

EXAMPLES = Path(__file__).parent.parent / "examples"
BLOCKS = [EXAMPLES / name for name in ("gpt2.attn", "cross.attn", "charlm/charlm.attn", "minilm/minilm.attn")]


def gradients(path: Path, dtype: str = "f32") -> tuple[irc.Program, dict[str, np.ndarray]]:
    rng = np.random.default_rng(5)
    program = irc.compile(path, dtype=dtype)
    arrays = arguments(path, rng)
    if dtype == "f64":
        arrays = {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in arrays.items()}
    run = program.forward(**arrays)
    ((name, output),) = run.outputs.items()
    return program, run.backward(**{name: rng.standard_normal(output.shape).astype(output.dtype)})


@pytest.mark.parametrize("path", BLOCKS, ids=lambda p: p.stem)
def test_kept_and_computed_again_give_the_same_gradients(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for share in (0.0, np.inf):
        monkeypatch.setattr(recompute, "SHARE", share)
        found.append(gradients(path)[1])
    for name, kept in found[0].items():
        assert relative(found[1][name], kept, 1e-3) < 1e-6, name


def test_projections_are_computed_again_where_sequences_are_long() -> None:
    program, _ = gradients(EXAMPLES / "charlm/charlm.attn")
    choice = program.built({}).compiled.choice
    assert choice is not None
    assert choice.keep({"B": 4, "S": 128})
    assert not choice.keep({"B": 4, "S": 8192})
    assert not irc.compile(EXAMPLES / "minilm/minilm.attn").built({}).compiled.choice.keep({"B": 1, "S": 8192})


def test_what_is_kept_is_no_more_than_what_the_backward_run_reads() -> None:
    plan = irc.compile(EXAMPLES / "gpt2.attn").built({}).compiled.backward.plan
    assert plan.kept == ("qkv",)
    assert plan.again == ("qkv.dot", "qkv")


@pytest.mark.parametrize("share", [0.0, np.inf])
def test_backward_may_be_called_again(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recompute, "SHARE", share)
    path = EXAMPLES / "gpt2.attn"
    rng = np.random.default_rng(1)
    run = irc.compile(path).forward(**arguments(path, rng))
    cotangent = rng.standard_normal(run.outputs["y"].shape).astype(np.float32)
    output = run.outputs["y"].copy()
    first = run.backward(y=cotangent)
    again = run.backward(y=cotangent)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert np.array_equal(run.outputs["y"], output)


def test_arguments_and_cotangents_are_not_written() -> None:
    path = EXAMPLES / "gpt2.attn"
    rng = np.random.default_rng(2)
    arrays = arguments(path, rng)
    before = {name: array.copy() for name, array in arrays.items()}
    run = irc.compile(path).forward(**arrays)
    cotangent = np.ones_like(run.outputs["y"])
    run.backward(y=cotangent)
    assert all(np.array_equal(arrays[name], before[name]) for name in arrays)
    assert np.all(cotangent == 1)
