"""Products with what a pair looks up: made first where the table is short, and the same numbers either way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import irc
from irc.codegen.expr import Size
from tests.test_kernels import arrays, both, same_bits

pytestmark = pytest.mark.optimise("-O0")

VARIANTS = Path(__file__).parent.parent / "examples" / "variants"
ROWS_AND_COLUMNS = """
attention decomposed {
  size B, H, S, D, X, Y
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]
  param near[H, X, Y, D], key[X, D]
  core o[b,h,i,d] {
    let own = key[(i + 2 * j) % X, c]
    score q[b,h,i,c] * k[b,h,j,c] + q[b,h,i,c] * near[h, (i + j) % X, (i * j) % Y, c] + k[b,h,j,c] * own
    scale 1 / sqrt(D)
    allow j <= i
    softmax j
    matmul v[b,h,j,d]
  }
  return o
}
"""


# As relative_keys, but told by no distance.
SHORT = (VARIANTS / "relative_keys.attn").read_text().replace("clamp(j - i, -R, R) + R", "(i + j) % (2 * R + 1)")


def first(program: irc.Program, sizes: dict[str, int]) -> list[str]:
    """The products that are made first."""
    compiled = program.built(sizes).compiled
    return [node.name for node in compiled.forward_graph if node.name.endswith(".first")]


# As many entries as eight for each of the 8 features, and one more.
@pytest.mark.parametrize(("r", "made"), [(31, ["o.score2.first"]), (32, [])])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_short_tables_alone(r: int, made: list[str], dtype: str) -> None:
    sizes = {"B": 1, "H": 2, "S": 90, "D": 8, "R": r}
    rng = np.random.default_rng(r)
    both(SHORT, arrays(irc.compile(SHORT, target="reference"), sizes, rng, dtype), dtype, rng)
    program = irc.compile(SHORT, dtype=dtype)
    assert first(program, sizes) == made
    assert set(program.features) == {"D", "R"}


@pytest.mark.parametrize("target", ["cpu", "emulator"])
def test_what_a_distance_tells_is_left_to_panels_of_distances(target: str) -> None:
    """However short its table, whose size is then open."""
    program = irc.compile(VARIANTS / "relative_keys.attn", target=target)
    assert program.features == ("D",)
    assert not first(program, {"B": 1, "H": 2, "S": 9, "D": 8, "R": 4})


def test_entries_of_two_dimensions_on_either_side() -> None:
    sizes = {"B": 2, "H": 2, "S": 70, "D": 6, "X": 5, "Y": 3}
    rng = np.random.default_rng(2)
    both(ROWS_AND_COLUMNS, arrays(irc.compile(ROWS_AND_COLUMNS, target="reference"), sizes, rng), "f32", rng)
    assert first(irc.compile(ROWS_AND_COLUMNS), sizes) == ["o.score2.first", "o.score3.first"]


def test_a_vector_for_each_token_is_looked_up_as_it_is() -> None:
    """A product with each would be a table of pairs."""
    program = irc.compile(VARIANTS / "transformer_xl.attn")
    assert program.features == ("D",)
    assert not first(program, {"B": 1, "H": 2, "S": 8, "D": 8})


COUNTED = """
attention counted {
  size B, S, D, N = 7
  input q[B,S,D], k[B,S,D], v[B,S,D], g[B,S]
  param t[N], u[N]
  project {
    place[b,s] over s: S = u[clamp(floor(sum(n: where(n <= s, 2 * g[b,n], 0))), 0, N - 1)]
  }
  core o[b,i,d] {
    score q[b,i,c] * k[b,j,c]
    bias t[clamp(floor(sum(n: where(n <= j, 3 * g[b,n], 0))), 0, N - 1)] + place[b,i] * place[b,j]
    softmax j
    matmul v[b,j,d]
  }
  return o, place
}
"""


def test_a_sum_tells_an_entry() -> None:
    rng = np.random.default_rng(3)
    inputs = {n: a.astype(np.float64) for n, a in arrays(
        irc.compile(COUNTED, target="reference"), {"B": 2, "S": 37, "D": 6, "N": 7}, rng).items()}  # fmt: skip
    both(COUNTED, inputs, "f64", rng)
    place = inputs["u"][np.clip(np.floor(np.cumsum(2 * inputs["g"], axis=1)).astype(int), 0, 6)]
    np.testing.assert_allclose(irc.compile(COUNTED, dtype="f64").forward(**inputs).outputs["place"], place)


INTERVALS = """
attention intervals {
  size B, S, H, D, M
  input q[B,S,H,D], k[B,S,H,D], v[B,S,H,D], time[B,S]: int
  param near[M,H,D], far[M,H,D]
  assume M >= 1
  core o[b,i,h,d] {
    let r = min(abs(time[b,i] - time[b,j]), M - 1)
    score SCORE
    scale 1 / sqrt(D)
    MASK
    softmax j
    matmul v[b,j,h,d] + far[r,h,d]
  }
  return o
}
"""


@pytest.mark.parametrize("target", ["cpu", "emulator"])
@pytest.mark.parametrize("m", [5, 70])  # of 8 features, short and long
@pytest.mark.parametrize("mask", ["", "allow j <= i"])
@pytest.mark.parametrize("score", ["q[b,i,h,c] * (k[b,j,h,c] + near[r,h,c])", "q[b,i,h,c] * k[b,j,h,c]"])
def test_keys_and_values_that_data_choose(score: str, mask: str, m: int, target: str) -> None:
    """Beside what all queries share, in one product or two (Li, Wang and McAuley 2020); i is a query with any mask."""
    spec = INTERVALS.replace("SCORE", score).replace("    MASK\n", f"    {mask}\n" if mask else "")
    sizes = {"B": 2, "S": 21, "H": 2, "D": 8, "M": m}
    rng = np.random.default_rng(m)
    inputs = arrays(irc.compile(spec, target="reference"), sizes, rng)
    inputs["time"] = rng.integers(0, 40, (2, 21)).astype(np.int32)
    both(spec, inputs, "f32", rng, target=target)
    program = irc.compile(spec, target=target)
    made = {n.name for n in program.built({n: sizes[n] for n in program.features}).compiled.forward_graph}
    assert ("o.term1.chosen" in made) == (m == 5)
    assert ("o.score.term1.first" in made) == (m == 5 and "near" in score)


@pytest.mark.optimise("-O3")
@pytest.mark.parametrize("target", ["cpu", "emulator"])
@pytest.mark.parametrize("m", [6, 12])
def test_what_no_pair_chooses_plays_no_part(m: int, target: str) -> None:
    """Entries that blocked pairs alone choose may hold anything, and so may rows without keys; M is told or not."""
    spec = INTERVALS.replace("SCORE", "q[b,i,h,c] * (k[b,j,h,c] + near[r,h,c])")
    spec = spec.replace("time[B,S]: int", "time[B,S]: int, ok[B,S]: bool").replace("MASK", "allow ok[b,i] and ok[b,j]")
    rng = np.random.default_rng(m)
    clean = arrays(irc.compile(spec, target="reference"), {"B": 2, "S": 21, "H": 2, "D": 8, "M": m}, rng)
    clean["time"], clean["ok"] = rng.integers(0, m - 1, (2, 21)).astype(np.int32), np.ones((2, 21), bool)
    clean["time"][:, 4], clean["ok"][:, 4] = 1000, False
    dirty = {name: array.copy() for name, array in clean.items()}
    for name in ("q", "k", "v"):
        dirty[name][:, 4] = np.nan
    dirty["near"][-1], dirty["far"][-1] = np.inf, np.nan
    program = irc.compile(spec, target=target, sizes={"M": m} if m == 6 else {})
    same_bits(program, clean, dirty, rng.standard_normal((2, 21, 2, 8)).astype(np.float32), 4)


RELATIONS = """
attention relations {
  size B, S, H, D, M
  input q[B,S,H,D], k[B,S,H,D], v[B,S,H,D], relation[B,S,S]: int
  param near[M,D], far[M,D]
  assume 0 <= relation[b,i,j] < M
  core o[b,i,h,d] {
    score q[b,i,h,c] * (k[b,j,h,c] + near[relation[b,i,j],c])
    softmax j
    matmul v[b,j,h,d] + far[relation[b,i,j],d]
  }
  return o
}
"""


@pytest.mark.parametrize("target", ["cpu", "emulator"])
def test_relations_of_each_pair(target: str) -> None:
    """A table of pairs chooses (Wang et al. 2020, RAT-SQL): i is a query all the same, and no weight is stored."""
    rng = np.random.default_rng(6)
    inputs = arrays(irc.compile(RELATIONS, target="reference"), {"B": 2, "S": 21, "H": 3, "D": 8, "M": 11}, rng)
    inputs["relation"] = rng.integers(0, 11, (2, 21, 21)).astype(np.int32)
    both(RELATIONS, inputs, "f32", rng, target=target)
    compiled = irc.compile(RELATIONS, target=target).built({"D": 8, "M": 11}).compiled
    names = [sorted(s.name for s in t.shape if isinstance(s, Size)) for r in compiled.runs for t in r.plan.tensors]
    assert sum(n.count("S") > 1 for n in names) == 2  # the relations, in either run
