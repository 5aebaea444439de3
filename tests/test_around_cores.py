"""What programs do around a core: rotations, normalisation, gates; each against a dense formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import irc
from irc.codegen.kernel import LoopKernel
from irc.runtime.plan import Product
from tests.test_kernels import DTYPE, TOLERANCE, both, relative, widened

Array = np.ndarray
Values = dict[str, Array]

TURN = "where(t == u, cos(angle), where(t < u, -sin(angle), sin(angle)))"
PROGRAM = """
attention around {{
  size B, H, S, {sizes}
  input q[B,H,S,{d}], k[B,H,S,{d}], v[B,H,S,{d}]
  {declare}
  project {{
    {project}
  }}
  core o[b,h,i,d] {over} {{
    score {score}
    {below}
    allow j <= i
    softmax j
    matmul v[b,h,j,d]
  }}
  {merge}
  return {returned}
  ensure causal, incremental, rows nonempty
}}
"""


@dataclass(frozen=True)
class Case:
    """A program's parts, the shapes of what it declares, and the queries, keys, scale and output by numpy."""

    project: str
    operands: Callable[[Values], tuple[Array, Array]]
    sizes: str = "F"
    d: str = "(2 F)"
    declare: str = ""
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    over: str = ""
    score: str = "rq[b,h,i,c] * rk[b,h,j,c]"
    below: str = "scale 1 / sqrt(2 * F)"
    merge: str = ""
    returned: str = "o"
    output: Callable[[Values, Array], Array] = lambda e, o: o

    @property
    def text(self) -> str:
        return PROGRAM.format(**vars(self))


def rotated(halves: str, *, indices: str = "s") -> str:
    """Both rotated operands, `halves` being how the two members of a pair and their number make up a feature."""
    mine, theirs = f"({halves})", f"({halves.replace('t', 'u')})"
    lines = [f"turn[{indices},f,t,u] over t: 2, u: 2 = {TURN}"]
    lines += [f"r{x}[b,h,s,{mine}] = {x}[b,h,s,{theirs}] * turn[{indices},f,t,u]" for x in "qk"]
    return "\n    ".join(lines)


def turned(x: Array, angle: Array, apart: bool) -> Array:
    """Pairs of features as complex numbers, turned: features f and F + f, or 2 f and 2 f + 1. `angle` is [.., S, F]."""
    count = angle.shape[-1]
    real, imaginary = (x[..., :count], x[..., count:]) if apart else (x[..., ::2], x[..., 1::2])
    z = (real + 1j * imaginary) * np.exp(1j * angle)
    return np.concatenate([z.real, z.imag], -1) if apart else np.stack([z.real, z.imag], -1).reshape(x.shape)


def standard(e: Values, places: Array | None = None) -> Array:
    count = 4
    places = np.arange(e["q"].shape[2]) if places is None else places
    return places[..., None] * e["base"] ** (-np.arange(count) / count)


def rotary(e: Values, apart: bool, angle: Array) -> tuple[Array, Array]:
    return turned(e["q"], angle, apart) / np.sqrt(8), turned(e["k"], angle, apart)


def partial(e: Values) -> tuple[Array, Array]:
    angle = standard(e)
    q, k = (np.concatenate([turned(e[n][..., :8], angle, True), e[n][..., 8:]], -1) for n in "qk")
    return q / np.sqrt(11), k


def normalised(e: Values) -> tuple[Array, Array]:
    q, k = (e[n] / np.sqrt((e[n] ** 2).mean(-1, keepdims=True) + 1e-6) * e[f"g{n}"] for n in "qk")
    return q / np.sqrt(8), k


def cosine(e: Values) -> tuple[Array, Array]:
    q, k = (e[n] / np.sqrt((e[n] ** 2).sum(-1, keepdims=True) + 1e-12) for n in "qk")
    return q * np.exp(e["temperature"])[:, None, None], k


BY_INDEX = "let angle = s * base ^ (-float(f) / F)"
CASES = {
    "halves": Case(
        f"{BY_INDEX}\n {rotated('t f')}", lambda e: rotary(e, True, standard(e)), declare="scalar base: float"
    ),
    "interleaved": Case(
        f"{BY_INDEX}\n {rotated('f t')}",
        lambda e: rotary(e, False, standard(e)),
        d="(F 2)",
        declare="scalar base: float",
    ),
    "places by a table": Case(
        f"let angle = place[b,s] * base ^ (-float(f) / F)\n {rotated('t f', indices='b,s')}",
        lambda e: rotary(e, True, standard(e, e["place"])[:, None]),
        declare="scalar base: float\n input place[B,S]: int",
        shapes=(("place", (2, 19)),),
    ),
    "learned frequencies": Case(
        f"let angle = s * frequency[h,f]\n {rotated('t f', indices='h,s')}",
        lambda e: rotary(e, True, np.arange(19)[:, None] * e["frequency"][:, None]),
        declare="param frequency[H,F]",
        shapes=(("frequency", (3, 4)),),
    ),
    "partial width": Case(
        f"{BY_INDEX}\n turn[s,f,t,u] over t: 2, u: 2, f: F = {TURN}\n"
        "tq[b,h,s,t,f] = q[b,h,s,u * F + f] * turn[s,f,t,u]\n tk[b,h,s,t,f] = k[b,h,s,u * F + f] * turn[s,f,t,u]",
        partial,
        sizes="F, P, D = 2 * F + P",
        d="D",
        declare="scalar base: float",
        over="over c: P",
        score="tq[b,h,i,t,f] * tk[b,h,j,t,f] + q[b,h,i,2 * F + c] * k[b,h,j,2 * F + c]",
        below="scale 1 / sqrt(D)",
    ),
    "normalised by root mean squares": Case(
        "\n".join(
            f"m{x}[b,h,s] = sum(c: {x}[b,h,s,c] * {x}[b,h,s,c]) / (2 * F)\n"
            f"r{x}[b,h,s,c] = {x}[b,h,s,c] * rsqrt(m{x}[b,h,s] + 1e-6) * g{x}[c]"
            for x in "qk"
        ),
        normalised,
        declare="param gq[(2 F)], gk[(2 F)]",
        shapes=(("gq", (8,)), ("gk", (8,))),
    ),
    "cosines": Case(
        "\n".join(
            f"m{x}[b,h,s] = sum(c: {x}[b,h,s,c] * {x}[b,h,s,c])\n"
            f"r{x}[b,h,s,c] = {x}[b,h,s,c] * rsqrt(m{x}[b,h,s] + 1e-12)"
            for x in "qk"
        ),
        cosine,
        declare="param temperature[H]",
        shapes=(("temperature", (3,)),),
        below="scale exp(temperature[h])",
    ),
    "a gate": Case(
        "",
        lambda e: (e["q"] / np.sqrt(8), e["k"]),
        declare="input gate[B,H,S,(2 F)]",
        shapes=(("gate", (2, 3, 19, 8)),),
        score="q[b,h,i,c] * k[b,h,j,c]",
        merge="merge {\n y[b,h,s,d] = sigmoid(gate[b,h,s,d]) * o[b,h,s,d]\n }",
        returned="y",
        output=lambda e, o: o / (1 + np.exp(-e["gate"])),
    ),
}
SIZES = {"B": 2, "H": 3, "S": 19}


def known(case: Case) -> dict[str, int]:
    return {"F": 4} | ({"P": 3} if "P" in case.sizes else {})


def make(case: Case, rng: np.random.Generator, dtype: type) -> Values:
    width = 11 if "P" in case.sizes else 8
    made = {n: rng.standard_normal((2, 3, 19, width)).astype(dtype) for n in "qkv"}
    made |= {n: rng.standard_normal(shape).astype(dtype) for n, shape in case.shapes if n != "place"}
    made |= {n: np.sort(rng.integers(0, 3000, shape), axis=-1) for n, shape in case.shapes if n == "place"}
    return made | ({"base": np.float32(10000)} if "base" in case.declare else {})


def dense(case: Case, e: Values) -> Array:
    q, k = case.operands(e)
    score = np.einsum("bhic,bhjc->bhij", q, k)
    weight = np.where(np.tri(19, dtype=bool), np.exp(score - score.max(-1, keepdims=True)), 0.0)
    return case.output(e, np.einsum("bhij,bhjd->bhid", weight / weight.sum(-1, keepdims=True), e["v"]))


@pytest.mark.parametrize("name", CASES)
def test_the_interpreter_agrees_with_the_dense_formula(name: str) -> None:
    """The output; and gradients along one random direction, by sixth-order central differences of the formula."""
    case, rng = CASES[name], np.random.default_rng(5)
    inputs = make(case, rng, np.float64)
    run = irc.compile(case.text, target="reference", sizes=known(case)).forward(**inputs)
    np.testing.assert_allclose(run.outputs[case.returned], dense(case, inputs), rtol=1e-11, atol=1e-12)
    cotangent = rng.standard_normal(run.outputs[case.returned].shape)
    gradients = run.backward(**{case.returned: cotangent})
    assert set(gradients) == {"q", "k", "v"} | {n for n, _ in case.shapes} - {"place"}
    direction = {n: rng.standard_normal(np.shape(g)) for n, g in gradients.items()}
    found, h = sum(float((gradients[n] * d).sum()) for n, d in direction.items()), 1e-3

    def objective(step: float) -> float:
        return float((dense(case, inputs | {n: inputs[n] + step * d for n, d in direction.items()}) * cotangent).sum())

    ahead = sum(w * (objective(k * h) - objective(-k * h)) for k, w in ((1, 45), (2, -9), (3, 1)))
    assert abs(ahead / (60 * h) - found) < 1e-7 * max(1.0, abs(found))


@pytest.mark.optimise("-O0")
@pytest.mark.parametrize("name", CASES)
def test_kernels_agree_with_the_interpreter(name: str) -> None:
    case, rng = CASES[name], np.random.default_rng(6)
    both(case.text, make(case, rng, DTYPE["f32"]), "f32", rng, known(case))


@pytest.mark.parametrize("name", ["halves", "interleaved"])
def test_a_rotation_is_one_loop_each_way(name: str) -> None:
    """No product of matrices for pairs, and nothing that is added up place by place."""
    case = CASES[name]
    compiled = irc.compile(case.text, sizes=known(case)).built({}).compiled
    assert compiled.backward is not None
    for fused, wanted in ((compiled.forward, {"rq", "rk"}), (compiled.backward, {"d.q", "d.k"})):
        assert not any(isinstance(step, Product) for step in fused.plan.steps)
        loops = [kernel for kernel in fused.kernels if isinstance(kernel, LoopKernel)]
        assert not any(loop.add for kernel in loops for loop in kernel.loops)
        written = [loop.target.tensor for kernel in loops for loop in kernel.loops]
        assert wanted <= set(written) and not any(n.endswith(".part") and n[:4] in wanted for n in written)


PADDED = """
attention padded {
  size B, S, M, H, D, E
  input x[B,S,E], memory[B,M,E], len[B]: int
  param Wq[E,(H D)], Wk[E,(H D)], Wv[E,(H D)]
  project {
    q[b,h,s,d] = x[b,s,e] * Wq[e,(h d)]
    k[b,h,s,d] = memory[b,s,e] * Wk[e,(h d)]
    v[b,h,s,d] = memory[b,s,e] * Wv[e,(h d)]
  }
  core o[b,h,i,d] {
    score q[b,h,i,c] * k[b,h,j,c]
    scale 1 / sqrt(D)
    allow j < len[b]
    softmax j
    matmul v[b,h,j,d]
  }
  return o
}
"""


def test_products_of_padded_rows_are_matrix_products_and_never_see_the_padding() -> None:
    sizes = {"H": 2, "D": 16, "E": 24}
    program, reference = irc.compile(PADDED, sizes=sizes), irc.compile(PADDED, sizes=sizes, target="reference")
    rng = np.random.default_rng(6)
    given = {n: 0.3 * rng.standard_normal(s).astype(np.float32) for n, s in {
        "x": (2, 5, 24), "memory": (2, 9, 24), "Wq": (24, 32), "Wk": (24, 32), "Wv": (24, 32)}.items()}  # fmt: skip
    given["len"] = np.array([4, 9], np.int32)
    given["memory"][0, 4:] = np.nan
    run, expected = program.forward(**given), reference.forward(**widened(given))
    cotangent = rng.standard_normal(expected.outputs["o"].shape).astype(np.float32)
    gradients, wanted = run.backward(o=cotangent), expected.backward(o=cotangent.astype(np.float64))
    for name, gradient in wanted.items():
        assert np.isfinite(gradient).all(), name
        assert relative(gradients[name], gradient) < TOLERANCE["f32"], name
    backward = program.built(sizes).compiled.backward
    assert backward is not None
    products = {step.result for step in backward.plan.steps if isinstance(step, Product)}
    assert {"d.Wk", "d.Wv"} <= products and any(name.startswith("d.memory") for name in products)
