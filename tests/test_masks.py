"""Every mask of the gallery: kernels, forward and backward, against dense attention in numpy."""

from __future__ import annotations

import numpy as np
import pytest

import irc
from irc.codegen.expr import Kind
from irc.graph.interpret import size_value
from tests.masks import CASES, FOLDER, allowed, graph
from tests.test_kernels import relative

NAMES = sorted(path.stem for path in FOLDER.glob("*.attn"))
UNTOLD = ("T", "Y", "X", "P", "R", "M")  # sizes that no shape tells, where a program has them in a product or a sum


def dense(q, k, v, mask, do):  # type: ignore[no-untyped-def]
    """Output and gradients for q, k, v [B,H,S,D] in float64, by the textbook."""
    scale = q.shape[-1] ** -0.5
    score = np.where(mask, np.einsum("bhic,bhjc->bhij", q, k) * scale, -np.inf)
    top = np.maximum(score.max(-1, keepdims=True, initial=-np.inf), -1e300)
    weight = np.exp(score - top)
    weight /= np.maximum(weight.sum(-1, keepdims=True), 1e-300)
    dweight = np.einsum("bhid,bhjd->bhij", do, v)
    dscore = weight * (dweight - (weight * dweight).sum(-1, keepdims=True)) * scale
    return (
        weight @ v,
        {
            "q": np.einsum("bhij,bhjc->bhic", dscore, k),
            "k": np.einsum("bhij,bhic->bhjc", dscore, q),
            "v": np.einsum("bhij,bhid->bhjd", weight, do),
        },
    )


def test_the_gallery_and_its_formulas_are_the_same_set() -> None:
    assert set(NAMES) == set(CASES)


@pytest.mark.optimise("-O0")
@pytest.mark.parametrize("name", NAMES)
def test_mask(name: str) -> None:
    case, rng = CASES[name], np.random.default_rng(5)
    values = case.values(rng, dict(case.sizes))
    inputs = {n.name: n for n in graph(name).inputs if n.kind is Kind.FLOAT}
    arrays = {
        n: rng.standard_normal(tuple(size_value(s, case.sizes) for s in node.shape)).astype(np.float32)
        for n, node in inputs.items()
    }
    program = irc.compile(FOLDER / f"{name}.attn", sizes={n: case.sizes[n] for n in UNTOLD if n in case.sizes})
    run = program.forward(**arrays, **values)
    do = rng.standard_normal(run.outputs["o"].shape).astype(np.float32)
    gradients = run.backward(o=do)

    packed = arrays["q"].ndim == 3  # [T,H,D]

    def heads_first(a):  # type: ignore[no-untyped-def]
        return np.swapaxes(a, 0, 1)[None] if packed else a

    wide = {n: heads_first(a.astype(np.float64)) for n, a in (arrays | {"do": do}).items()}
    mask = allowed(name, case.sizes, values, wide["q"].shape[2], wide["k"].shape[2])
    output, expected = dense(wide["q"], wide["k"], wide["v"], mask, wide["do"])
    assert relative(heads_first(run.outputs["o"]), output) < 5e-6
    for which, gradient in gradients.items():
        assert relative(heads_first(gradient), expected[which]) < 1.5e-5, which
