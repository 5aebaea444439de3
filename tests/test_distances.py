"""Vectors that pairs choose by their distance: panels of distances give what the interpreter does, and no vector is
looked up pair by pair."""

from __future__ import annotations

import numpy as np
import pytest

import irc
from irc.codegen.expr import Axis, Expr, Index, Load, Size, integer, number, op
from irc.codegen.kernel import DISTANCE, DistanceProduct, DistanceReduce, InnerSum, TileKernel
from irc.passes.distances import of_distance
from tests.codegen.test_forms import FORMS, compile_without
from tests.test_kernels import Arrays, arrays, both

# Queries, keys and values each with a vector of the distance, and its table.
SPEC = """
attention relative {
  size B, H, Sq, Sk, D, E
  input q[B,H,Sq,D], k[B,H,Sk,D], v[B,H,Sk,E]
  param left[H, Sq + Sk, D], right[Sq + Sk, D], late[Sq + Sk, E], u[H, D]
  core o[b,h,i,d], lse[b,h,i] {
    align last
    let l = left[h, pos(i) - j + Sq, c]
    let r = right[j - pos(i) + Sk, c]
    score q[b,h,i,c] * (k[b,h,j,c] + l) + u[h,c] * l + k[b,h,j,c] * r
    scale 1 / sqrt(D)
    MASK
    softmax j
    matmul v[b,h,j,d] + late[pos(i) - j + Sq, d]
  }
  return o, lse
}
"""
MASKS = ["", "allow j <= pos(i)", "allow abs(pos(i) - j) < 40", "allow j < pos(i) - 3"]
SIZES = {"B": 2, "H": 2, "Sq": 203, "Sk": 307, "D": 16, "E": 16}


def spec(mask: str = MASKS[1]) -> str:
    return SPEC.replace("MASK", mask)


def given(sizes: dict[str, int], rng: np.random.Generator, dtype: str = "f32") -> Arrays:
    return arrays(irc.compile(spec(), target="reference"), sizes, rng, dtype)


def tiled(program: irc.Program) -> list[TileKernel]:
    return [kernel for kernel in program.kernels if isinstance(kernel, TileKernel)]


@pytest.mark.optimise("-O0")
@pytest.mark.parametrize("mask", MASKS)
def test_kernels_agree_with_the_interpreter(mask: str) -> None:
    rng = np.random.default_rng(1)
    both(spec(mask), given(SIZES, rng), "f32", rng)
    for kernel in tiled(irc.compile(spec(mask), sizes={"D": 16, "E": 16})):
        assert kernel.order != "elements"
        assert not any(isinstance(step, InnerSum) for step in kernel.body)


@pytest.mark.optimise("-O0")
@pytest.mark.parametrize(("without", "dtype"), FORMS)
def test_each_form(without: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_without(without, monkeypatch)
    rng = np.random.default_rng(2)
    sizes = {"B": 1, "H": 2, "Sq": 61, "Sk": 99, "D": 40, "E": 33}  # no whole vectors, nor pairs
    both(spec(), given(sizes, rng, dtype), dtype, rng)


@pytest.mark.parametrize("tokens", [(1, 1), (1, 300), (5, 300), (300, 1), (0, 3), (3, 0)])
def test_few_rows_and_none(tokens: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    both(spec(), given({**SIZES, "Sq": tokens[0], "Sk": tokens[1]}, rng), "f32", rng)


CLIPPED = """
attention clipped {
  size B, S, D
  input q[B,S,D], k[B,S,D], v[B,S,D], bucket[S]: int
  param far[9, D], near[4, D], step[S, D]
  assume 0 <= bucket[n] and bucket[n] < 4
  core o[b,i,d] {
    let clipped = far[clamp(j - i, -4, 4) + 4, c]
    let beyond = where(j < i, step[max(i - j - 1, 0), c], 0)
    score q[b,i,c] * (k[b,j,c] + clipped) + q[b,i,c] * near[bucket[abs(i - j)], c] + q[b,i,c] * beyond
    scale 1 / sqrt(D)
    allow j < i
    softmax j
    matmul v[b,j,d]
  }
  return o
}
"""


@pytest.mark.parametrize("length", [1, 2, 150])
def test_distances_that_meet_at_the_ends_of_tables_or_lie_beyond(length: int) -> None:
    rng = np.random.default_rng(4)
    inputs = {n: rng.standard_normal((2, length, 8)).astype(np.float32) for n in "qkv"}
    inputs |= {
        n: rng.standard_normal((m, 8)).astype(np.float32) for n, m in (("far", 9), ("near", 4), ("step", length))
    }
    inputs["bucket"] = rng.integers(0, 4, length).astype(np.int32)
    both(CLIPPED, inputs, "f32", rng)


MASKED = "allow j <= pos(i) and j > 0 and i > 0"


def assert_poison_changes_no_bit(program: irc.Program, inputs: Arrays, tokens: int, poison: float) -> None:
    """Of MASKED: vectors of the future, a key and a value that nobody sees, a query that sees none."""
    runs = []
    for poisoned in (False, True):
        if poisoned:
            inputs["left"][:, :tokens], inputs["right"][tokens + 1 :], inputs["late"][:tokens] = poison, poison, poison
            inputs["k"][:, :, 0], inputs["v"][:, :, 0], inputs["q"][:, :, 0] = poison, poison, poison
        run = program.forward(**inputs)
        ones = np.ones_like(run.outputs["o"])
        ones[:, :, 0] = poison if poisoned else 1
        runs.append({**run.outputs, **{f"d.{n}": g for n, g in run.backward(o=ones).items()}})
    for name, value in runs[0].items():
        assert value.tobytes() == runs[1][name].tobytes(), name


@pytest.mark.parametrize("poison", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_what_only_blocked_pairs_read_changes_no_bit(poison: float, dtype: str) -> None:
    inputs = given({**SIZES, "Sq": 300, "Sk": 300}, np.random.default_rng(5), dtype)
    assert_poison_changes_no_bit(irc.compile(spec(MASKED), dtype=dtype), inputs, 300, poison)


def test_what_is_not_finite_reaches_the_pairs_that_read_it() -> None:
    rng = np.random.default_rng(6)
    inputs = given({**SIZES, "Sq": 90, "Sk": 90}, rng)
    inputs["late"][90 + 7, 3] = np.inf
    run = irc.compile(spec()).forward(**inputs)
    wanted = irc.compile(spec(), target="reference").forward(**{n: a.astype(np.float64) for n, a in inputs.items()})
    assert np.array_equal(np.isinf(run.outputs["o"]), np.isinf(wanted.outputs["o"]))
    assert np.isinf(run.outputs["o"][:, :, 7:, 3]).all()
    assert np.isfinite(run.outputs["o"][:, :, :7]).all()
    inputs["late"][90 + 7, 3], inputs["left"][1, 90 + 50, 2] = 0, np.nan
    run = irc.compile(spec()).forward(**inputs)
    assert np.isnan(run.outputs["o"][:, 1, 50:]).all()
    assert np.isfinite(run.outputs["o"][:, 1, :50]).all() and np.isfinite(run.outputs["o"][:, 0]).all()


def test_batch_entries_shared_out_over_several_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    inputs = given({**SIZES, "B": 1, "H": 1, "Sq": 500, "Sk": 700}, rng)
    for threads in ("1", "3"):
        monkeypatch.setenv("IRC_THREADS", threads)
        both(spec(), inputs, "f32", rng)


def test_gradients_of_vectors_are_products_of_distances() -> None:
    """Of `left` with u a sum of numbers alone, since what u makes of a distance is tabulated."""
    program = irc.compile(spec(), sizes={"D": 16, "E": 16})
    products = [step for kernel in tiled(program) for step in kernel.body if isinstance(step, DistanceProduct)]
    assert len(products) == 3
    assert sum(isinstance(step, DistanceReduce) for kernel in tiled(program) for step in kernel.body) == 1


# XLNet's two streams: both see keys by one table of distances, each under a mask of its own.
STREAMS = """
attention streams {
  size B, S, D
  input q[B,S,D], p[B,S,D], k[B,S,D]
  param r[2 * S - 1, D]
  core a[b,i,d] {
    score q[b,i,c] * k[b,j,c] + q[b,i,c] * r[i - j + S - 1,c]
    allow j <= i
    softmax j
    matmul k[b,j,d]
  }
  core o[b,i,d] {
    score p[b,i,c] * k[b,j,c] + p[b,i,c] * r[i - j + S - 1,c]
    allow j < i
    softmax j
    matmul k[b,j,d]
  }
  return a, o
}
"""


@pytest.mark.optimise("-O0")
def test_cores_with_masks_of_their_own_share_a_table() -> None:
    rng = np.random.default_rng(1)
    sizes = {"B": 2, "S": 37, "D": 4}
    both(STREAMS, arrays(irc.compile(STREAMS, target="reference"), sizes, rng, "f32"), "f32", rng)
    assert not any(kernel.order == "elements" for kernel in tiled(irc.compile(STREAMS, sizes={"D": 4})))


i, j, n = Index("i"), Index("j"), DISTANCE
u, v = number(1), number(2)
APART = op("sub", i, j)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (APART, n),
        (op("max", APART, integer(0)), op("max", n, integer(0))),
        (op("sub", op("add", Size("S"), i), op("add", j, integer(1))), op("sub", op("add", n, Size("S")), integer(1))),
        (op("where", op("lt", j, i), u, v), op("where", op("lt", op("sub", integer(0), n), integer(0)), u, v)),
        (op("floordiv", APART, integer(2)), op("floordiv", n, integer(2))),
        (op("sub", op("floordiv", i, integer(2)), op("floordiv", j, integer(2))), None),
        (op("add", i, j), None),
        (Load("t", (APART, j)), None),
    ],
)  # fmt: skip
def test_what_is_told_by_a_distance(written: Expr, told: Expr | None) -> None:
    assert of_distance(written, (Axis("i", Size("S"), "row"),), (Axis("j", Size("S"), "column"),)) == told
