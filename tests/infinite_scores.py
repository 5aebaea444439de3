"""Rows that hold a score of +inf: what a softmax is there, and its logsumexp, as the interpreter has them.

Every row of the first heads is another case; the last head has such scores only where no pair is.
"""

from __future__ import annotations

import numpy as np

import irc
from tests.test_kernels import DTYPE, TOLERANCE, Arrays, arrays, relative, widened

SPEC = """
attention infinite {
  size B, H, G, Sq, Sk, D, V
  input q[B,H,Sq,D], k[B,G,Sk,D], v[B,G,Sk,V], t[H,Sq,Sk]
  assume H % G == 0
  core o[b,h,i,d], lse[b,h,i] {
    align last
    score q[b,h,i,c] * k[b, h // (H // G), j, c]
    scale 1 / sqrt(D)
    bias t[h,i,j]
    allow j <= pos(i)
    softmax j
    matmul v[b, h // (H // G), j, d]
  }
  return o, lse
}
"""
SINK = SPEC.replace("t[H,Sq,Sk]", "t[H,Sq,Sk]\n  param s[H]").replace("softmax j", "softmax j with s[h]")
SPECS = {"plain": SPEC, "sink": SINK, "all pairs": SPEC.replace("allow j <= pos(i)", "")}
CASES = ("one", "first", "last", "several", "every", "lowest", "nan", "none")


def spoil(row: np.ndarray, last: int, case: str, rng: np.random.Generator) -> None:
    """Write the case into a row's scores up to the last that exists."""
    places = rng.permutation(last + 1)
    match case:
        case "one":
            row[places[0]] = np.inf
        case "first":
            row[0] = np.inf
        case "last":
            row[last] = np.inf
        case "several":
            row[places[:5]] = np.inf
        case "every":
            row[: last + 1] = np.inf
        case "lowest":  # the others are -inf
            row[: last + 1] = -np.inf
            row[places[0]] = np.inf
        case "nan":
            row[places[:2]] = np.inf, np.nan


def given(name: str, sizes: dict[str, int], dtype: str, seed: int = 0) -> Arrays:
    """Arguments of four heads in two groups: NaN is in the third head alone, so that it reaches no key of the first group."""
    rng = np.random.default_rng(seed)
    made = arrays(irc.compile(SPECS[name], target="reference"), sizes, rng, dtype)
    heads, rows, keys = made["t"].shape
    for h in range(heads):
        for i in range(rows):
            last = keys - 1 if name == "all pairs" else keys - rows + i
            made["t"][h, i, last + 1 :] = (np.inf, np.nan)[i % 2]  # pairs that do not exist
            case = CASES[(i + h) % len(CASES)]
            if h < 3 and last >= 0 and (case != "nan" or h == 2):
                spoil(made["t"][h, i], last, case, rng)
    if "s" in made:
        made["s"][:] = 0.5, np.inf, -np.inf, np.inf
    return made


def agree(got: np.ndarray, expected: np.ndarray, tolerance: float, name: str) -> None:
    got = np.asarray(got, np.float64)
    for kind in (np.isnan, np.isposinf, np.isneginf):
        np.testing.assert_array_equal(kind(got), kind(expected), f"{kind.__name__} of {name}")
    finite = np.isfinite(expected)
    assert relative(got[finite], expected[finite]) < tolerance, name


def assert_agree(name: str, sizes: dict[str, int], dtype: str, target: str) -> irc.Program:
    """Outputs and gradients, NaN and infinities in place, are the interpreter's."""
    program, reference = irc.compile(SPECS[name], dtype=dtype, target=target), irc.compile(SPECS[name], target="reference")
    made = given(name, sizes, dtype)
    rng = np.random.default_rng(1)
    with np.errstate(all="ignore"):
        run, expected = program.forward(**made), reference.forward(**widened(made))
        assert np.isposinf(expected.outputs["lse"]).any() and np.isnan(expected.outputs["lse"]).any()
        for output, wanted in expected.outputs.items():
            agree(run.outputs[output], wanted, TOLERANCE[dtype], output)
        cotangents = {n: rng.standard_normal(a.shape).astype(DTYPE[dtype]) for n, a in expected.outputs.items()}
        cotangents["lse"] = cotangents["lse"].astype(run.outputs["lse"].dtype)
        gradients = run.backward(**cotangents)
        for name, wanted in expected.backward(**widened(cotangents)).items():
            agree(gradients[name], wanted, 3 * TOLERANCE[dtype], f"the gradient of {name}")
    return program
