"""What a distance tells, tabulated before kernels: they do what the interpreter does with the program as it was
written, and distances that no pair has change nothing."""

from __future__ import annotations

import numpy as np
import pytest

import irc
from irc.codegen.expr import Load, indices
from irc.codegen.kernel import DistanceReduce, InnerSum, TileKernel, is_expression, pieces
from tests.codegen.test_forms import FORMS, compile_without
from tests.test_kernels import DTYPE, Arrays, both

# A bias of buckets, one computed of a learned decay, and a factor of a table that queries share with nobody.
SPEC = """
attention tabulated {
  size B, H, Sq, Sk, D
  input q[B,H,Sq,D], k[B,H,Sk,D], v[B,H,Sk,D]
  input bucket[Sq + Sk]: int
  param T[5,H], decay[H], near[9]
  assume 0 <= bucket[n] and bucket[n] < 5
  core o[b,h,i,d], lse[b,h,i] {
    align last
    score q[b,h,i,c] * k[b,h,j,c]
    scale 1 / sqrt(D) + near[clamp(j - pos(i), -4, 4) + 4]
    bias  T[bucket[pos(i) - j + Sq], h] - DECAY
    MASK
    softmax j
    matmul v[b,h,j,d]
  }
  return o, lse
}
"""
MASKS = ["", "allow j <= pos(i)", "allow abs(pos(i) - j) < 40", "allow j <= pos(i) and j > 2"]
DECAY = ["log(1 + exp(decay[h]) * abs(pos(i) - j))", "log(1 + exp(decay[h]) * (pos(i) - j))"]
SIZES = {"B": 2, "H": 2, "Sq": 203, "Sk": 307, "D": 16}


def spec(mask: str = MASKS[1], decay: str = DECAY[0]) -> str:
    return SPEC.replace("MASK", mask).replace("DECAY", decay)


def given(sizes: dict[str, int], rng: np.random.Generator, dtype: str = "f32") -> Arrays:
    b, h, sq, sk, d = (sizes[n] for n in ("B", "H", "Sq", "Sk", "D"))
    shapes = {"q": (b, h, sq, d), "k": (b, h, sk, d), "v": (b, h, sk, d), "T": (5, h), "decay": (h,), "near": (9,)}
    made = {n: rng.standard_normal(shape).astype(DTYPE[dtype]) for n, shape in shapes.items()}
    return made | {"bucket": rng.integers(0, 5, sq + sk).astype(np.int32)}


def looked_up(program: irc.Program) -> set[str]:
    """What tile kernels read of tables at a row and a column."""
    found = set()
    for kernel in (k for k in program.kernels if isinstance(k, TileKernel)):
        rows, columns = ({a.name for a in side} for side in (kernel.rows, kernel.columns))
        for e in filter(is_expression, pieces(kernel)):
            if isinstance(e, Load) and indices(e) & rows and indices(e) & columns:
                found.add(e.tensor)
    return found


@pytest.mark.optimise("-O0")
@pytest.mark.parametrize("mask", MASKS)
def test_kernels_agree_with_the_interpreter(mask: str) -> None:
    rng = np.random.default_rng(1)
    both(spec(mask), given(SIZES, rng), "f32", rng)


@pytest.mark.parametrize("mask", MASKS[:3])
def test_kernels_read_tables_of_distances_alone_and_sum_along_them(mask: str) -> None:
    program = irc.compile(spec(mask), sizes={"D": 16})
    assert all("distances" in name for name in looked_up(program))
    tiled = [k for k in program.kernels if isinstance(k, TileKernel)]
    assert not any(k.order == "elements" for k in tiled)
    assert sum(isinstance(step, DistanceReduce) for k in tiled for step in k.body) == 2


@pytest.mark.optimise("-O0")
@pytest.mark.parametrize(("without", "dtype"), FORMS)
def test_each_form(without: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_without(without, monkeypatch)
    rng = np.random.default_rng(2)
    sizes = {"B": 1, "H": 2, "Sq": 61, "Sk": 99, "D": 40}
    both(spec(), given(sizes, rng, dtype), dtype, rng)


@pytest.mark.parametrize("tokens", [(1, 1), (1, 300), (5, 300), (300, 1), (0, 3), (3, 0), (0, 0)])
def test_few_rows_and_none(tokens: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    both(spec(), given({**SIZES, "Sq": tokens[0], "Sk": tokens[1]}, rng), "f32", rng)


def test_a_batch_entry_shared_out_over_tasks_gives_the_gradients_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    inputs = given({**SIZES, "B": 1, "H": 1, "Sq": 700, "Sk": 900}, rng)
    gradients = []
    for threads in ("1", "3"):
        monkeypatch.setenv("IRC_THREADS", threads)
        run = irc.compile(spec()).forward(**inputs)
        gradients.append(run.backward(o=np.ones_like(run.outputs["o"])))
    for name, value in gradients[0].items():
        np.testing.assert_allclose(value, gradients[1][name], rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.optimise("-O0")
@pytest.mark.parametrize("mask", ["allow j <= pos(i)", "allow j <= pos(i) and j > 2"])
def test_a_value_that_is_nan_at_a_distance_that_no_pair_has_changes_no_gradient(mask: str) -> None:
    """log(1 + c (i - j)) of the future is NaN; with the second mask no distance alone tells which pairs there are."""
    rng = np.random.default_rng(5)
    inputs = given(SIZES, rng)
    inputs["decay"][:] = 1
    both(spec(mask, DECAY[1]), inputs, "f32", rng)


def test_a_value_that_a_branch_shields_from_every_pair_of_a_distance_changes_no_gradient() -> None:
    """c / (i - j) of pairs of two documents: a token is in one with itself."""
    text = """
    attention shielded {
      size B, S, D
      input q[B,S,D], k[B,S,D], v[B,S,D], doc[S]: int
      param c
      core o[b,i,d] {
        score q[b,i,e] * k[b,j,e]
        bias  where(doc[i] != doc[j], c / (i - j), 0)
        allow j <= i
        softmax j
        matmul v[b,j,d]
      }
      return o
    }
    """
    rng = np.random.default_rng(6)
    inputs = {n: rng.standard_normal((2, 50, 8)).astype(np.float32) for n in "qkv"}
    inputs |= {"doc": (np.arange(50) // 7).astype(np.int32), "c": np.float32(0.3)}
    both(text, inputs, "f32", rng)


@pytest.mark.parametrize("tokens", [(5, 7), (0, 7), (5, 0)])
def test_without_a_pair_a_value_that_is_infinite_has_no_gradient(tokens: tuple[int, int]) -> None:
    rng = np.random.default_rng(7)
    batch = 2 if 0 in tokens else 0
    inputs = given({**SIZES, "B": batch, "Sq": tokens[0], "Sk": tokens[1]}, rng)
    inputs["decay"][0] = 0
    both(spec("", "log(decay[h] * (1 + abs(pos(i) - j)))"), inputs, "f32", rng)


# A network of both coordinates' distances.
GRID = """
attention grid {
  size B, H, Y, X, D, K
  input q[B,H,(Y X),D], k[B,H,(Y X),D], v[B,H,(Y X),D]
  param W1[2,K], b1[K], W2[K,H]
  core o[b,h,(y x),d] {
    score q[b,h,(y x),c] * k[b,h,(u w),c]
    scale 1 / sqrt(D)
    bias  tanh(sum(n: max(log(abs(y - u) + 1) * W1[0,n] + (x - w) * W1[1,n] + b1[n], 0) * W2[n,h]))
    MASK
    softmax (u w)
    matmul v[b,h,(u w),d]
  }
  return o
}
"""


@pytest.mark.optimise("-O0")
@pytest.mark.parametrize(
    ("mask", "by_pair"),
    [("", False), ("allow abs(y - u) < 3", False), ("allow w - x + 1 > u - y", False), ("allow u * w <= y", True)],
)
def test_distances_of_several_axes(mask: str, by_pair: bool) -> None:
    rng = np.random.default_rng(6)
    text = GRID.replace("MASK", mask)
    b, h, y, x, d, k = sizes = 2, 2, 5, 7, 8, 11
    shapes = {
        "q": (b, h, y * x, d), "k": (b, h, y * x, d), "v": (b, h, y * x, d), "W1": (2, k), "b1": (k,), "W2": (k, h)
    }  # fmt: skip
    inputs = {n: rng.standard_normal(shape).astype(np.float32) for n, shape in shapes.items()}
    known = dict(zip("BHYXDK", sizes, strict=True))
    both(text, inputs, "f32", rng, known)
    kernels = irc.compile(text, sizes=known).kernels
    assert any(isinstance(s, InnerSum) for t in kernels if isinstance(t, TileKernel) for s in t.body) == by_pair
