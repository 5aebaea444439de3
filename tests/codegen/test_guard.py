"""Blocked non-finite operands: no bit changes, whichever tokens hold them and wherever in a tile they lie."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import irc

SPEC = """
attention core {
  size B, H, S, D, E
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,E], real[B,S]: bool
  core o[b,h,i,d], lse[b,h,i] {
    score q[b,h,i,c] * k[b,h,j,c]
    allow real[b,i] and real[b,j] and j <= i
    softmax j
    matmul v[b,h,j,d]
  }
  return o, lse
}
"""


def holes(kind: str, s: int, rng: np.random.Generator) -> np.ndarray:
    """Which tokens exist, [S]."""
    place = np.arange(s)
    match kind:
        case "tail":
            return place < s - 37
        case "head":
            return place >= 53
        case "scattered":
            return rng.random(s) < 0.8
        case _:
            return place % 2 == 0


@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16"])
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["tail", "head", "scattered", "alternating"])
def test_tokens_that_do_not_exist_change_no_bit(kind: str, poison: float, dtype: str) -> None:
    no_bit_changes(kind, poison, dtype, 16, 24)


def no_bit_changes(kind: str, poison: float, dtype: str, d: int, e: int) -> None:
    rng = np.random.default_rng(3)
    b, h, s = 2, 2, 301
    kinds = {"f32": np.float32, "f64": np.float64, "bf16": ml_dtypes.bfloat16}
    real = np.stack([holes(kind, s, rng) for _ in range(b)])
    shapes = {"q": d, "k": d, "v": e, "do": e}
    clean = {n: rng.standard_normal((b, h, s, width)).astype(kinds[dtype]) for n, width in shapes.items()}
    dirty = {n: np.where(real[:, None, :, None], a, kinds[dtype](poison)) for n, a in clean.items()}
    program = irc.compile(SPEC, sizes={"D": d, "E": e}, dtype=dtype)
    results = []
    for given in (clean, dirty):
        run = program.forward(q=given["q"], k=given["k"], v=given["v"], real=real)
        gradients = run.backward(o=given["do"])
        results.append({**run.outputs, **gradients})
    for name, value in results[0].items():
        assert value.tobytes() == results[1][name].tobytes(), name
    assert all((results[1][n][~np.broadcast_to(real[:, None], (b, h, s))] == 0).all() for n in ("o", "q", "k", "v"))
