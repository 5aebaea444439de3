"""Masks that are tables of truths with an entry for every pair, read a panel at a time: what is blocked is skipped."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import irc
from tests.codegen.test_forms import FORMS, compile_without
from tests.test_kernels import DTYPE, Arrays, both, relative

SPEC = """
attention given {
  size B, H, Sq, Sk, D
  input q[B,H,Sq,D], k[B,H,Sk,D], v[B,H,Sk,D], seen[B,Sq,Sk]: bool, hidden[Sk,Sq + 2]: bool, real[B,Sk]: bool
  input coarse[H,Sq // 8 + 1,Sk // 24 + 1]: bool
  param T[H,Sq,Sk]
  core o[b,h,i,d], lse[b,h,i] {
    align first
    score q[b,h,i,c] * k[b,h,j,c]
    bias  T[h,i,j]
    MASK
    softmax j
    matmul v[b,h,j,d]
  }
  return o, lse
}
"""
MASKS = {
    "one": "allow seen[b,i,j]",
    "its contrary, turned": "block hidden[j,i + 2]",
    "three and a position": "allow seen[b,i,j] and coarse[h,i // 8,j // 24] and j <= pos(i) + 90\n"
    "block hidden[j,i + 1]",
    "with padding": "allow seen[b,i,j] and real[b,j]",
    "blocks of pairs": "block coarse[h,i // 8,j // 24]\n    allow real[b,j]",
    "read twice": "allow seen[b,i,j] and (seen[b,i,min(j + 1,Sk - 1)] or pos(i) == j)",
}
KINDS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "random": lambda rng, shape: rng.random(shape) < 0.6,
    "few": lambda rng, shape: rng.random(shape) < 0.01,
    "causal": lambda rng, shape: np.broadcast_to(np.tri(*shape[-2:], dtype=bool), shape).copy(),
    "blocks": lambda rng, shape: np.broadcast_to(np.equal.outer(*(np.arange(n) // 40 for n in shape[-2:])), shape),
    "none": lambda rng, shape: np.zeros(shape, bool),
    "all": lambda rng, shape: np.ones(shape, bool),
}


def arrays(kind: str, rows: int, columns: int, dtype: str, rng: np.random.Generator) -> Arrays:
    shapes = {"q": (2, 2, rows, 8), "k": (2, 2, columns, 8), "v": (2, 2, columns, 8), "T": (2, rows, columns)}
    made = {name: rng.standard_normal(shape).astype(DTYPE[dtype]) for name, shape in shapes.items()}
    made["seen"] = KINDS[kind](rng, (2, rows, columns))
    made["hidden"] = ~KINDS[kind](rng, (columns, rows + 2))
    made["coarse"] = KINDS[kind](rng, (2, rows // 8 + 1, columns // 24 + 1))
    return made | {"real": rng.random((2, columns)) < 0.7}


@pytest.mark.optimise("-O0")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mask", MASKS)
def test_masks_of_every_kind(mask: str, kind: str) -> None:
    rng = np.random.default_rng(1)
    for rows, columns in ((70, 90), (203, 307), (33, 17), (64, 64), (1, 40)):
        both(SPEC.replace("MASK", MASKS[mask]), arrays(kind, rows, columns, "f32", rng), "f32", rng)


@pytest.mark.optimise("-O0")
@pytest.mark.parametrize(("without", "dtype"), FORMS)
def test_each_form_agrees_with_the_interpreter(without: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_without(without, monkeypatch)
    rng = np.random.default_rng(2)
    for kind in ("random", "causal"):
        given = arrays(kind, 130, 203, dtype, rng)
        both(SPEC.replace("MASK", MASKS["three and a position"]), given, dtype, rng)


def test_the_truth_of_a_block_is_read_once() -> None:
    source = irc.compile(SPEC.replace("MASK", MASKS["blocks of pairs"]), sizes={"D": 8}).source
    assert "truths_0.read_places(" in source


def test_what_is_blocked_plays_no_part() -> None:
    """Whatever stands in a bias there, and in keys and values that nothing sees; and where truths lie in memory."""
    rng = np.random.default_rng(3)
    program = irc.compile(SPEC.replace("MASK", MASKS["one"]))
    given = arrays("causal", 130, 203, "f32", rng)
    expected = program.forward(**given)
    gradients = expected.backward(o=np.ones_like(expected.outputs["o"]))
    wide = np.zeros((2, 203, 300), bool)
    wide[:, :, :130] = given["seen"].swapaxes(1, 2)
    given["seen"] = wide[:, :, :130].swapaxes(1, 2)
    given["T"] = np.where(np.tri(130, 203, dtype=bool), given["T"], np.float32(np.nan))
    for name in "kv":
        given[name] = given[name].copy()
        given[name][:, :, 130:] = np.inf
    run = program.forward(**given)
    for name, output in expected.outputs.items():
        np.testing.assert_array_equal(run.outputs[name], output)
    for name, gradient in run.backward(o=np.ones_like(expected.outputs["o"])).items():
        assert relative(gradient, gradients[name]) == 0, name
