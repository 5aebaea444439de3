"""The lines on JAX in docs/pytorch.md, against JAX's own formula."""

from __future__ import annotations

import re
from pathlib import Path

import jax
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def test_the_lines_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (code,) = re.findall(r"```python\n(import jax.*?)```", (ROOT / "docs" / "pytorch.md").read_text("utf-8"), re.DOTALL)
    given: dict[str, object] = {}
    exec(code, given)
    draw = np.random.default_rng(0)
    q, k, v = (draw.standard_normal((2, 17, 3, 8)).astype(np.float32) for _ in range(3))

    def ours(q, k, v):
        heads = (x.swapaxes(1, 2) for x in (q, k, v))
        return (given["attention"](*heads).swapaxes(1, 2) ** 2).sum()

    def theirs(q, k, v):
        return (jax.nn.dot_product_attention(q, k, v, is_causal=True) ** 2).sum()

    made, wanted = (jax.jit(jax.value_and_grad(f, (0, 1, 2)))(q, k, v) for f in (ours, theirs))
    for a, b in zip(jax.tree.leaves(made), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
