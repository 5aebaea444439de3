"""The form of tile kernels for few rows against the interpreter, and what the language means, kept by it."""

from __future__ import annotations

import re

import numpy as np
import pytest

import irc
from irc.codegen import stream
from tests.cases import CASES, text
from tests.test_kernels import DTYPE, TOLERANCE, Arrays, arrays, both, relative, widened

LONG = 2 * stream.COLUMNS_OF_A_PART + 37  # keys of two parts, the last of which ends inside a tile


def sizes(rows: int, keys: int, heads: int = 4, groups: int = 2, width: int = 16) -> dict[str, int]:
    return {"B": 2, "H": heads, "G": groups, "Sq": rows, "Sk": keys, "D": width, "V": width + 24}


def forms(program: irc.Program) -> list[str]:
    """Kernels of a program that has been called which have the form."""
    return re.findall(r"IRC_FORM void (\w+)_of_few_rows\(void \*const \*data", program.source)


@pytest.mark.parametrize("rows", [1, 2, 5, 16, 17])
@pytest.mark.parametrize("name", CASES)
def test_few_rows_agree_with_the_interpreter(name: str, rows: int) -> None:
    """Caps of 0.01 and scores of some hundreds by steep slopes are among what is drawn: f32 PyTorch keeps the bound."""
    rng = np.random.default_rng(rows)
    for keys in (1, 63, 64, 203):
        of = sizes(rows, max(keys, rows))
        both(text(name), arrays(irc.compile(text(name), target="reference"), of, rng), "f32", rng)


@pytest.mark.parametrize(
    "heads, groups, width", [(1, 1, 16), (3, 3, 16), (6, 2, 1), (6, 2, 40), (8, 1, 64), (12, 2, 16), (64, 1, 16)]
)
def test_heads_of_a_group_are_walked_together(heads: int, groups: int, width: int) -> None:
    rng = np.random.default_rng(heads)
    program = irc.compile(text("sink"), target="reference")
    both(text("sink"), arrays(program, sizes(3, 130, heads, groups, width), rng), "f32", rng)


@pytest.mark.parametrize("dtype", DTYPE)
@pytest.mark.parametrize("name", ["causal", "sink", "entropy"])
def test_element_types_and_keys_of_several_parts(name: str, dtype: str) -> None:
    rng = np.random.default_rng(3)
    program = irc.compile(text(name), dtype=dtype)
    inputs = arrays(program, sizes(2, LONG), rng, dtype)
    expected = irc.compile(text(name), target="reference").forward(**widened(inputs))
    for output, array in program.forward(**inputs).outputs.items():
        assert relative(array, expected.outputs[output]) < TOLERANCE[dtype], output


def test_no_bit_depends_on_threads_or_on_other_batch_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    program = irc.compile(text("sink"))
    inputs = arrays(program, sizes(2, LONG), rng)
    monkeypatch.setenv("IRC_THREADS", "1")
    first = program.forward(**inputs).outputs
    for threads in ("2", "3"):
        monkeypatch.setenv("IRC_THREADS", threads)
        again = program.forward(**inputs).outputs
        assert all(np.array_equal(first[n], again[n]) for n in first)
    alone = program.forward(**{n: a[1:] if a.ndim == 4 else a for n, a in inputs.items()}).outputs
    assert all(np.array_equal(first[n][1:], alone[n]) for n in first)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("beside", ["kv", "k", "v"])
def test_heads_side_by_side_give_the_bits_of_heads_apart(
    beside: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread walks all four together, two walk pairs, nine walk each alone; where keys lie side by side."""
    rng = np.random.default_rng(11)
    program = irc.compile(text("sink"), dtype=dtype)
    apart = arrays(program, sizes(2, LONG, 8, 4), rng, dtype)
    together = {
        n: np.ascontiguousarray(a.swapaxes(1, 2)).swapaxes(1, 2) if n in beside else a for n, a in apart.items()
    }
    expected = program.forward(**apart).outputs
    assert "std::abs(1 * k_s1)" in program.source
    for threads in ("1", "2", "9"):
        monkeypatch.setenv("IRC_THREADS", threads)
        found = program.forward(**together).outputs
        assert all(np.array_equal(expected[n], found[n]) for n in expected)


MASKED = """
attention masked {
  size B, H, G, Sq, Sk, D
  input q[B,H,Sq,D], k[B,G,Sk,D], v[B,G,Sk,D]
  const t[Sk]
  input seen[B,Sq,Sk]: bool
  assume H % G == 0
  core o[b,h,i,d], lse[b,h,i] over j: Sk {
    align first
    score q[b,h,i,c] * k[b, h // (H // G), j, c]
    bias t[j]
    allow MASK
    softmax j
    matmul v[b, h // (H // G), j, d]
    stat best[b,h,i] = argmax
  }
  return o, lse, best
}
"""
MASKS = {
    "table": "seen[b,i,j]",
    "even": "j % 2 == 0 and seen[b,i,j]",
    "near": "j <= i + 70 and j > i + 1",
    "none": "j < 0",
}


def masked(name: str, rng: np.random.Generator, keys: int = 203, dtype: str = "f32") -> tuple[irc.Program, str, Arrays]:
    spec = MASKED.replace("MASK", MASKS[name])
    program = irc.compile(spec, dtype=dtype)
    inputs: Arrays = arrays(program, sizes(3, keys), rng, dtype)
    inputs["seen"] = rng.random((2, 3, keys)) < 0.3
    inputs["seen"][0, 1] = False  # a row without keys
    inputs["seen"][..., 5] = False  # a key that no row sees
    return program, spec, inputs


@pytest.mark.parametrize("name, dtype", [*((name, "f32") for name in MASKS), *(("table", dtype) for dtype in DTYPE)])
def test_masks_and_rows_without_keys(name: str, dtype: str) -> None:
    rng = np.random.default_rng(5)
    program, spec, inputs = masked(name, rng, dtype=dtype)
    run = program.forward(**inputs)
    assert forms(program)
    expected = irc.compile(spec, target="reference").forward(
        **{n: a if a.dtype == bool else widened({n: a})[n] for n, a in inputs.items()}
    )
    for output, array in expected.outputs.items():
        assert relative(run.outputs[output], array) < TOLERANCE[dtype], output
    empty = np.isneginf(expected.outputs["lse"])
    assert name not in ("table", "none") or empty.any()
    assert not run.outputs["o"][empty].any()


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["table", "even"])
def test_blocked_values_that_are_not_finite_change_no_bit(name: str, poison: float) -> None:
    rng = np.random.default_rng(6)
    program, _, inputs = masked(name, rng)
    poisoned = {n: a.copy() for n, a in inputs.items()}
    poisoned["k"][:, :, 5] = poisoned["v"][:, :, 5, 3:] = poison
    poisoned["t"][5] = poison
    one, other = program.forward(**inputs).outputs, program.forward(**poisoned).outputs
    assert all(np.array_equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_what_is_not_finite_reaches_every_row_that_sees_it_and_no_other(poison: float) -> None:
    rng = np.random.default_rng(7)
    program, spec, inputs = masked("table", rng)
    inputs["seen"][:, :, 70] = [[True, False, False], [False, True, False]]
    inputs["v"][:, :, 70, 2] = poison
    run = program.forward(**inputs).outputs["o"]
    with np.errstate(all="ignore"):
        expected = irc.compile(spec, target="reference").forward(
            **{n: a if a.dtype == bool else a.astype(np.float64) for n, a in inputs.items()}
        )
    np.testing.assert_allclose(run, expected.outputs["o"], rtol=1e-4, atol=1e-5)
    assert not np.isfinite(run[0, :, 0, 2]).any() and np.isfinite(run[0, :, 2]).all()


def test_scores_of_minus_infinity_are_keys() -> None:
    """A row whose scores are all -inf gives NaN, one without keys 0."""
    rng = np.random.default_rng(8)
    program, _, inputs = masked("table", rng)
    inputs["t"][:] = -np.inf
    run = program.forward(**inputs).outputs["o"]
    assert np.isnan(run[0, :, 0]).all() and np.isnan(run[0, :, 2]).all() and not run[0, :, 1].any()


def test_heads_whose_masks_differ_are_walked_apart() -> None:
    rng = np.random.default_rng(9)
    spec = (
        text("causal")
        .replace("assume", "input w[H]: int\n  assume")
        .replace("allow j", "allow pos(i) - w[h] < j and j")
    )
    inputs = arrays(irc.compile(text("causal")), sizes(2, 300), rng)
    inputs["w"] = np.array([1, 40, 130, 300], np.int32)
    both(spec, inputs, "f32", rng)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_a_cache_in_pages_gives_the_bits_of_a_contiguous_one(dtype: str) -> None:
    from benchmarks.peers.ours import DECODE, PAGED

    rng = np.random.default_rng(10)
    b, h, g, s, d, r = 2, 8, 2, 208, 24, 16
    q, k, v = (rng.standard_normal((b, n, m, d)).astype(DTYPE[dtype]) for n, m in ((h, 1), (g, s), (g, s)))
    pages = s // r
    page = rng.permutation(b * pages).astype(np.int32)

    def pool(cache: np.ndarray) -> np.ndarray:
        laid = np.empty((b * pages, r, g, d), cache.dtype)
        laid[page] = cache.reshape(b, g, pages, r, d).transpose(0, 2, 3, 1, 4).reshape(laid.shape)
        return laid

    paged = irc.compile(PAGED, dtype=dtype)
    length = np.full(b, s, np.int32)
    whole = irc.compile(DECODE, dtype=dtype)(q=q, k=k, v=v)
    parts = paged(q=q, k=pool(k), v=pool(v), page=page.reshape(b, pages), len=length)
    assert forms(paged)
    assert np.array_equal(whole, parts)


QUANTISED = """
attention quantised {
  size B, H, G, T, N, P, R, D
  input q[B,H,T,D], kp[N,R,G,D]: int, vp[N,R,G,D]: int, page[B,P]: int, len[B]: int
  const ks[N,G], vs[N,G]
  assume H % G == 0, 0 <= page[b,p] < N, T <= len[b] <= P * R
  core o[b,h,i,d] over j: P * R {
    let n = page[b, j // R]
    let g = h // (H // G)
    align offset len[b] - T
    score q[b,h,i,c] * kp[n, j % R, g, c]
    scale ks[n,g] / sqrt(D)
    allow j <= pos(i)
    softmax j
    matmul vs[n,g] * vp[n, j % R, g, d]
  }
  return o
  ensure rows nonempty
}
"""


def test_features_of_a_quantised_cache_in_pages_look_nothing_up() -> None:
    """A token's page, and where in it the token lies, are told once, not for each feature."""
    rng = np.random.default_rng(11)
    inputs = {name: rng.integers(-127, 128, (7, 4, 2, 8)).astype(np.int32) for name in ("kp", "vp")}
    inputs |= {name: rng.random((7, 2)).astype(np.float32) for name in ("ks", "vs")}
    inputs |= {"q": rng.standard_normal((2, 4, 1, 8)).astype(np.float32), "len": np.array([9, 12], np.int32)}
    inputs["page"] = np.array([[5, 0, 3], [1, 6, 5]], np.int32)
    both(QUANTISED, inputs, "f32", rng)
    features = re.findall(r"\*to\+\+ = (.*)", irc.compile(QUANTISED, sizes={"D": 8, "R": 4}).source)
    assert features and not any("page_ptr" in line or "mod" in line for line in features)


def test_only_kernels_of_sides_that_differ_in_size_have_the_form() -> None:
    known = {"D": 16, "V": 40}
    square = text("causal").replace("Sq, Sk", "S").replace("Sq", "S").replace("Sk", "S")
    assert forms(irc.compile(text("causal"), sizes=known)) and not forms(irc.compile(square, sizes=known))
    assert not forms(irc.compile(text("max"), sizes=known))  # its gradient looks for the bits of the maximum
    assert not forms(irc.compile(text("causal"), sizes={**known, "Sq": stream.MOST_ROWS + 1}))


def test_where_rows_are_a_multiple_of_the_columns_few_rows_are_fewer_columns() -> None:
    blocks = """
    attention blocks {
      size   B, N, D, S = N * 4
      input  q[B,S,D], k[B,N,D], v[B,N,D]
      core o[b,i,d] {
        score  q[b,i,c] * k[b,j,c]
        softmax j
        matmul v[b,j,d]
      }
      return o
    }
    """
    assert not forms(irc.compile(blocks, sizes={"D": 16}))
    assert forms(irc.compile(blocks.replace("S = N * 4", "S"), sizes={"D": 16}))


def test_all_heads_in_one_group_of_sizes_that_are_known() -> None:
    text = """
    attention grouped {
      size H, G, Sq, Sk, D
      input q[H,Sq,D], k[G,Sk,D], v[G,Sk,D]
      assume H % G == 0
      core o[h,i,d] {
        score q[h,i,c] * k[h // (H // G),j,c]
        softmax j
        matmul v[h // (H // G),j,d]
      }
      return o
    }
    """
    rng = np.random.default_rng(10)
    inputs = {
        n: rng.standard_normal((h, s, 8)).astype(np.float32) for n, h, s in (("q", 2, 3), ("k", 1, 40), ("v", 1, 40))
    }
    both(text, inputs, "f32", rng, {"H": 2, "G": 1, "D": 8})


def test_features_as_many_as_a_picture_has_pixels() -> None:
    """Rows of which no stack holds some are multiplied in tiles."""
    spec = """attention channels {
  size  C, K, D
  input q[C,D], k[K,D], v[K,D]
  core o[i,d] {
    score  q[i,c] * k[j,c]
    scale  1 / D
    softmax j
    matmul v[j,d]
  }
  return o
}"""
    rng = np.random.default_rng(1)
    q, k = (rng.standard_normal((n, 1 << 20)).astype(np.float32) for n in (2, 3))
    scores = q.astype(np.float64) @ k.astype(np.float64).T / q.shape[1]
    weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert np.allclose(irc.compile(spec)(q=q, k=k, v=k), weights @ k, atol=1e-4)
