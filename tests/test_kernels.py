"""Compiled kernels against the interpreter, forward and backward; and the language's exact meaning, kept by kernels."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import irc
from tests.cases import CASES, CORE, text

Arrays = dict[str, np.ndarray]
SIZES = [
    {"B": 1, "H": 2, "G": 1, "Sq": 7, "Sk": 9, "D": 5, "V": 3},
    {"B": 2, "H": 4, "G": 2, "Sq": 130, "Sk": 203, "D": 16, "V": 40},
    {"B": 1, "H": 2, "G": 2, "Sq": 1, "Sk": 1, "D": 16, "V": 40},
    {"B": 1, "H": 2, "G": 2, "Sq": 0, "Sk": 5, "D": 16, "V": 40},
    {"B": 1, "H": 2, "G": 2, "Sq": 5, "Sk": 0, "D": 16, "V": 40},
]
TOLERANCE = {"f32": 5e-6, "f64": 1e-13, "bf16": 1e-2, "f16": 2e-3}
DTYPE = {"f32": np.float32, "f64": np.float64, "bf16": ml_dtypes.bfloat16, "f16": np.float16}


def arrays(program: irc.Program, sizes: dict[str, int], rng: np.random.Generator, dtype: str = "f32") -> Arrays:
    from irc.graph.interpret import size_value

    return {
        n.name: rng.standard_normal(tuple(size_value(s, sizes) for s in n.shape)).astype(DTYPE[dtype])
        for n in program.graph.inputs
    }


def relative(got: np.ndarray, expected: np.ndarray, least: float = 0.1) -> float:
    """L2 distance relative to the expected norm, or to `least` where that is smaller (gradients that cancel to 0);
    infinities must agree in place and sign, and NaN must not be there."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape
    assert not np.isnan(got).any() and not np.isnan(expected).any()
    endless = np.isinf(expected)
    assert np.array_equal(got[endless], expected[endless]) and not np.isinf(got[~endless]).any()
    scale = float(np.linalg.norm(expected[~endless]))
    return float(np.linalg.norm(got[~endless] - expected[~endless])) / max(scale, least)


def widened(inputs: Arrays) -> Arrays:
    """What the reference takes: floating tensors in float64."""
    return {n: a.astype(np.float64) if a.dtype.kind not in "iub" else a for n, a in inputs.items()}


def both(
    name_or_text: str, inputs: Arrays, dtype: str, rng: np.random.Generator, sizes: dict[str, int] | None = None,
    target: str = "cpu",
) -> None:  # fmt: skip
    """Assert that kernels and interpreter agree on outputs and gradients."""
    program = irc.compile(name_or_text, dtype=dtype, sizes=sizes, target=target)
    reference = irc.compile(name_or_text, target="reference", sizes=sizes)
    run = program.forward(**inputs)
    expected = reference.forward(**widened(inputs))
    cotangents = {}
    for name, output in expected.outputs.items():
        assert relative(run.outputs[name], output) < TOLERANCE[dtype], name
        cotangents[name] = rng.standard_normal(output.shape).astype(run.outputs[name].dtype)
    gradients = run.backward(**cotangents)
    wanted = expected.backward(**{n: c.astype(np.float64) for n, c in cotangents.items()})
    assert set(gradients) == set(wanted)
    largest = max(float(np.linalg.norm(g)) for g in wanted.values())
    for name, gradient in gradients.items():
        assert relative(gradient, wanted[name], 0.1 + 0.1 * largest) < TOLERANCE[dtype] * 3, name


def same_bits(program: irc.Program, one: Arrays, other: Arrays, cotangent: np.ndarray, row: int) -> None:
    """Assert that arguments that differ where nothing may read them have the same output `o` and the same gradients,
    whatever the cotangent of a row (b, row) without keys is."""
    dirty = cotangent.copy()
    dirty[:, row] = np.nan
    first, second = program.forward(**one), program.forward(**other)
    np.testing.assert_array_equal(first.outputs["o"], second.outputs["o"])
    gradients = second.backward(o=dirty)
    for name, gradient in first.backward(o=cotangent).items():
        np.testing.assert_array_equal(gradients[name], gradient, name)


@pytest.mark.parametrize("number", range(len(SIZES)))
@pytest.mark.parametrize("name", CASES)
def test_kernels_agree_with_the_interpreter(name: str, number: int) -> None:
    rng = np.random.default_rng(number)
    sizes = SIZES[number]
    program = irc.compile(text(name), target="reference")
    both(text(name), arrays(program, sizes, rng), "f32", rng)


@pytest.mark.parametrize("dtype", ["f64", "bf16", "f16"])
@pytest.mark.parametrize("name", ["causal", "table", "sink"])
def test_element_types(name: str, dtype: str) -> None:
    rng = np.random.default_rng(3)
    program = irc.compile(text(name), target="reference")
    both(text(name), arrays(program, SIZES[1], rng, dtype), dtype, rng)


def test_a_core_of_which_the_maximum_alone_is_read() -> None:
    """No softmax is there to store it."""
    rng = np.random.default_rng(0)
    spec = text("max").replace("return o, lse , m", "return m")
    assert "return m" in spec
    program = irc.compile(spec, target="reference")
    both(spec, arrays(program, SIZES[0], rng), "f32", rng)


CAUSAL = """
attention causal {
  size B, H, S, D
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]
  const bias[H,S,S]
  core o[b,h,i,d], lse[b,h,i] {
    score q[b,h,i,c] * k[b,h,j,c]
    scale 1 / sqrt(D)
    bias bias[h,i,j]
    allow j <= i
    softmax j
    matmul v[b,h,j,d]
  }
  return o, lse
}
"""


def causal(rng: np.random.Generator, length: int = 150, heads: int = 2, width: int = 16) -> tuple[irc.Program, Arrays]:
    program = irc.compile(CAUSAL)
    return program, arrays(program, {"B": 1, "H": heads, "S": length, "D": width}, rng)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_blocked_non_finite_values_change_no_bit(poison: float) -> None:
    rng = np.random.default_rng(0)
    program, inputs = causal(rng)
    cotangent = rng.standard_normal(inputs["q"].shape).astype(np.float32)
    last = 140  # queries before it must not notice keys and values from it on
    cotangent[:, :, last:] = 0
    for name in ("k", "v"):
        poisoned = {n: a.copy() for n, a in inputs.items()}
        poisoned[name][:, :, last:] = poison
        a, b = program.forward(**inputs), program.forward(**poisoned)
        assert np.array_equal(a.outputs["o"][:, :, :last], b.outputs["o"][:, :, :last])
    poisoned = {n: a.copy() for n, a in inputs.items()}
    i, j = np.indices(poisoned["bias"].shape[1:])
    poisoned["bias"][:, j > i] = poison
    a, b = program.forward(**inputs), program.forward(**poisoned)
    for name in ("o", "lse"):
        assert np.array_equal(a.outputs[name], b.outputs[name])
    full = rng.standard_normal(cotangent.shape).astype(np.float32)
    for name, gradient in a.backward(o=full).items():
        assert np.array_equal(gradient, b.backward(o=full)[name]), name


def test_no_bit_of_a_row_depends_on_the_scores_of_another() -> None:
    """Rows share a panel of registers; only those whose scores rise far take a new maximum with them."""
    program, inputs = causal(np.random.default_rng(0), length=400)
    steep = inputs["q"].copy()
    steep[:, :, 1::2] *= 100
    a, b = (program.forward(**inputs | {"q": q}).outputs for q in (inputs["q"], steep))
    for name in ("o", "lse"):
        assert np.array_equal(a[name][:, :, ::2], b[name][:, :, ::2]), name


def test_rows_without_keys_are_zero_and_pass_no_gradient() -> None:
    rng = np.random.default_rng(1)
    program = irc.compile(CAUSAL.replace("j <= i", "j < i"))
    _, inputs = causal(rng)
    run = program.forward(**inputs)
    assert np.all(run.outputs["o"][:, :, 0] == 0) and np.all(run.outputs["lse"][:, :, 0] == -np.inf)
    gradients = run.backward(o=np.ones_like(inputs["q"]), lse=np.ones(inputs["q"].shape[:3], np.float32))
    assert np.all(gradients["q"][:, :, 0] == 0)
    assert all(np.isfinite(g).all() for g in gradients.values())


@pytest.mark.parametrize("mask", ["", "allow j <= i", "allow j < i", "allow seen[i,j]", "block i == 40 or j > 2 * i"])
def test_a_row_whose_scores_are_all_minus_infinity_is_nan_unless_it_has_no_key(mask: str) -> None:
    rng = np.random.default_rng(9)
    text = CAUSAL.replace("allow j <= i", mask)
    if "seen" in mask:
        text = text.replace("input q", "input seen[S,S]: bool, q")
    program, reference = irc.compile(text), irc.compile(text, target="reference")
    _, inputs = causal(rng)
    if "seen" in mask:
        inputs["seen"] = rng.random((150, 150)) < 0.2
        inputs["seen"][[40, 60]] = False
    inputs["bias"][:, [0, 40, 41, 149]] = -np.inf
    inputs["bias"][0, 50, :50] = -np.inf  # but for one key
    inputs["bias"][1, 80, 1:] = -np.inf
    run, expected = program.forward(**inputs), reference.forward(**widened(inputs))
    for name, output in expected.outputs.items():
        np.testing.assert_allclose(run.outputs[name], output, rtol=1e-4, atol=1e-5, err_msg=name)
    assert np.isnan(run.outputs["o"][:, :, 149]).all()
    cotangent = rng.standard_normal(inputs["q"].shape).astype(np.float32)
    gradients = run.backward(o=cotangent)
    for name, gradient in expected.backward(o=cotangent.astype(np.float64)).items():
        np.testing.assert_allclose(gradients[name], gradient, rtol=1e-4, atol=1e-4, err_msg=name)


def test_the_future_changes_no_bit_of_the_past() -> None:
    rng = np.random.default_rng(2)
    program, inputs = causal(rng, length=67)
    whole = program(**inputs)[0]
    for t in (1, 16, 47, 48, 66):
        changed = {n: a.copy() for n, a in inputs.items()}
        for name in ("q", "k", "v"):
            changed[name][:, :, t:] = rng.standard_normal(changed[name][:, :, t:].shape)
        assert np.array_equal(program(**changed)[0][:, :, :t], whole[:, :, :t])


STATISTICS = CASES["max"] | {"stat": "stat m[b,h,i] = max\n stat e[b,h,i] = entropy", "returned": ", m, e"}


@pytest.mark.parametrize("name", ["causal", "table", "sums"])
def test_the_same_call_gives_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    monkeypatch.setenv("IRC_THREADS", "4")
    program = irc.compile(text(name))
    inputs = arrays(program, {"B": 3, "H": 8, "G": 4, "Sq": 210, "Sk": 210, "D": 16, "V": 16}, rng)
    cotangent = rng.standard_normal((3, 8, 210, 16)).astype(np.float32)
    first = program.forward(**inputs)
    gradients = first.backward(o=cotangent)
    for _ in range(10):
        again = program.forward(**inputs)
        for output, array in again.outputs.items():
            assert np.array_equal(first.outputs[output], array), output
        for gradient, array in again.backward(o=cotangent).items():
            assert np.array_equal(gradients[gradient], array), gradient


def test_a_batch_entry_does_not_depend_on_the_others() -> None:
    rng = np.random.default_rng(10)
    program = irc.compile(text("causal"))
    inputs = arrays(program, {"B": 3, "H": 2, "G": 1, "Sq": 101, "Sk": 101, "D": 16, "V": 16}, rng)
    cotangent = rng.standard_normal((3, 2, 101, 16)).astype(np.float32)
    run = program.forward(**inputs)
    gradients = run.backward(o=cotangent, lse=cotangent[..., 0])
    for other in (np.float32(np.nan), rng.standard_normal(1).astype(np.float32)[0]):
        changed = {n: a.copy() for n, a in (inputs | {"cotangent": cotangent}).items()}
        for array in changed.values():
            array[[0, 2]] = other
        its = changed.pop("cotangent")
        again = program.forward(**changed)
        assert all(np.array_equal(run.outputs[n][1], a[1]) for n, a in again.outputs.items())
        for name, gradient in again.backward(o=its, lse=its[..., 0]).items():
            assert np.array_equal(gradients[name][1], gradient[1]), name
    alone = program.forward(**{n: a[1:2] for n, a in inputs.items()})
    assert all(np.array_equal(run.outputs[n][1:2], a) for n, a in alone.outputs.items())


@pytest.mark.parametrize("dtype", DTYPE)
def test_logsumexp_is_natural_and_of_the_accuracy_of_the_arithmetic(dtype: str) -> None:
    rng = np.random.default_rng(11)
    inputs = arrays(irc.compile(CAUSAL), {"B": 1, "H": 2, "S": 150, "D": 16}, rng, dtype)
    lse = irc.compile(CAUSAL, dtype=dtype)(**inputs)[1]
    wide = widened(inputs)
    score = np.einsum("bhic,bhjc->bhij", wide["q"], wide["k"]) / 4 + wide["bias"]
    score[..., *np.triu_indices(150, 1)] = -np.inf
    expected = np.logaddexp.reduce(score, axis=-1)
    assert lse.dtype == (np.float64 if dtype == "f64" else np.float32)
    assert np.abs(lse - expected).max() < (1e-13 if dtype == "f64" else 4e-6)


@pytest.mark.parametrize("output", ["o", "lse", "m", "e"])
def test_every_output_and_statistic_carries_a_cotangent(output: str) -> None:
    """Against central differences of the kernels themselves, in float64."""
    rng = np.random.default_rng(12)
    holes = dict.fromkeys(("declare", "stage", "sink", "stat", "returned"), "") | STATISTICS
    program = irc.compile(CORE.format(**holes), dtype="f64")
    inputs = arrays(program, {"B": 2, "H": 2, "G": 1, "Sq": 5, "Sk": 9, "D": 4, "V": 3}, rng, "f64")
    run = program.forward(**inputs)
    cotangent = rng.standard_normal(run.outputs[output].shape)
    v = {n: rng.standard_normal(a.shape) for n, a in inputs.items()}
    expected = sum(float(np.sum(g * v[n])) for n, g in run.backward(**{output: cotangent}).items())
    step = 1e-5
    ahead, behind = (program.forward(**{n: a + s * v[n] for n, a in inputs.items()}).outputs for s in (step, -step))
    change = float(np.sum((ahead[output] - behind[output]) * cotangent)) / (2 * step)
    assert change == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["table", "sums"])
@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_long_sums_are_made_in_fp32(dtype: str, name: str) -> None:
    """Positive terms, so that a short accumulator would stall; the bound of outputs is one rounding as stored."""
    rng = np.random.default_rng(13)
    program = irc.compile(text(name), dtype=dtype)
    sizes = {"B": 2, "H": 1, "G": 1, "Sq": 700, "Sk": 700, "D": 8, "V": 8}
    inputs = {n: np.abs(a) for n, a in arrays(program, sizes, rng, dtype).items()}
    run = program.forward(**inputs)
    expected = irc.compile(text(name), target="reference").forward(**widened(inputs))
    bound = {"f32": 2e-6, "bf16": 2**-9, "f16": 2**-12}[dtype]
    assert relative(run.outputs["lse"], expected.outputs["lse"]) < 2e-6
    assert relative(run.outputs["o"], expected.outputs["o"]) < bound
    cotangent = np.abs(rng.standard_normal((2, 1, 700, 8))).astype(DTYPE[dtype])
    weights = np.ones((2, 1, 700), np.float32)
    wanted = expected.backward(o=cotangent.astype(np.float64), lse=weights.astype(np.float64))
    for argument, gradient in run.backward(o=cotangent, lse=weights).items():
        assert relative(gradient, wanted[argument]) < bound * 3, argument  # they read outputs that are rounded


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_a_large_negative_bias_is_no_mask(dtype: str) -> None:
    """It warns, it is in no mask that proofs see, and its pairs keep their weights: all of a row's make a softmax."""
    rng = np.random.default_rng(14)
    biased = CAUSAL.replace("allow j <= i", "").replace("bias bias[h,i,j]", "bias where(j <= i, 0, -1e5)")
    biased = biased.replace("softmax j", "bias where(i >= 5, 0, -1e5)\n softmax j").replace("const bias[H,S,S]", "")
    with pytest.warns(irc.SpecWarning, match="W001"):
        program = irc.compile(biased, dtype=dtype)
    assert all(core.support is None and core.masks == () for core in program.graph.cores)
    inputs = arrays(program, {"B": 1, "H": 2, "S": 40, "D": 16}, rng, dtype)
    run = program.forward(**inputs)
    with pytest.warns(irc.SpecWarning):
        expected = irc.compile(biased, target="reference").forward(**widened(inputs))
    assert relative(run.outputs["lse"], expected.outputs["lse"]) < 1e-6
    assert relative(run.outputs["o"], expected.outputs["o"]) < TOLERANCE[dtype] + 1e-2


def test_wrong_arguments_are_named() -> None:
    program, inputs = causal(np.random.default_rng(5))
    with pytest.raises(irc.InputError, match="k: missing"):
        program(**{n: a for n, a in inputs.items() if n != "k"})
    with pytest.raises(irc.InputError, match=r"S is a size: .* irc.compile\(…, sizes={'S': …}\)"):
        program(**(inputs | {"S": 3}))
    with pytest.raises(irc.InputError, match="nonsense: unknown"):
        program(**inputs, nonsense=inputs["q"])
    with pytest.raises(irc.InputError, match="v: expected 4 axes"):
        program(**{**inputs, "v": inputs["v"][0]})
    with pytest.raises(irc.InputError, match="expected S = 150"):
        program(**{**inputs, "v": inputs["v"][:, :, :-1]})
    with pytest.raises(irc.InputError, match="q: expected f32, got f64"):
        program(**{**inputs, "q": inputs["q"].astype(np.float64)})


ACCEPTED = Path(__file__).parent / "programs" / "accepted"


def test_keys_gathered_by_pairs_are_summed_pair_by_pair() -> None:
    rng = np.random.default_rng(6)
    q, k, v = (rng.standard_normal((1, 2, 192, 8)).astype(np.float32) for _ in range(3))
    table = np.stack([np.stack([rng.permutation(3)[:2] for _ in range(3)]) for _ in range(2)])[None].astype(np.int32)
    both(str(ACCEPTED / "blocks.attn"), {"q": q, "k": k, "v": v, "table": table}, "f32", rng)


def test_sums_over_the_edges_of_a_pair() -> None:
    rng = np.random.default_rng(7)
    inputs = {n: rng.standard_normal((1, 2, 9, 8)).astype(np.float32) for n in "qkv"}
    inputs["edge"] = rng.standard_normal((1, 9, 9, 2, 3)).astype(np.float32)
    inputs["dist"] = rng.integers(0, 4, (1, 9, 9)).astype(np.int32)
    inputs["near"] = rng.standard_normal((2, 4)).astype(np.float32)
    inputs["w"] = rng.standard_normal((2, 2, 3)).astype(np.float32)
    both(str(ACCEPTED / "edges.attn"), inputs, "f32", rng)


def test_a_program_may_return_nothing_but_a_statistic() -> None:
    rng = np.random.default_rng(8)
    program, inputs = causal(rng, length=20)
    alone = CAUSAL.replace("return o, lse", "return lse")
    both(alone, inputs, "f32", rng)
    assert np.array_equal(irc.compile(alone)(**inputs), program(**inputs)[1])


TWO_CORES = """
attention two {
  size H, S, D
  input q[H,S,D], k[H,S,D], v[H,S,D], q2[H,S,D], k2[H,S,D]
  core o[h,i,d] {
    score q[h,i,c] * k[h,j,c]
    softmax j
    matmul v[h,j,d]
    stat peak[h,i] = max
    stat spread[h,i] = entropy
  }
  core o2[h,i,d], lse2[h,i] {
    score q2[h,i,c] * k2[h,j,c]
    softmax j
    matmul v[h,j,d]
  }
  return o, o2, peak, spread, lse2
}
"""


def test_a_core_and_the_statistics_of_another_over_the_same_positions() -> None:
    rng = np.random.default_rng(9)
    both(
        TWO_CORES,
        {n: rng.standard_normal((2, 21, 8)).astype(np.float32) for n in ("q", "k", "v", "q2", "k2")},
        "f32",
        rng,
    )


NAMED = """
attention named {
  size B, H, chunks, W, D, M, S = chunks * W
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D], kind[S,S]: int
  param T[H,S,S], E[M], F[chunks]
  assume W >= 1, 0 <= kind[a,b], kind[a,b] < M
  core o[b,h,ROW,d] {
    score q[b,h,ROW,c] * k[b,h,COLUMN,c]
    bias  T[h,ROW,COLUMN] + E[kind[ROW,COLUMN]] + F[ROW // W] * F[COLUMN // W]
    softmax COLUMN
    matmul v[b,h,COLUMN,d]
  }
  return o
}
"""


@pytest.mark.parametrize(
    ("row", "column"),
    [("chunk", "j"), ("i", "chunk"), ("points", "owners"), ("first_point", "entry0")],
)
@pytest.mark.parametrize("target", ["cpu", "emulator"])
def test_indices_and_sizes_may_have_any_name(row: str, column: str, target: str) -> None:
    """Those that kernels and plans give to their own."""
    rng = np.random.default_rng(8)
    text = NAMED.replace("ROW", row).replace("COLUMN", column)
    sizes = {"B": 2, "H": 2, "chunks": 5, "W": 4, "D": 8, "M": 3, "S": 20}
    inputs = arrays(irc.compile(text, target="reference"), sizes, rng)
    inputs["kind"] = rng.integers(0, 3, (20, 20)).astype(np.int32)
    both(text, inputs, "f32", rng, {"W": 4}, target)
