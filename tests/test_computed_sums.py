"""Gradients of what a bias is computed with for each pair: sums over tokens, of which none is a product."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import irc
from irc.codegen.expr import Op, walk
from irc.codegen.kernel import ColumnSums, RowSums, TileKernel
from irc.codegen.mirror import mirror
from irc.codegen.tiles import tile_text
from irc.graph.ir import bodies
from tests.codegen.test_forms import WITHOUT, compile_without
from tests.test_kernels import arrays, both

VARIANTS = Path(__file__).parent.parent / "examples" / "variants"
# Of all tokens, of each query, and of each key.
SPEC = """
attention hidden {
  size B, H, S, D, M
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D], far[B,S,M], near[B,S,M]
  param w[M], out[H,M]
  core o[b,h,i,d] {
    let t = (i - 2 * j) / 64.0
    score q[b,h,i,c] * k[b,h,j,c]
    scale 1 / sqrt(D)
    bias sum(m: out[h,m] * max(w[m] * t, 0))
    bias sum(m: far[b,i,m] * tanh(w[m] * t) + near[b,j,m] * t)
    MASK
    softmax j
    matmul v[b,h,j,d]
  }
  return o
}
"""
SIZES = {"B": 2, "H": 2, "S": 150, "D": 8, "M": 5}


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("mask", ["", "allow j <= i", "allow abs(i - j) < 20"])
def test_kernels_agree_with_the_interpreter(mask: str, dtype: str) -> None:
    rng = np.random.default_rng(1)
    text = SPEC.replace("MASK", mask)
    inputs = arrays(irc.compile(text, target="reference"), SIZES, rng, dtype)
    both(text, inputs, dtype, rng)
    program = irc.compile(text, dtype=dtype, sizes={n: SIZES[n] for n in ("D", "M")})
    kernels = [kernel for kernel in program.kernels if isinstance(kernel, TileKernel)]
    assert all(kernel.order != "elements" for kernel in kernels)
    assert sum(isinstance(step, RowSums | ColumnSums) for kernel in kernels for step in kernel.body) >= 4


def test_blocked_pairs_are_not_computed_with() -> None:
    """The logarithm of a negative distance is no number."""
    sizes = {"B": 1, "H": 2, "S": 70, "D": 8, "M": 6}
    rng = np.random.default_rng(2)
    fire = VARIANTS / "fire.attn"
    inputs = arrays(irc.compile(fire, target="reference"), sizes, rng)
    inputs["stretch"] = np.asarray(0.5, np.float32)
    both(str(fire), inputs, "f32", rng)


# Sums over features of a query and a key that are no dot products: distances, additive attention (Bahdanau, Cho and
# Bengio 2015), kernels of a distance, and one of what a distance and a product tell.
SCORES = {
    "l2": "score -sum(c: (q[b,h,i,c] - k[b,h,j,c]) ^ 2)",
    "additive": "score sum(c: w[h,c] * tanh(q[b,h,i,c] + 2 * k[b,h,j,c]))",
    "kernels": """let far = sqrt(sum(c: (q[b,h,i,c] - k[b,h,j,c]) ^ 2) + 0.01)
    score q[b,h,i,c] * k[b,h,j,c]
    bias sum(m: u[m] * exp(-(far - m) ^ 2))""",
    "rotated": """score sum(e c: (q[b,h,i,c] * r[e,c] - k[b,h,j,c]) * cos((i - j) * u[e]))
    bias q[b,h,i,c] * t[i - j + S,c]""",
}
FEATURES = """
attention features {
  size B, H, S, D, M
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]
  param w[H,D], u[M], r[M,D], t[2 * S,D]
  core o[b,h,i,d], lse[b,h,i] {
    SCORE
    allow j <= i
    softmax j
    matmul v[b,h,j,d]
  }
  return o, lse
}
"""


@pytest.mark.optimise("-O0")
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16"])
def test_sums_over_features_that_are_no_dots(score: str, dtype: str) -> None:
    rng = np.random.default_rng(3)
    text = FEATURES.replace("SCORE", SCORES[score])
    inputs = arrays(irc.compile(text, target="reference"), {"B": 1, "H": 2, "S": 150, "D": 5, "M": 3}, rng, dtype)
    both(text, inputs, dtype, rng)


@pytest.mark.optimise("-O0")
@pytest.mark.parametrize("without", WITHOUT[2:])
def test_forms_of_less(without: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_without(without, monkeypatch)
    rng = np.random.default_rng(4)
    text = FEATURES.replace("SCORE", SCORES["rotated"])
    inputs = arrays(irc.compile(text, target="reference"), {"B": 1, "H": 2, "S": 70, "D": 5, "M": 3}, rng)
    both(text, inputs, "f32", rng)


@pytest.mark.parametrize("rows", [1, 3])
def test_few_rows(rows: int) -> None:
    rng = np.random.default_rng(5)
    text = SPEC.replace("MASK", "").replace("far[B,S,M]", "far[B,R,M]").replace("q[B,H,S,D]", "q[B,H,R,D]")
    text = text.replace("size B,", "size R, B,").replace("let t", "align last\n    let t").replace("(i -", "(pos(i) -")
    sizes = {**SIZES, "R": rows}
    both(text, arrays(irc.compile(text, target="reference"), sizes, rng), "f32", rng)


POINTS = """
attention points {
  size B, H, S, D, M, P = 3
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D], x[B,S,P]
  param t[H,M]
  assume M >= 1
  core o[b,h,i,d] {
    let r = sum(p: (x[b,i,p] - x[b,j,p]) ^ 2)
    score q[b,h,i,c] * k[b,h,j,c]
    bias t[h,clamp(floor(2 * sqrt(r)),0,M - 1)] - r
    allow r <= 4 and (x[b,i,p] - x[b,j,p]) * (x[b,i,p] - x[b,j,p]) >= 0.01
    softmax j
    matmul v[b,h,j,d]
  }
  return o
}
"""


@pytest.mark.parametrize("target", ["cpu", "emulator"])
def test_sums_of_few_coordinates_tell_masks_and_places(target: str) -> None:
    """Points within a radius, and buckets of distances; as a bias the sum has its gradient."""
    rng = np.random.default_rng(7)
    inputs = arrays(irc.compile(POINTS, target="reference"), {"B": 2, "H": 2, "S": 40, "D": 8, "M": 6, "P": 3}, rng)
    both(POINTS, inputs, "f32", rng, target=target)


ADDED = """
attention added {
  size B, S, A, D
  input q[B,A], k[B,S,A], l[B,S,A], v[B,S,D], len[B]: int
  param w[A], b[A]
  project { kl[n,s,a] = 2 * l[n,s,a] }
  core o[n,d] {
    score sum(a: w[a] * tanh(q[n,a] + k[n,j,a] + kl[n,j,a] + b[a]))
    allow j < len[n]
    softmax j
    matmul v[n,j,d]
  }
  return o
}
"""


def test_gradients_of_what_a_score_adds_are_one_tensor() -> None:
    """Additive attention with one query (Bahdanau et al. 2015): the derivative of tanh is computed once a key."""
    rng = np.random.default_rng(5)
    given = arrays(irc.compile(ADDED, target="reference"), {"B": 3, "S": 21, "A": 7, "D": 5}, rng)
    both(ADDED, given | {"len": np.array([21, 0, 5])}, "f32", rng)
    program = irc.compile(ADDED)
    graph = program.built({name: 7 for name in program.features}).compiled.backward_graph
    assert graph is not None
    slopes = [
        node for node in graph if any(isinstance(e, Op) and e.name == "tanh" for b in bodies(node) for e in walk(b))
    ]
    assert {node.name for node in slopes} == {"o.score", "d.kl", "d.w"}


# Gaussians of learned widths of how far points are from each other, a term that heads share.
GAUSSIANS = """
attention gaussians {
  size B, H, S, D, M, P = 3
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D], x[B,S,P]
  param w[M], mid[M], width[M]
  core o[b,h,i,d] {
    let r = sqrt(sum(p: (x[b,i,p] - x[b,j,p]) ^ 2) + 0.01)
    score q[b,h,i,c] * k[b,h,j,c]
    bias sum(m: w[m] * exp(-(r - mid[m]) ^ 2 * width[m]))
    MASK
    softmax j
    matmul v[b,h,j,d]
  }
  return o
}
"""


@pytest.mark.parametrize("mask", ["", "allow abs(i - j) < 30"])
def test_sums_of_both_sides_and_of_all_widths_are_one_loop(mask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, rng = GAUSSIANS.replace("MASK", mask), np.random.default_rng(8)
    sizes = {"B": 1, "H": 1, "S": 333, "D": 8, "M": 5, "P": 3}
    inputs = arrays(irc.compile(text, target="reference"), sizes, rng)
    inputs["width"] = np.abs(inputs["width"])
    monkeypatch.setenv("IRC_THREADS", "1")
    both(text, inputs, "f32", rng)
    monkeypatch.setenv("IRC_THREADS", "2")  # a batch entry's rows are then shared out
    both(text, inputs, "f32", rng)
    program = irc.compile(text, sizes={"D": 8, "M": 5})
    (kernel,) = (k for k in program.kernels if isinstance(k, TileKernel) and k.order == "columns")
    made = tile_text(mirror(kernel))
    assert sorted(len(together.results) for together in made.summed_together) == [2, 3]
    assert sorted(len(together.names) for stage in made.stages for together in stage.sums) == [1, 2]


@pytest.mark.parametrize(("score", "kernels"), [("l2", 2), ("additive", 1), ("kernels", 1)])
def test_many_features_of_both_sides_share_a_kernel_where_it_takes_long(score: str, kernels: int) -> None:
    program = irc.compile(FEATURES.replace("SCORE", SCORES[score]), sizes={"D": 32, "M": 3})
    tiled = [k for k in program.kernels if isinstance(k, TileKernel)]
    assert sum(any(isinstance(s, RowSums | ColumnSums) for s in kernel.body) for kernel in tiled) == kernels
