"""`stat best[b,h,i] = argmax`: the first of the largest supported scores, in kernels and the interpreter."""

from __future__ import annotations

import numpy as np
import pytest

import irc
from tests.test_kernels import DTYPE, widened

PROGRAM = """
attention best {{
  size B, H, Y = 9, X = 17, S, D
  input q[B,H,S,D], k[B,H,(Y X),D], v[B,H,(Y X),D]
  scalar ahead: int
  core o[b,h,i,d] {{
    score q[b,h,i,c] * k[b,h,(y x),c]
    allow {mask}
    {normaliser} (y x)
    matmul v[b,h,(y x),d]
    stat best[b,i,h] = argmax
    {stat}
  }}
  return o, best{returned}
}}
"""
MASK = "x <= i + ahead and (y + x) % 3 != 1"
SIZES = {"B": 2, "H": 2, "Y": 9, "X": 17, "S": 70, "D": 4}


def integers(rng: np.random.Generator, dtype: str) -> dict[str, np.ndarray]:
    """Whole numbers, so that scores are exact and many are equal."""
    b, h, y, x, s, d = SIZES.values()
    shapes = {"q": (b, h, s, d), "k": (b, h, y * x, d), "v": (b, h, y * x, d)}
    return {n: rng.integers(-2, 3, shape).astype(DTYPE[dtype]) for n, shape in shapes.items()}


def expected(inputs: dict[str, np.ndarray], ahead: int) -> np.ndarray:
    """[B, S, H], one row and key after another."""
    q, k = (inputs[n].astype(np.float64) for n in "qk")
    best = np.full((q.shape[0], q.shape[2], q.shape[1]), -1)
    for b, i, h in np.ndindex(*best.shape):
        highest = -np.inf
        for key in range(k.shape[2]):
            y, x = divmod(key, SIZES["X"])
            score = q[b, h, i] @ k[b, h, key]
            if x <= i + ahead and (y + x) % 3 != 1 and score > highest:
                highest, best[b, i, h] = score, key
    return best


def text(normaliser: str = "softmax", stat: str = "") -> str:
    return PROGRAM.format(mask=MASK, normaliser=normaliser, stat=stat, returned=", top" if stat else "")


@pytest.mark.parametrize(
    "normaliser, stat, dtype",
    [
        ("softmax", "", "f32"),
        ("softmax", "stat top[b,h,i] = max", "bf16"),
        ("softmax", "", "f64"),
        ("relu", "stat top[b,h,i] = max", "f32"),
    ],
)
def test_the_first_of_the_largest_scores(normaliser: str, stat: str, dtype: str) -> None:
    inputs = integers(np.random.default_rng(0), dtype)
    program = irc.compile(text(normaliser, stat), dtype=dtype)  # type: ignore[arg-type]
    reference = irc.compile(text(normaliser, stat), target="reference")
    for ahead in (0, -20):
        wanted = expected(inputs, ahead)
        assert (wanted == -1).any() == (ahead < 0)
        run = program.forward(**inputs, ahead=ahead)
        assert run.outputs["best"].dtype.kind == "i"
        np.testing.assert_array_equal(run.outputs["best"], wanted)
        np.testing.assert_array_equal(reference.forward(**widened(inputs), ahead=ahead).outputs["best"], wanted)
    assert set(run.backward(o=np.ones_like(run.outputs["o"]))) == {"q", "k", "v"}


def test_it_is_one_kernel_with_the_softmax() -> None:
    compiled = irc.compile(text(), sizes={"D": 4}).built({}).compiled
    assert len(compiled.forward.kernels) == 1


def test_it_has_no_tangent() -> None:
    inputs = widened(integers(np.random.default_rng(3), "f32")) | {"ahead": np.int64(0)}
    tangents = irc.compile(text(), target="reference").jvp(inputs, {n: inputs[n] for n in "qkv"})[1]
    assert set(tangents) == {"o"}


def test_scores_that_are_not_finite() -> None:
    """NaN counts as the lowest; where all are the lowest, the first supported key is the one."""
    inputs = integers(np.random.default_rng(1), "f32")
    inputs["q"][...] = 1
    inputs["k"][:, :, :40] = np.nan
    inputs["k"][0] = -np.inf
    for target, given in (("cpu", inputs), ("reference", widened(inputs))):
        best = irc.compile(text(), target=target).forward(**given, ahead=100).outputs["best"]
        assert (best[0] == 0).all()
        sums = inputs["k"][1, :, 40:].sum(-1)
        y, x = np.divmod(np.arange(40, 153), 17)
        sums[:, (y + x) % 3 == 1] = -100
        np.testing.assert_array_equal(best[1], np.broadcast_to(40 + sums.argmax(-1), best[1].shape))


ONE = """
attention one {
  size B, S, D
  input q[B,D], k[B,S,D], v[B,S,D]
  core o[b,d] {
    score q[b,c] * k[b,s,c]
    allow s % 2 == 1
    softmax s
    matmul v[b,s,d]
    stat best[b] = argmax
  }
  return o, best
}
"""


def test_a_core_without_queries() -> None:
    rng = np.random.default_rng(2)
    q, k = rng.standard_normal((3, 4)), rng.standard_normal((3, 11, 4))
    wanted = 1 + 2 * np.einsum("bc,bsc->bs", q, k)[:, 1::2].argmax(-1)
    for target in ("cpu", "reference"):
        program = irc.compile(ONE, target=target, dtype="f64")
        np.testing.assert_array_equal(program.forward(q=q, k=k, v=k).outputs["best"], wanted)
        np.testing.assert_array_equal(program.forward(q=q, k=k[:, :1], v=k[:, :1]).outputs["best"], [-1, -1, -1])
