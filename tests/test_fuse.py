"""What shares a kernel, and what is made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import irc
from irc.codegen.kernel import Accumulate, InnerSum, TileKernel
from tests.test_kernels import arrays, both

VARIANTS = Path(__file__).parent.parent / "examples" / "variants"
MOVED_QUERIES = """
attention moved {
  size B, S, D
  input q[B,S,D], k[B,S,D], v[B,S,D]
  param u[D]
  core o[b,i,d] {
    score (q[b,i,c] + u[c]) * k[b,j,c]
    softmax j
    matmul v[b,j,d]
  }
  return o
}
"""
TWO_SIDES = """
attention two_sides {
  size H, S, D, N
  input q[H,S,D], k[H,S,D], v[H,S,D]
  input near[S,S]: int
  param row[S,N], column[N,S], t[H,2 * S - 1]
  assume 0 <= near[i,j], near[i,j] < N
  core o[h,i,d] {
    score q[h,i,c] * k[h,j,c]
    bias t[h,i - j + S - 1] + row[i,near[i,j]] * column[near[i,j],j]
    allow j <= i
    softmax j
    matmul v[h,j,d]
  }
  return o
}
"""  # gradients owned by rows, by columns and by neither

PIXELS = """
attention pixels {
  size B, H, N, Y, X, D
  input q[B,H,N,D], k[B,H,(Y X),D], v[B,H,(Y X),D], row[H,Y,D], column[H,X,D], near[H,N,Y]
  core o[b,h,i,d] {
    score q[b,h,i,c] * (k[b,h,(y x),c] + row[h,y,c] + column[h,x,c])
    bias near[h,i,y]
    softmax (y x)
    matmul v[b,h,(y x),d]
  }
  return o
}
"""  # gradients that keep one of two key indices

DECOMPOSED = """
attention decomposed {
  size B, Y, X, D
  input q[B,(Y X),D], k[B,(Y X),D], v[B,(Y X),D]
  param Ry[2 * Y - 1,D], Rx[2 * X - 1,D]
  project {
    across[b,yi,xi,xj] over xj: X = q[b,(yi xi),c] * Rx[xi - xj + X - 1,c]
  }
  core o[b,(yi xi),d] {
    score q[b,(yi xi),c] * k[b,(yj xj),c] + q[b,(yi xi),c] * Ry[yi - yj + Y - 1,c]
    bias across[b,yi,xi,xj]
    allow yj <= yi
    softmax (yj xj)
    matmul v[b,(yj xj),d]
  }
  return o
}
"""  # gradients that keep one of two query indices, and one of two key indices

SHARED_BIAS = """
attention shared_bias {
  size B, N, H, S, D, P
  input q[B,N,H,S,D], k[B,N,H,S,D], v[B,N,H,S,D], pair[B,S,S,P]
  param W[P,H], t[H,S,S]
  project {
    bias[b,h,i,j] = pair[b,i,j,p] * W[p,h] + tanh(t[h,i,j])
  }
  core o[b,n,h,i,d] {
    score q[b,n,h,i,c] * k[b,n,h,j,c]
    bias bias[b,h,i,j]
    allow j <= i
    softmax j
    matmul v[b,n,h,j,d]
  }
  return o
}
"""  # gradients of what a projection made of pairs, added up over what shares it

MIXED_HEADS = """
attention mixed_heads {
  size B, H, S, D
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]
  param mix[H,H]
  core o[b,g,i,d] {
    score q[b,h,i,c] * k[b,h,j,c] * mix[h,g]
    allow j <= i
    softmax j
    matmul v[b,g,j,d]
  }
  return o
}
"""


def tiled(program: irc.Program) -> list[TileKernel]:
    return [kernel for kernel in program.kernels if isinstance(kernel, TileKernel)]


# With a table that is long beside its vectors, and with one that is not, whose products come first.
@pytest.mark.parametrize(
    ("name", "sizes", "sums"),
    [("disentangled", {"R": 40}, 4), ("disentangled", {"R": 4}, 2), ("transformer_xl", {}, 2)],
)
@pytest.mark.parametrize("target", ["cpu", "emulator"])
def test_sums_into_elements_over_the_same_pairs_are_one_kernel(
    name: str, sizes: dict[str, int], sums: int, target: str
) -> None:
    """Of what a pair looks up that no distance tells: what one tells is in panels of distances."""
    written = (VARIANTS / f"{name}.attn").read_text().replace("ensure causal,", "ensure")
    told, count = ("clamp(i - j, -R, R) + R", "(2 * R + 1)") if sizes else ("max(i - j, 0)", "S")
    assert told in written
    program = irc.compile(written.replace(told, f"(i + j) % {count}"), sizes={"D": 8, **sizes}, target=target)
    (kernel,) = (kernel for kernel in tiled(program) if kernel.order == "elements")
    assert sum(isinstance(step, Accumulate) for step in kernel.body) == sums
    program = irc.compile(written, sizes={"D": 8, **sizes}, target=target)
    assert not any(kernel.order == "elements" for kernel in tiled(program))


@pytest.mark.parametrize("target", ["cpu", "emulator"])
def test_targets_of_each_side_in_one_kernel(target: str) -> None:
    program = irc.compile(TWO_SIDES, sizes={"D": 8})
    assert sum(kernel.order == "elements" for kernel in tiled(program)) == 1
    rng = np.random.default_rng(3)
    sizes = {"q": (2, 70, 8), "k": (2, 70, 8), "v": (2, 70, 8), "row": (70, 3), "column": (3, 70), "t": (2, 139)}
    given = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in sizes.items()}
    given["near"] = rng.integers(0, 3, (70, 70)).astype(np.int32)
    both(TWO_SIDES, given, "f32", rng, target=target)


@pytest.mark.parametrize(("dtype", "results"), [("f32", 3), ("bf16", 4)])
def test_equal_sums_over_tokens_are_made_once_unless_one_is_rounded(dtype: str, results: int) -> None:
    """The gradient of u is that of q, summed; of q in fewer bits it would lose them."""
    program = irc.compile(MOVED_QUERIES, dtype=dtype, sizes={"D": 8})
    backward = tiled(program)[-1]
    assert sum(hasattr(step, "target") for step in backward.body) == results
    rng = np.random.default_rng(4)
    given = {name: rng.standard_normal((2, 33, 8)).astype(np.float32) for name in "qkv"}
    given["u"] = rng.standard_normal(8).astype(np.float32)
    if dtype == "f32":
        both(MOVED_QUERIES, given, dtype, rng)


@pytest.mark.parametrize("target", ["cpu", "emulator"])
def test_a_sum_that_keeps_one_of_two_key_indices_sums_the_queries_first(target: str) -> None:
    rng = np.random.default_rng(6)
    sizes = {"q": (2, 3, 5, 8), "k": (2, 3, 28, 8), "v": (2, 3, 28, 8), "row": (3, 4, 8), "column": (3, 7, 8)}
    sizes["near"] = (3, 5, 4)
    given = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in sizes.items()}
    both(PIXELS, given, "f32", rng, target=target, sizes={"Y": 4, "X": 7})


@pytest.mark.parametrize("target", ["cpu", "emulator"])
def test_gradients_that_keep_a_query_and_a_key_index_of_two(target: str) -> None:
    """Of a table they are added up pair by pair; what a projection made is a tensor, and no value of pairs."""
    rng = np.random.default_rng(7)
    sizes = {"q": (2, 28, 8), "k": (2, 28, 8), "v": (2, 28, 8), "Ry": (7, 8), "Rx": (13, 8)}
    given = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in sizes.items()}
    both(DECOMPOSED, given, "f32", rng, target=target, sizes={"Y": 4, "X": 7})


@pytest.mark.parametrize("target", ["cpu", "emulator"])
def test_gradients_of_a_projected_bias_that_entries_of_the_batch_share(target: str) -> None:
    rng = np.random.default_rng(8)
    shapes = {n: (1, 3, 2, 21, 8) for n in "qkv"} | {"pair": (1, 21, 21, 5), "W": (5, 2), "t": (2, 21, 21)}
    given = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    both(SHARED_BIAS, given, "f32", rng, target=target)


@pytest.mark.parametrize("target", ["cpu", "emulator"])
def test_heads_mixed_in_the_score_are_one_longer_product(target: str) -> None:
    rng = np.random.default_rng(9)
    shapes = {n: (2, 3, 21, 8) for n in "qkv"} | {"mix": (3, 3)}
    given = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    both(MIXED_HEADS, given, "f32", rng, target=target)


TRIANGLE = """
attention triangle {
  size B, N, H, D, C
  input z[B,N,N,C], q[B,H,N,N,D], k[B,H,N,N,D], v[B,H,N,N,D]
  param W[C,H]
  project {
    third[b,h,i,j] = z[b,i,j,c] * W[c,h]
  }
  core o[b,h,r,i,d] {
    score q[b,h,r,i,c] * k[b,h,r,j,c]
    bias third[b,h,i,j]
    softmax j
    matmul v[b,h,r,j,d]
  }
  return o
}
"""  # the gradient of a projected bias sums over r, and is multiplied further
GATED_WEIGHTS = """
attention gated_weights {
  size S, D, E
  input q[S,D], k[S,D], v[S,D], e[S,S,E]
  param w[E]
  core o[i,d] {
    score q[i,c] * k[j,c]
    softmax j
    map weight * sigmoid(sum(f: e[i,j,f] * w[f]))
    matmul v[j,d]
  }
  return o
}
"""


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_projected_biases_that_batch_entries_share(dtype: str) -> None:
    rng = np.random.default_rng(5)
    program = irc.compile(TRIANGLE, target="reference")
    both(TRIANGLE, arrays(program, {"B": 2, "N": 19, "H": 2, "D": 4, "C": 5}, rng, dtype), dtype, rng)


STEPPED = """
attention stepped {
  size S, D, N = 4
  input q[S,D], k[S,D], v[S,D]
  param t[N], u[N]
  core o[i,d] {
    score q[i,c] * k[j,c]
    allow j <= i
    softmax j
    map sum(n: where(n == clamp(floor(weight * 8), 0, N - 1), t[n] * weight, 0))
    map weight + sum(n: u[n] * weight ^ 2)
    matmul v[j,d]
  }
  return o
}
"""


def test_sums_that_read_the_weight() -> None:
    rng = np.random.default_rng(8)
    e = {n: a.astype(np.float64) for n, a in arrays(
        irc.compile(STEPPED, target="reference"), {"S": 21, "D": 4, "N": 4}, rng).items()}  # fmt: skip
    both(STEPPED, e, "f64", rng)
    weight = np.tril(np.exp(e["q"] @ e["k"].T))
    weight /= weight.sum(-1, keepdims=True)
    weight = e["t"][np.clip(np.floor(weight * 8), 0, 3).astype(int)] * weight
    weight = weight + e["u"].sum() * weight**2
    np.testing.assert_allclose(irc.compile(STEPPED, dtype="f64")(**e), weight @ e["v"], rtol=1e-9, atol=1e-12)


def test_sums_in_a_map_of_the_weight() -> None:
    rng = np.random.default_rng(6)
    inputs = arrays(irc.compile(GATED_WEIGHTS, target="reference"), {"S": 21, "D": 4, "E": 3}, rng)
    both(GATED_WEIGHTS, inputs, "f32", rng)
    e = {n: a.astype(np.float64) for n, a in inputs.items()}
    weight = np.exp(e["q"] @ e["k"].T)
    gate = 1 / (1 + np.exp(-(e["e"] @ e["w"])))
    expected = weight / weight.sum(-1, keepdims=True) * gate @ e["v"]
    np.testing.assert_allclose(irc.compile(GATED_WEIGHTS)(**inputs), expected, rtol=1e-4, atol=1e-5)


TALKING = """
attention talking {{
  size B, H, S, D, G = 3
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]
  param P[H,H], A[G,D]
  core o[b,m,i,d] {{
    score {}
    scale 1 / sqrt(D)
    allow j <= i
    softmax j
    matmul v[b,m,j,d]
  }}
  return o
}}
"""
DOTS = "q[b,g,i,c] * k[b,g,j,c]"
FAR = "q[b,g,i,c] * A[(i - j) % G,c]"
MIXED = {
    f"P[g,m] * {DOTS}": lambda P, dots, far: np.einsum("gm,bgij->bmij", P, dots),
    f"sum(g: {DOTS} * P[g,m] / (1 + P[g,m] ^ 2))": lambda P, dots, far: np.einsum(
        "gm,bgij->bmij", P / (1 + P**2), dots
    ),
    f"P[g,m] * ({DOTS} - {FAR}) + {DOTS.replace('g', 'm')}": lambda P, dots, far: (
        np.einsum("gm,bgij->bmij", P, dots - far) + dots
    ),
    f"P[n,m] * P[g,n] * {DOTS}": lambda P, dots, far: np.einsum("nm,gn,bgij->bmij", P, P, dots),
}


@pytest.mark.parametrize("score", MIXED)
def test_heads_mixed_before_the_softmax(score: str) -> None:
    """A sum over heads of what is a sum for each pair is one longer dot product."""
    spec, rng = TALKING.format(score), np.random.default_rng(4)
    e = {n: rng.standard_normal((2, 3, 21, 4)) for n in "qkv"}
    e |= {"P": rng.standard_normal((3, 3)), "A": rng.standard_normal((3, 4))}
    i, j = np.ogrid[:21, :21]
    far = np.einsum("bgic,ijc->bgij", e["q"], e["A"][(i - j) % 3])
    mixed = MIXED[score](e["P"], np.einsum("bgic,bgjc->bgij", e["q"], e["k"]), far) / 2
    weight = np.where(j <= i, np.exp(mixed), 0)
    expected = np.einsum("bmij,bmjd->bmid", weight / weight.sum(-1, keepdims=True), e["v"])
    np.testing.assert_allclose(irc.compile(spec, target="reference")(**e), expected, rtol=1e-9)
    both(spec, {n: a.astype(np.float32) for n, a in e.items()}, "f32", rng)


def test_gradients_of_what_mixes_heads_are_matrix_products() -> None:
    """And what stands in a row without keys reaches none."""
    spec = TALKING.format(f"P[g,m] * {DOTS}").replace("j <= i", "j < i")
    program = irc.compile(spec, dtype="f64")
    rng = np.random.default_rng(7)
    e = {n: rng.standard_normal((1, 3, 21, 4)) for n in "qkv"}
    e |= {"P": rng.standard_normal((3, 3)), "A": rng.standard_normal((3, 4))}
    both(spec, e, "f64", rng)
    backward = program.built({"H": 3, "D": 4}).compiled.backward
    assert backward is not None
    tiles = [k for k in backward.kernels if isinstance(k, TileKernel)]
    assert len(tiles) == 1 and not any(isinstance(step, InnerSum | Accumulate) for step in tiles[0].body)
    cotangent = rng.standard_normal((1, 3, 21, 4))
    nothing = e | {"q": e["q"].copy()}
    nothing["q"][:, :, 0] = np.nan
    runs = [program.forward(**given).backward(o=cotangent) for given in (e, nothing)]
    for name, gradient in runs[0].items():
        np.testing.assert_array_equal(gradient, runs[1][name])
