"""Sums over features that become dots of two sides: they do what the interpreter does with the program as written, and
tokens without a pair change nothing."""

from __future__ import annotations

import numpy as np
import pytest

import irc
from irc.codegen.expr import Op, walk
from irc.codegen.kernel import Accumulate, InnerSum, TileKernel
from tests.test_kernels import DTYPE, Arrays, both, relative

pytestmark = pytest.mark.optimise("-O0")

# The form of RoFormer's paper, of grouped heads and a frequency that is given, tokens after the first ones left out.
SPEC = """
attention turned {
  size B, H, G, Sq, Sk, P, E
  input q[B,H,Sq,2,P], k[B,G,Sk,2,P], v[B,G,Sk,E]
  input here[B]: int, at[B,Sk]: int, of[Sq,P], to[Sk,P]
  const w[P]
  assume H % G == 0 and Sk >= Sq
  core o[b,h,i,e], lse[b,h,i] {
    align last
    let g = h // (H // G)
    score SCORE
    MASK
    softmax j
    matmul v[b,g,j,e]
  }
  return o, lse
}
"""
ANGLES = {"distances": "float(pos(i) - j) * exp(w[p]) / 3", "data": "0.1 * float(at[b,j] - at[b,pos(i)]) * w[p] + w[p]"}
ROTARY = """sum(p: (q[b,h,i,0,p] * k[b,g,j,0,p] + q[b,h,i,1,p] * k[b,g,j,1,p]) * cos(ANGLE)
        + (q[b,h,i,0,p] * k[b,g,j,1,p] - q[b,h,i,1,p] * k[b,g,j,0,p]) * sin(ANGLE))"""
MASK = "allow j < here[b] and pos(i) < here[b]"
SIZES = {"B": 2, "H": 4, "G": 2, "Sq": 37, "Sk": 41, "P": 8, "E": 8}


def spec(score: str, mask: str = MASK) -> str:
    return SPEC.replace("SCORE", score).replace("MASK", mask)


def rotary(angle: str = "distances") -> str:
    return spec(ROTARY.replace("ANGLE", ANGLES[angle]))


def given(rng: np.random.Generator, dtype: str = "f32") -> Arrays:
    b, h, g, sq, sk, p, e = SIZES.values()
    shapes = {"q": (b, h, sq, 2, p), "k": (b, g, sk, 2, p), "v": (b, g, sk, e), "w": (p,), "of": (sq, p), "to": (sk, p)}
    made = {name: rng.standard_normal(shape).astype(DTYPE[dtype]) for name, shape in shapes.items()}
    return made | {"here": np.array([sk, 17], np.int32), "at": rng.integers(0, 50, (b, sk)).astype(np.int32)}


def steps(program: irc.Program) -> list[object]:
    return [step for kernel in program.kernels if isinstance(kernel, TileKernel) for step in kernel.body]


@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16"])
def test_rotations_of_pairs_are_those_of_their_sides(dtype: str) -> None:
    rng = np.random.default_rng(1)
    both(rotary(), given(rng, dtype), dtype, rng)


def test_on_emulated_kernels_and_by_positions_of_data() -> None:
    rng = np.random.default_rng(2)
    both(rotary("data"), given(rng), "f32", rng)
    both(rotary("data"), given(rng), "f32", rng, target="emulator")


SCORES = {
    "products": "sum(p: q[b,h,i,0,p] * k[b,g,j,0,p] - 2 * q[b,h,i,1,p] * k[b,g,j,1,p])",
    "one side and a distance": "sum(p: q[b,h,i,0,p] * sin(float(pos(i) - j) * w[p])) + q[b,h,i,0,0] * k[b,g,j,0,0]",
    "both and a distance": "sum(p: q[b,h,i,0,p] * k[b,g,j,0,p] * exp(-abs(pos(i) - j) * w[p] ^ 2))",
}


@pytest.mark.parametrize("score", SCORES)
def test_other_sums(score: str) -> None:
    rng = np.random.default_rng(3)
    both(spec(SCORES[score]), given(rng), "f32", rng)


def test_no_pair_has_an_angle_of_its_own() -> None:
    """Turned, all sums over features are dots; a decay of the distance and a feature is one number of a table."""
    sizes = {"P": 8, "E": 8}
    for score in (ROTARY.replace("ANGLE", ANGLES["distances"]), *list(SCORES.values())[:2]):
        assert not any(isinstance(s, InnerSum | Accumulate) for s in steps(irc.compile(spec(score), sizes=sizes)))
    decay = irc.compile(spec(SCORES["both and a distance"], mask=""), sizes=sizes)
    values = [step.value for step in steps(decay) if isinstance(step, InnerSum)]
    assert values and not any(isinstance(e, Op) and e.name == "exp" for value in values for e in walk(value))


@pytest.mark.optimise("-O3")
def test_tokens_without_a_pair_may_hold_anything() -> None:
    rng = np.random.default_rng(4)
    program, arrays = irc.compile(rotary()), given(rng)
    expected = program.forward(**arrays)
    cotangent = np.ones_like(expected.outputs["o"])
    gradients = expected.backward(o=cotangent)
    for name, first in (("q", 13), ("k", 17)):
        arrays[name] = arrays[name].copy()
        arrays[name][1, :, first:] = np.nan
    for name, gradient in program.forward(**arrays).backward(o=cotangent).items():
        assert relative(gradient, gradients[name]) == 0, name


def test_gradients_of_frequencies_that_are_learned_hold_far_from_the_first_position() -> None:
    """Turned, they would be differences of two sums as large as the positions."""
    rng = np.random.default_rng(5)
    learned, arrays = rotary("data").replace("const w", "param w").replace(" + w[p]", ""), given(rng)
    arrays["at"] += 10**5
    both(learned, arrays, "f32", rng)


def test_squares_of_differences_are_left_as_they_are() -> None:
    rng = np.random.default_rng(6)
    apart = "(q[b,h,i,0,p] * to[j,p] - k[b,g,j,0,p] * of[i,p])"
    arrays = given(rng)
    for name in "qk":
        arrays[name] = arrays[name] / 4 + np.float32(30)
    arrays |= {name: np.ones_like(arrays[name]) for name in ("of", "to")}
    both(spec(f"-sum(p: {apart} * {apart})"), arrays, "f32", rng)


@pytest.mark.optimise("-O3")
def test_operands_of_several_tensors_may_hold_anything_where_no_pair_is() -> None:
    rng = np.random.default_rng(7)
    score = ROTARY.replace("* cos(ANGLE)", "* cos(ANGLE) / to[j,p]").replace("ANGLE", ANGLES["distances"])
    program, arrays = irc.compile(spec(score, "allow j < 17 and pos(i) < 17")), given(rng)
    arrays["to"][:17] = abs(arrays["to"][:17]) + 1
    arrays["to"][17:], arrays["k"][:, :, 17:] = 0, np.inf
    run = program.forward(**arrays)
    for name, gradient in run.backward(o=np.ones_like(run.outputs["o"])).items():
        assert np.isfinite(gradient).all(), name
