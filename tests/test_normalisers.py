"""Every normaliser, maps of the weights and dropout, against dense formulas in float64, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest

import irc
from irc.graph.philox import philox, uniform
from tests.codegen.test_forms import FORMS, compile_without
from tests.test_kernels import DTYPE, TOLERANCE, both, relative

Array = np.ndarray
Inputs = dict[str, Array]
Step = Callable[[Inputs, Array, Array], tuple[Array, Callable[[Array], tuple[Array, Inputs]]]]
"""From the inputs, logits or weights [B, H, I, J] and the mask: the weights, and what a cotangent of them comes to, for
what was given and for inputs by name. Both are 0 outside the mask."""

PROGRAM = """
attention weights {{
  size B, H, S, K, D, V
  input q[B,H,S,D], k[B,H,K,D], v[B,H,K,V]
  scalar ahead: int, behind: int
  {declare}
  core o[b,h,i,d] {{
    align last
    score q[b,h,i,c] * k[b,h,j,c]
    scale 1 / sqrt(D)
    allow j <= pos(i) + ahead
    block j + behind < pos(i)
    {normaliser} j
    {below}
    matmul v[b,h,j,d]
  }}
  return o
}}
"""
MASKS = {"causal": (0, 1000), "rows without keys": (-40, 1000), "window": (3, 2)}  # keys ahead and behind
SIZES = ({"B": 2, "H": 3, "S": 21, "K": 37, "D": 8, "V": 5}, {"B": 1, "H": 2, "S": 130, "K": 130, "D": 8, "V": 5})


def softmax(_: Inputs, s: Array, allowed: Array):
    weight = np.where(allowed, np.exp(s), 0.0)
    total = weight.sum(-1, keepdims=True)
    weight = weight / np.where(total > 0, total, 1.0)
    return weight, lambda dw: (weight * (dw - (weight * dw).sum(-1, keepdims=True)), {})


def sigmoid(_: Inputs, s: Array, allowed: Array):
    weight = np.where(allowed, 1 / (1 + np.exp(-s)), 0.0)
    return weight, lambda dw: (dw * weight * (1 - weight), {})


def relu(_: Inputs, s: Array, allowed: Array):
    return np.where(allowed & (s > 0), s, 0.0), lambda dw: (np.where(allowed & (s > 0), dw, 0.0), {})


def normalize(_: Inputs, s: Array, allowed: Array):
    total = np.where(allowed, s, 0.0).sum(-1, keepdims=True)
    divisor = np.maximum(abs(total), 1.0)

    def back(dw: Array):
        shared = np.where(allowed, dw * s, 0.0).sum(-1, keepdims=True) / divisor**2
        return np.where(allowed, dw / divisor - np.where(abs(total) > 1, np.sign(total), 0.0) * shared, 0.0), {}

    return np.where(allowed, s / divisor, 0.0), back


def linear(_: Inputs, s: Array, allowed: Array):
    return np.where(allowed, s, 0.0), lambda dw: (np.where(allowed, dw, 0.0), {})


def square(_: Inputs, w: Array, allowed: Array):
    return w * w, lambda dw: (2 * w * dw, {})


def gains(e: Inputs, w: Array, allowed: Array):
    """gain[h] * weight + share[h,j], of the allowed pairs."""
    gain, share = e["gain"][:, None, None], e["share"][:, None, :]

    def back(dw: Array):
        return gain * dw, {"gain": (w * dw).sum((0, 2, 3)), "share": dw.sum((0, 2))}

    return np.where(allowed, gain * w + share, 0.0), back


AXES = [(-1, 1, 1, 1), (1, -1, 1, 1), (1, 1, -1, 1), (1, 1, 1, -1)]


def drop(e: Inputs, w: Array, allowed: Array):
    b, h, i, j = (np.arange(n, dtype=np.uint64).reshape(s) for n, s in zip(w.shape, AXES, strict=True))
    n = np.uint64(w.shape[1])
    draws = draw(int(e["seed"]), b * n + h, i, j)
    factor = np.where(draws < e["p"], 0.0, 1 / (1 - e["p"]))
    return w * factor, lambda dw: (dw * factor, {})


def draw(seed: int, i: Array, j: Array, k: Array) -> Array:
    """The definition, one multiplication after another: 24 bits of the word that k chooses among four."""
    low, word = (1 << 32) - 1, np.uint64(2**32 - 1)
    key = [seed & low, seed >> 32 & low]
    group, chosen = k // np.uint64(4), k % np.uint64(4)
    x = [np.broadcast_to(a, np.broadcast_shapes(i.shape, j.shape, k.shape)) for a in (group, j, i, np.uint64([0]))]
    for _ in range(7):
        one, two = x[0] * np.uint64(0xD2511F53), x[2] * np.uint64(0xCD9E8D57)
        k0, k1 = (np.uint64(part) for part in key)
        x = [two >> np.uint64(32) ^ x[1] ^ k0, two & word, one >> np.uint64(32) ^ x[3] ^ k1, one & word]
        key = [key[0] + 0x9E3779B9 & low, key[1] + 0xBB67AE85 & low]
    drawn = np.select([chosen == np.uint64(n) for n in range(4)], x)
    return (drawn >> np.uint64(8)).astype(np.float64) / 2**24


@dataclass(frozen=True)
class Case:
    normaliser: str
    steps: tuple[Step, ...]
    below: str = ""
    declare: str = ""


LEARNED = "param gain[H], share[H,K]"
GAINS = "map gain[h] * weight + share[h,j]"
DROP, DROPPED = "drop p seed seed", "scalar p: float, seed: int"
CASES = {
    "sigmoid": Case("sigmoid", (sigmoid,)),
    "relu": Case("relu", (relu,)),
    "normalize": Case("normalize", (normalize,)),
    "linear": Case("linear", (linear,)),
    "squared relu": Case("relu", (relu, square), "map weight * weight"),
    "squared score": Case("linear", (linear, square), "map weight * weight"),
    "gains of scores": Case("linear", (linear, gains), GAINS, LEARNED),
    "dropped scores": Case("linear", (linear, drop), DROP, DROPPED),
    "gains of softmax": Case("softmax", (softmax, gains), GAINS, LEARNED),
    "gains of normalize": Case("normalize", (normalize, gains), GAINS, LEARNED),
    "dropped softmax": Case("softmax", (softmax, drop), DROP, DROPPED),
    "dropped normalize": Case("normalize", (normalize, drop), DROP, DROPPED),
    "dropped, then mapped twice": Case(
        "sigmoid", (sigmoid, drop, square, gains), f"{DROP}\n map weight ^ 2\n {GAINS}", f"{LEARNED}\n {DROPPED}"
    ),
}


def program_text(case: Case) -> str:
    return PROGRAM.format(declare=case.declare, normaliser=case.normaliser, below=case.below)


def make(case: Case, mask: str, sizes: dict[str, int], rng: np.random.Generator, dtype: type = np.float32) -> Inputs:
    b, h, s, k, d, v = sizes.values()
    shapes = {"q": (b, h, s, d), "k": (b, h, k, d), "v": (b, h, k, v)}
    shapes |= {"gain": (h,), "share": (h, k)} if LEARNED in case.declare else {}
    made = {n: rng.standard_normal(shape).astype(dtype) for n, shape in shapes.items()}
    made |= {n: np.int64(count) for n, count in zip(("ahead", "behind"), MASKS[mask], strict=True)}
    return made | ({"p": np.float32(0.3), "seed": np.int64(-77)} if DROPPED in case.declare else {})


def dense(case: Case, e: Inputs, cotangent: Array) -> tuple[Array, Inputs]:
    """The output and every gradient, in float64, with all pairs in memory."""
    e = {n: a if a.dtype.kind == "i" else a.astype(np.float64) for n, a in e.items()}
    q, k, v = e["q"], e["k"], e["v"]
    width, (rows, keys) = q.shape[-1], (q.shape[2], k.shape[2])
    i, j = np.ogrid[keys - rows : keys, :keys]
    allowed = np.broadcast_to((j <= i + e["ahead"]) & (j + e["behind"] >= i), (*q.shape[:2], rows, keys))
    running, backs = np.einsum("bhic,bhjc->bhij", q, k) / np.sqrt(width), []
    for step in case.steps:
        running, back = step(e, running, allowed)
        backs.append(back)
    cotangent = cotangent.astype(np.float64)
    gradients = {"v": np.einsum("bhij,bhid->bhjd", running, cotangent)}
    running, dw = np.einsum("bhij,bhjd->bhid", running, v), np.einsum("bhid,bhjd->bhij", cotangent, v) * allowed
    for back in reversed(backs):
        dw, more = back(dw)
        gradients |= more
    dw = dw * allowed / np.sqrt(width)
    gradients |= {"q": np.einsum("bhij,bhjc->bhic", dw, k), "k": np.einsum("bhij,bhic->bhjc", dw, q)}
    return running, gradients


def compare(case: Case, mask: str, sizes: dict[str, int], dtype: str) -> None:
    rng = np.random.default_rng(7)
    stored = {"f32": np.float32, "bf16": ml_dtypes.bfloat16, "f64": np.float64}[dtype]
    inputs = make(case, mask, sizes, rng, stored)
    program = irc.compile(program_text(case), dtype=dtype, target="reference" if dtype == "f64" else "cpu")
    run = program.forward(**inputs)
    cotangent = rng.standard_normal(run.outputs["o"].shape).astype(stored)
    expected, wanted = dense(case, inputs, cotangent)
    assert relative(run.outputs["o"], expected) < TOLERANCE[dtype]
    gradients = run.backward(o=cotangent)
    assert set(gradients) == set(wanted)
    for name, gradient in gradients.items():
        assert relative(gradient, wanted[name]) < TOLERANCE[dtype], name


@pytest.mark.parametrize("name", CASES)
def test_floats_agree_with_the_dense_formula(name: str) -> None:
    for mask in MASKS:
        for sizes in SIZES:
            compare(CASES[name], mask, sizes, "f32")


@pytest.mark.parametrize("name", CASES)
def test_the_interpreter_agrees_with_the_dense_formula(name: str) -> None:
    for mask in MASKS:
        compare(CASES[name], mask, SIZES[0], "f64")


@pytest.mark.optimise("-O0")
@pytest.mark.parametrize("name", ["squared relu", "gains of normalize", "dropped, then mapped twice"])
def test_bf16_agrees_with_the_dense_formula(name: str) -> None:
    compare(CASES[name], "causal", SIZES[0], "bf16")


@pytest.mark.parametrize("name", CASES)
def test_rows_without_keys_are_exactly_zero(name: str) -> None:
    rng = np.random.default_rng(1)
    inputs = make(CASES[name], "rows without keys", SIZES[0], rng)
    run = irc.compile(program_text(CASES[name])).forward(**inputs)
    cotangent = np.full_like(run.outputs["o"], np.nan)
    assert not run.outputs["o"].any()
    assert not any(gradient.any() for gradient in run.backward(o=cotangent).values())


@pytest.mark.parametrize("poison", [np.nan, np.inf])
@pytest.mark.parametrize("name", CASES)
def test_blocked_entries_change_no_bit(name: str, poison: float) -> None:
    """The keys that no query sees: those ahead of the last, and what a learned share holds for them."""
    rng = np.random.default_rng(2)
    inputs = make(CASES[name], "causal", SIZES[0], rng) | {"ahead": np.int64(-5)}
    program = irc.compile(program_text(CASES[name]))
    cotangent = rng.standard_normal((2, 3, 21, 5)).astype(np.float32)
    poisoned = {n: a.copy() for n, a in inputs.items()}
    for tensor in {"k", "v", "share"} & set(inputs):
        poisoned[tensor].swapaxes(0, 2 if tensor != "share" else 1)[-5:] = poison
    runs = [program.forward(**given) for given in (inputs, poisoned)]
    assert runs[0].outputs["o"].tobytes() == runs[1].outputs["o"].tobytes()
    gradients = [run.backward(o=cotangent) for run in runs]
    for n, gradient in gradients[0].items():
        assert gradient.tobytes() == gradients[1][n].tobytes(), n


def test_dropout_keeps_its_rate_and_its_gradient_replays_it() -> None:
    """Central differences of the interpreter with the same seed; other seeds drop other pairs."""
    case, rng = CASES["dropped softmax"], np.random.default_rng(3)
    inputs = make(case, "causal", SIZES[0], rng, np.float64)
    program = irc.compile(program_text(case), target="reference")
    run = program.forward(**inputs)
    cotangent = rng.standard_normal(run.outputs["o"].shape)
    gradients = run.backward(o=cotangent)
    for name in "qkv":
        direction, step = rng.standard_normal(inputs[name].shape), 1e-5
        ends = [program.forward(**inputs | {name: inputs[name] + s * direction}).outputs["o"] for s in (step, -step)]
        expected = float(((ends[0] - ends[1]) * cotangent).sum()) / (2 * step)
        assert abs(float((gradients[name] * direction).sum()) - expected) < 1e-7 * max(1.0, abs(expected))
    other = program.forward(**inputs | {"seed": np.int64(5)}).outputs["o"]
    assert not np.array_equal(other, run.outputs["o"])
    place = np.ogrid[:8, :200, :300]
    kept = np.mean(uniform(np.int64(11), *place) >= 0.3)
    assert abs(kept - 0.7) < 4 * np.sqrt(0.3 * 0.7 / (8 * 200 * 300))


KNOWN = (  # counter, key, words: the test vectors of the authors' library, of ten rounds
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
)


@pytest.mark.parametrize("counter, key, words", KNOWN)
def test_philox_gives_the_known_words(counter, key, words) -> None:
    made = philox(tuple(np.array([c], np.uint64) for c in counter), tuple(np.array([k], np.uint64) for k in key), 10)
    assert tuple(int(word[0]) for word in made) == words


def test_compiled_bits_are_those_of_numpy() -> None:
    """Through a program: all rate's worth of draws below it, for many rates, told by which weights are 0."""
    text = """
    attention bits {
      size B, S
      input q[B,S,1], k[B,S,1], v[B,S,S]
      scalar p: float, seed: int
      core o[b,i,d] {
        score q[b,i,c] * k[b,j,c]
        sigmoid j
        drop p seed seed
        matmul v[b,j,d]
      }
      return o
    }
    """
    program, size = irc.compile(text), 40
    place = np.ogrid[:3, :size, :size]
    ones, each = np.ones((3, size, 1), np.float32), np.broadcast_to(np.eye(size, dtype=np.float32), (3, size, size))
    for seed in (0, 7, -1, 2**31 - 1, -(2**31)):
        expected = draw(seed, *(p.astype(np.uint64) for p in place))
        for rate in (0.1, 0.5, 0.9):
            kept = program(q=ones, k=ones, v=each, p=rate, seed=seed) != 0
            drawn = uniform(np.int64(seed), *place)
            assert np.array_equal(drawn, expected)
            assert np.array_equal(kept, drawn >= np.float32(rate))


KINK = """
attention kink {
  size S, D
  input s[S,S], v[S,D]
  core o[i,d] {
    score s[i,j]
    allow j <= i
    normalize j
    matmul v[j,d]
  }
  return o
}
"""


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_normalize_as_its_page_says(target: str) -> None:
    """Rows whose sum is within one, at its kink on either side, beyond it, and 0."""
    s = np.tril([[0.5, 0, 0, 0, 0], [0.25, 0.75, 0, 0, 0], [-2, 0.5, 0.5, 0, 0], [2, 2, 4, 8, 0], [1, -1, 3, -3, 0.0]])
    v = np.arange(10.0).reshape(5, 2) / 8
    run = irc.compile(KINK, dtype="f64", target=target).forward(s=s, v=v)
    t, u = s.sum(1, keepdims=True), s @ v
    np.testing.assert_array_equal(run.outputs["o"], u / np.maximum(abs(t), 1))
    cotangent = np.asarray([[1.0, -2.0]] * 5)
    found = run.backward(o=cotangent)["s"]
    own = np.broadcast_to(v, (5, 5, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        large = own / abs(t)[..., None] - (np.sign(t) / t**2 * u)[:, None]
    at_one = own - (np.sign(t) * u / 2)[:, None]
    slope = np.where(abs(t)[..., None] > 1, large, np.where(abs(t)[..., None] == 1, at_one, own))
    np.testing.assert_allclose(found, np.tril((slope * cotangent[:, None]).sum(-1)), rtol=1e-14, atol=1e-15)


@pytest.mark.optimise("-O0")
@pytest.mark.parametrize("tokens", [(45, 70), (3, 70)])
@pytest.mark.parametrize(("without", "dtype"), FORMS)
def test_each_form_drops_the_same(
    without: str, dtype: str, tokens: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward, with queries in the lanes, or of few with keys; and backward, with keys that share counters."""
    compile_without(without, monkeypatch)
    text = """
    attention dropped {
      size B, Sq, Sk, D
      input q[B,Sq,D], k[B,Sk,D], v[B,Sk,D]
      core o[b,i,d] {
        score q[b,i,c] * k[b,j,c]
        softmax j
        drop 0.3 seed 5
        matmul v[b,j,d]
      }
      return o
    }
    """
    rng = np.random.default_rng(3)
    shapes = {"q": (2, tokens[0], 8), "k": (2, tokens[1], 8), "v": (2, tokens[1], 8)}
    both(text, {n: rng.standard_normal(s).astype(DTYPE[dtype]) for n, s in shapes.items()}, dtype, rng)
