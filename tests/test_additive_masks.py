"""Masks that are added to scores, as a tensor of 0 and of a number far below: whatever number, rows in which all keys
have it, as where a batch is padded on the left, are as the softmax of such numbers is, and their gradients are."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import irc
from irc.codegen import stream
from tests.test_kernels import DTYPE

SPEC = """
attention padded {
  size B, H, Sq, Sk, D
  input q[B,H,Sq,D], k[B,H,Sk,D], v[B,H,Sk,D], mask[MASK]
  core o[b,h,i,d], lse[b,h,i] {
    align  last
    score  q[b,h,i,c] * k[b,h,j,c]
    scale  1 / sqrt(D)
    bias   mask[AT]
    softmax j
    matmul v[b,h,j,d]
  }
  return o, lse
}
"""
OF_PAIRS, OF_KEYS, OF_QUERIES = ("B,Sq,Sk", "b,i,j"), ("B,Sk", "b,j"), ("B,Sq", "b,i")
CASES = [
    *(("f32", "cpu", of) for of in (OF_PAIRS, OF_KEYS, OF_QUERIES)),
    *((dtype, "cpu", OF_PAIRS) for dtype in ("f64", "bf16", "f16")),
    ("f32", "emulator", OF_QUERIES),
    ("bf16", "emulator", OF_KEYS),
]
SIZES = [(70, 70), (1, 130), (3, 2 * stream.COLUMNS_OF_A_PART + 37)]
FAR = {dtype: float(ml_dtypes.finfo(DTYPE[dtype]).min) for dtype in ("f32", "f64", "bf16", "f16")}
ERROR = {"f32": 5e-6, "f64": 1e-14, "bf16": 2e-2, "f16": 3e-3}


def expected(a: dict[str, Any]) -> dict[str, np.ndarray]:
    """The formula, in float64; of numbers so far apart that a float keeps the mask's alone, as eager programs do."""
    q, k, v, do, dlse = (np.asarray(a[n], np.float64) for n in ("q", "k", "v", "do", "dlse"))
    mask = np.asarray(a["mask"], np.float64)
    if mask.ndim == 2:
        mask = mask[..., None] if a["of"] == OF_QUERIES else mask[:, None]
    mask = mask[:, None]
    kind = np.float64 if a["q"].dtype == np.float64 else np.float32
    score = ((q @ k.swapaxes(2, 3) / np.sqrt(q.shape[-1])).astype(kind) + mask.astype(kind)).astype(np.float64)
    highest = score.max(-1, keepdims=True)
    p = np.exp(score - highest)
    total = p.sum(-1, keepdims=True)
    p, lse = p / total, (highest + np.log(total))[..., 0]
    o = p @ v
    dp = do @ v.swapaxes(2, 3)
    ds = p * (dp - (do * o).sum(-1, keepdims=True) + dlse[..., None]) / np.sqrt(q.shape[-1])
    return {"o": o, "lse": lse, "q": ds @ k, "k": ds.swapaxes(2, 3) @ q, "v": p.swapaxes(2, 3) @ do}


def close(got: Any, want: np.ndarray, error: float) -> bool:
    largest = abs(want).max()
    return bool(
        np.linalg.norm(np.asarray(got, np.float64) / largest - want / largest) <= error * np.linalg.norm(want / largest)
    )


@pytest.mark.parametrize("queries, keys", SIZES)
@pytest.mark.parametrize("far", ["least", -1e9])
@pytest.mark.parametrize("dtype, target, of", CASES)
def test_rows_that_are_masked_throughout(
    dtype: str, target: str, far: float | str, of: tuple[str, str], queries: int, keys: int
) -> None:
    rng, kind = np.random.default_rng(1), DTYPE[dtype]
    number = FAR[dtype] if far == "least" else max(FAR[dtype], float(far))
    padding = np.array([0, 20, keys])  # all keys of the last entry
    blocked = np.arange(keys) < padding[:, None]
    if of == OF_QUERIES:
        blocked = np.arange(queries) < padding[:, None]
    if of == OF_PAIRS:
        blocked = blocked[:, None] | (np.arange(keys) > np.arange(queries)[:, None] + keys - queries)
    rows = {"q": queries, "k": keys, "v": keys, "do": queries}
    a = {name: rng.standard_normal((3, 2, n, 16)).astype(kind) for name, n in rows.items()}
    a |= {"mask": np.where(blocked, number, 0).astype(kind), "dlse": rng.standard_normal((3, 2, queries)).astype(kind)}
    program = irc.compile(SPEC.replace("MASK", of[0]).replace("AT", of[1]), dtype=dtype, target=target)
    run = program.forward(**{n: a[n] for n in ("q", "k", "v", "mask")})
    gradients = run.backward(o=a["do"], lse=a["dlse"].astype(run.outputs["lse"].dtype))
    for name, want in expected(a | {"of": of}).items():
        got = run.outputs[name] if name in run.outputs else gradients[name]
        assert np.isfinite(np.asarray(got, np.float64)).all(), name
        assert close(got, want, ERROR[dtype]), name


@pytest.mark.parametrize("queries, keys", SIZES)
@pytest.mark.parametrize("dtype, target", [("f32", "cpu"), ("bf16", "cpu"), ("f32", "emulator"), ("bf16", "emulator")])
def test_what_is_made_of_weights_in_such_rows(dtype: str, target: str, queries: int, keys: int) -> None:
    rng, kind = np.random.default_rng(1), DTYPE[dtype]
    rows = {"q": queries, "k": keys, "v": keys}
    a = {name: rng.standard_normal((3, 2, n, 16)).astype(kind) for name, n in rows.items()}
    spec = (
        SPEC.replace("softmax j\n", "softmax j\n    map    weight ^ 2\n").replace("MASK", "B,Sk").replace("AT", "b,j")
    )
    o, _ = irc.compile(spec, dtype=dtype, target=target)(**a, mask=np.full((3, keys), -1e9, kind))
    want = np.asarray(a["v"], np.float64).mean(2, keepdims=True) / keys
    assert close(o, np.broadcast_to(want, o.shape), ERROR[dtype])
