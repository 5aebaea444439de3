"""Rows that hold a score of inf: what a softmax is there, and its logsumexp, as the interpreter has them.

Every row of the first heads is another case; the last head has such scores only where no pair is.
"""

from __future__ import annotations

import numpy as np

import irc
from tests.test_kernels import DTYPE, TOLERANCE, Arrays, arrays, relative, widened

CAUSAL = """
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
SINK = CAUSAL.replace("t[H,Sq,Sk]", "t[H,Sq,Sk]\n  param s[H]").replace("softmax j", "softmax j with s[h]")
PROGRAMS = {
    "causal": CAUSAL,
    "full": CAUSAL.replace("allow j <= pos(i)", ""),
    "sink": SINK,
    "max": SINK.replace("matmul", "stat m[b,h,i] = max\n matmul").replace("o, lse\n", "o, lse, m\n"),
    "map": CAUSAL.replace("softmax j", "softmax j\n map where(j % 2 == 0, weight, 0)"),
}
CASES = ("one", "first", "last", "several", "all", "others are -inf", "NaN too", "finite")


def spoil(scores: np.ndarray, case: str, rng: np.random.Generator) -> None:
    """Write the case into what a row adds to its scores."""
    places = rng.permutation(len(scores))
    match case:
        case "one":
            scores[places[0]] = np.inf
        case "first":
            scores[0] = np.inf
        case "last":
            scores[-1] = np.inf
        case "several":
            scores[places[:5]] = np.inf
        case "all":
            scores[:] = np.inf
        case "others are -inf":
            scores[:] = -np.inf
            scores[places[0]] = np.inf
        case "NaN too":
            scores[places[:2]] = (np.inf, np.nan)[: len(places)]


def given(name: str, sizes: dict[str, int], dtype: str) -> tuple[Arrays, np.ndarray]:
    """Arguments of four heads in two groups, and which rows [H, Sq] hold finite scores alone. NaN is in the third head
    alone, so that it reaches no gradient of the first group."""
    rng = np.random.default_rng(0)
    made = arrays(irc.compile(PROGRAMS[name], target="reference"), sizes, rng, dtype)
    heads, rows, keys = made["t"].shape
    finite = np.ones((heads, rows), np.bool_)
    for h, i in np.ndindex(heads, rows):
        end = keys if name == "full" else max(keys - rows + i + 1, 0)
        made["t"][h, i, end:] = (np.inf, np.nan)[i % 2]  # of pairs that do not exist
        case = CASES[(i + h) % len(CASES)]
        if end > 0 and h < 3 and (case != "NaN too" or h == 2):
            spoil(made["t"][h, i, :end], case, rng)
            finite[h, i] = case == "finite"
    if "s" in made:
        made["s"][:] = 0.5, np.inf, -np.inf, np.nan
    return made, finite


def agree(got: np.ndarray, expected: np.ndarray, tolerance: float, what: str) -> None:
    """NaN and infinities are in the same places, and the rest is near."""
    got = np.asarray(got, np.float64)
    for kind in (np.isnan, np.isposinf, np.isneginf):
        np.testing.assert_array_equal(kind(got), kind(expected), f"{kind.__name__} of {what}")
    finite = np.isfinite(expected)
    assert relative(got[finite], expected[finite]) < tolerance, what


def assert_agree(name: str, rows: int, keys: int, dtype: str, target: str) -> None:
    """Outputs and gradients are the interpreter's."""
    program, reference = (irc.compile(PROGRAMS[name], dtype=dtype, target=t) for t in (target, "reference"))
    made, _ = given(name, {"B": 2, "H": 4, "G": 2, "Sq": rows, "Sk": keys, "D": 16, "V": 48}, dtype)
    with np.errstate(all="ignore"):
        run, expected = program.forward(**made), reference.forward(**widened(made))
        for output, wanted in expected.outputs.items():
            agree(run.outputs[output], wanted, TOLERANCE[dtype], output)
        lse = expected.outputs["lse"]
        assert np.isposinf(lse).any() and np.isnan(lse).any() and np.isfinite(lse).any()
        rng = np.random.default_rng(1)
        cotangents = {n: rng.standard_normal(a.shape).astype(a.dtype) for n, a in run.outputs.items()}
        gradients = run.backward(**cotangents)
        for of, wanted in expected.backward(**widened(cotangents)).items():
            agree(gradients[of], wanted, 3 * TOLERANCE[dtype], f"the gradient of {of}")


def assert_finite_rows_keep_their_bits(rows: int, keys: int, dtype: str, target: str) -> None:
    """Rows share tiles with those that hold infinite scores, and know nothing of them."""
    program = irc.compile(CAUSAL, dtype=dtype, target=target)
    made, finite = given("causal", {"B": 1, "H": 4, "G": 2, "Sq": rows, "Sk": keys, "D": 16, "V": 48}, dtype)
    tame = {**made, "t": np.where(np.isfinite(made["t"]), made["t"], DTYPE[dtype](0))}
    for one, other in zip(program(**made), program(**tame), strict=True):
        assert np.array_equal(one[:, finite], other[:, finite])
