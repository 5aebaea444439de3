"""Every variant of the gallery: the interpreter against a formula of its own, and kernels against the interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import irc
from irc.codegen.expr import Kind
from irc.codegen.kernel import CHUNKS
from irc.grammar.source import Source
from irc.graph.interpret import complete_sizes, size_value
from irc.graph.ir import Graph
from irc.pipeline import front
from tests.test_kernels import DTYPE, TOLERANCE, relative
from tests.variants import CASES, FOLDER, SIZES, Array, Values

NAMES = sorted(path.stem for path in FOLDER.glob("*.attn"))


def graph(name: str) -> Graph:
    path = FOLDER / f"{name}.attn"
    return front(Source(str(path), path.read_text(encoding="utf-8")))


def arguments(name: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Arguments by name, floating ones in float64, and all sizes."""
    case, found, rng = CASES[name], graph(name), np.random.default_rng(7)
    chosen = SIZES | case.sizes
    sizes = complete_sizes(found, {n: chosen[n] for n, definition in found.sizes if definition is None})
    drawn = case.draw(rng, Values(sizes))
    for node in found.inputs:
        if node.name not in drawn:
            assert node.kind is Kind.FLOAT, node.name
            shape = tuple(size_value(s, sizes) for s in node.shape)
            drawn[node.name] = rng.standard_normal(shape) * (scale(shape) if node.role == "param" else 1.0)
    return drawn, sizes


def scale(shape: tuple[int, ...]) -> float:
    """Matrices by their inputs, as models draw them: scores in the hundreds would measure how a softmax amplifies
    rounding (a decoder's block in f32 PyTorch is then 1.3e-5 off as well)."""
    return float(shape[0] ** -0.5) if len(shape) == 2 else 0.5


def rounded(values: dict[str, Any], name: str, dtype: str) -> dict[str, Any]:
    """Floating arguments in the program's element type; scalars have 32 bits at least."""
    narrow = dtype in ("bf16", "f16")
    types = {n.name: n.role == "scalar" and narrow for n in graph(name).inputs if n.kind is Kind.FLOAT}
    return {n: np.asarray(a, DTYPE["f32" if types[n] else dtype]) if n in types else a for n, a in values.items()}


def formula(name: str, values: dict[str, Any], sizes: dict[str, int]) -> tuple[Array, ...]:
    found = CASES[name].formula(Values(sizes | values))
    return found if isinstance(found, tuple) else (found,)


def compiled(name: str, sizes: dict[str, int], **options: Any) -> irc.Program:
    given = {n: sizes[n] for n in CASES[name].untold}
    return irc.compile(FOLDER / f"{name}.attn", sizes=given, **options)


def test_the_gallery_and_its_formulas_are_the_same_set() -> None:
    assert set(NAMES) == set(CASES)


@pytest.mark.parametrize("name", NAMES)
def test_interpreter_is_the_formula(name: str) -> None:
    values, sizes = arguments(name)
    run = compiled(name, sizes, target="reference").forward(**values)
    expected = formula(name, values, sizes)
    for (which, got), wanted in zip(run.outputs.items(), expected, strict=True):
        assert relative(got, wanted) < 1e-10, which
    rng = np.random.default_rng(8)
    cotangents = [rng.standard_normal(o.shape) for o in expected]
    gradients = run.backward(**dict(zip(run.outputs, cotangents, strict=True)))

    def moved(which: str, direction: Array, step: float) -> float:
        outputs = formula(name, values | {which: values[which] + step * direction}, sizes)
        return sum(float((o * c).sum()) for o, c in zip(outputs, cotangents, strict=True))

    for which, gradient in gradients.items():
        direction = rng.standard_normal(np.shape(values[which]))
        difference = (moved(which, direction, 1e-5) - moved(which, direction, -1e-5)) / 2e-5
        assert np.isclose((gradient * direction).sum(), difference, rtol=2e-6, atol=1e-6), which
    learned = {n.name for n in graph(name).inputs if n.kind is Kind.FLOAT and n.role in ("input", "param")}
    assert set(gradients) == learned


# Every variant in f32, and one in four in bf16 too, a compilation takes seconds; and one whose gradients sum adjoints
# of scores that cancel.
NARROW = sorted({*NAMES[::4], "scaled_rows_columns"})


@pytest.mark.parametrize(("name", "dtype"), [(n, "f32") for n in NAMES] + [(n, "bf16") for n in NARROW])
def test_kernels_are_the_interpreter(name: str, dtype: str) -> None:
    values, sizes = arguments(name)
    given = rounded(values, name, dtype)
    wide = rounded(given, name, "f64")
    run = compiled(name, sizes, dtype=dtype).forward(**given)
    expected = compiled(name, sizes, target="reference").forward(**wide)
    rng, cotangents = np.random.default_rng(9), {}
    for which, wanted in expected.outputs.items():
        assert relative(run.outputs[which], wanted) < TOLERANCE[dtype], which
        cotangents[which] = rng.standard_normal(wanted.shape).astype(run.outputs[which].dtype)
    gradients = run.backward(**cotangents)
    against = expected.backward(**{n: c.astype(np.float64) for n, c in cotangents.items()})
    assert set(gradients) == set(against)
    largest = max(float(np.linalg.norm(g)) for g in against.values())
    for which, gradient in gradients.items():
        assert relative(gradient, against[which], 0.1 + 0.1 * largest) < TOLERANCE[dtype], which


def test_outputs_are_kept_unrounded_where_gradients_need_them() -> None:
    _, sizes = arguments("scaled_rows_columns")
    for name, dtype, kept in (
        ("scaled_rows_columns", "bf16", True), ("scaled_rows_columns", "f32", False), ("multi_query", "bf16", False),
    ):  # fmt: skip
        program = compiled(name, sizes, dtype=dtype)
        saved = program.built({n: sizes[n] for n in program.features}).compiled.forward.plan.saved
        assert ("o.unrounded" in saved) == kept, (name, dtype, saved)


def test_latent_attention_is_the_same_expanded_and_absorbed() -> None:
    values, sizes = arguments("latent_expanded")
    expanded, absorbed = (
        compiled(name, sizes, target="reference").forward(**values) for name in ("latent_expanded", "latent_absorbed")
    )
    assert relative(absorbed.outputs["o"], expanded.outputs["o"]) < 1e-13
    cotangent = np.random.default_rng(4).standard_normal(expanded.outputs["o"].shape)
    wanted = expanded.backward(o=cotangent)
    for which, gradient in absorbed.backward(o=cotangent).items():
        assert relative(gradient, wanted[which]) < 1e-12, which


@pytest.mark.parametrize("name", NAMES)
def test_no_tensor_of_pairs_reaches_memory(name: str) -> None:
    """Over 4096 tokens nothing is planned that is much larger than the largest argument."""
    _, sizes = arguments(name)
    program = compiled(name, sizes)
    plans = program.built({n: sizes[n] for n in program.features}).compiled
    long = sizes | {n: 4096 for n in ("S", "Sq", "Sk") if n in sizes} | {CHUNKS.name: 2}

    def elements(shape: tuple[Any, ...]) -> float:
        return float(np.prod([float(size_value(s, long)) for s in shape]))

    most = max(elements(n.shape) for n in plans.forward_graph.inputs)
    assert all(run.plan.tensors for run in plans.runs)
    for fused in plans.runs:
        for tensor in fused.plan.tensors:
            assert elements(tensor.shape) <= 4 * most, tensor.name
