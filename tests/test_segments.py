"""`segment(cu, i)`: what it means, that kernels and the C library keep it, and what a call must keep for it."""

from __future__ import annotations

import re
from itertools import combinations_with_replacement, pairwise
from pathlib import Path

import numpy as np
import pytest

import irc
from irc.codegen.expr import Index, Kind, Load, integer, op
from irc.graph.interpret import Grid, evaluate
from tests.masks import offsets
from tests.test_export import Exported, agree
from tests.test_kernels import TOLERANCE, relative, widened
from tests.test_masks import dense

MASKS = Path(__file__).parent.parent / "examples" / "masks"
VARIANTS = MASKS.parent / "variants"
Array = np.ndarray
Arrays = dict[str, Array]

LOOK_UP = """attention look_up {
  size  T, N
  input x[T], cu[N + 1]: int
  assume nondecreasing cu[n] over n
  project { y[t] = x[t] * float(segment(cu, t - 3)) }
  return y
}"""

TABLES = """attention tables {
  size  T, H, D, N, R
  input q[T,H,D], k[T,H,D], v[T,H,D], cu[N + 1]: int
  param slope[N,H], gain[N], T5[H, 2 * R + 1]
  assume nondecreasing cu[n] over n, cu[0] == 0, cu[N] == T

  core o[i,h,d] {
    let    s = segment(cu, i)
    let    apart = (j - cu[segment(cu, j)]) - (i - cu[s])
    score  q[i,h,c] * gain[s] * k[j,h,c]
    scale  1 / sqrt(D)
    bias   slope[s,h] * apart + T5[h, clamp(apart, -R, R) + R] + 0.1 * float(segment(cu, (i + j) // 2))
    allow  s == segment(cu, j) and apart <= 0
    softmax j
    matmul v[j,h,d]
  }
  return o
  ensure causal, rows nonempty
}"""

OPEN_ENDED = (MASKS / "packed_prefix.attn").read_text(encoding="utf-8").replace(", cu[0] == 0, cu[N] == T", "")


def tables(rng: np.random.Generator, total: int, count: int) -> Arrays:
    shapes = {**dict.fromkeys("qkv", (total, 2, 8)), "slope": (count, 2), "gain": (count,), "T5": (2, 11)}
    drawn = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    return drawn | {"cu": offsets(rng, count, total)}


def packed(rng: np.random.Generator, total: int, cu: Array) -> Arrays:
    """q, k, v and a cotangent of o, with the table."""
    return {n: rng.standard_normal((total, 2, 8)).astype(np.float32) for n in ("q", "k", "v", "o")} | {"cu": cu}


@pytest.mark.parametrize("count", range(5))
def test_it_counts_the_offsets_up_to_the_position(count: int) -> None:
    at = np.arange(-2, 7)
    for entries in combinations_with_replacement(range(-1, 6), count):
        row = Load("cu", (integer(0),), Kind.INT)
        position = op("sub", Index("i"), integer(2))
        grid = Grid(("i",), {}, {"cu": np.asarray(entries, np.int64)}, (range(9),))
        found = evaluate(op("segment", row, integer(count), position), grid)
        expected = [sum(e <= i for e in entries[1:]) for i in at]
        assert np.broadcast_to(found, (9,)).tolist() == expected, entries


def test_kernels_find_it_in_every_table() -> None:
    """Sequences may be empty, the first may begin late or before the first token, the last end early or beyond."""
    program = irc.compile(LOOK_UP)
    x = np.ones(9, np.float32)
    for count in (1, 2, 3, 4, 5, 8):
        for entries in list(combinations_with_replacement(range(-4, 8), min(count, 4)))[::7]:
            cu = np.sort(np.resize(np.asarray(entries, np.int32), count))
            expected = [(cu[1:] <= t - 3).sum() for t in range(9)]
            assert program(x=x, cu=cu).tolist() == expected, cu


def test_it_is_an_integer_and_passes_nothing() -> None:
    program = irc.compile(LOOK_UP)
    cu, x = np.asarray([0, 2, 2, 5], np.int32), np.arange(9, dtype=np.float32)
    run = program.forward(x=x, cu=cu)
    gradients = run.backward(y=np.ones(9, np.float32))
    assert {n: g.tolist() for n, g in gradients.items()} == {"x": [(cu[1:] <= t - 3).sum() for t in range(9)]}


@pytest.mark.optimise("-O0")
@pytest.mark.parametrize(("total", "count"), [(150, 1), (150, 7), (150, 40), (7, 3), (0, 2)])
def test_everything_that_reads_it_agrees_with_the_interpreter(total: int, count: int) -> None:
    """Biases by segment, a table of distances within one, a factor of the score; outputs, gradients, products."""
    rng = np.random.default_rng(total + count)
    arrays = tables(rng, total, count)
    program, reference = irc.compile(TABLES), irc.compile(TABLES, target="reference")
    run, expected = program.forward(**arrays), reference.forward(**widened(arrays))
    assert relative(run.outputs["o"], expected.outputs["o"]) < TOLERANCE["f32"]
    cotangent = rng.standard_normal((total, 2, 8)).astype(np.float32)
    gradients, against = run.backward(o=cotangent), expected.backward(o=cotangent.astype(np.float64))
    assert set(gradients) == set(against) == {"q", "k", "v", "slope", "gain", "T5"}
    for name, gradient in gradients.items():
        assert relative(gradient, against[name], 1.0) < 3 * TOLERANCE["f32"], name


@pytest.mark.optimise("-O0")
def test_tangents_and_hessians_agree_with_the_interpreter() -> None:
    rng = np.random.default_rng(4)
    path = MASKS / "packed_offsets.attn"
    arrays = packed(rng, 60, offsets(rng, 4, 60))
    along, cotangent = {"q": arrays.pop("o")}, {"o": arrays["v"]}
    program, reference = irc.compile(path), irc.compile(path, target="reference")
    wide = widened(arrays), widened(along), widened(cotangent)
    for name, tangent in program.jvp(arrays, along)[1].items():
        assert relative(tangent, reference.jvp(*wide[:2])[1][name]) < 1e-5, name
    for name, product in program.hvp(arrays, along, cotangent).items():
        assert relative(product, reference.hvp(*wide)[name]) < 1e-4, name


@pytest.mark.parametrize("lengths", [(1,) * 70, (0, 0, 130, 0, 3, 97, 0), (64, 64, 64), (300,)])
def test_packed_sequences_are_the_sequences_one_by_one(lengths: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(lengths))
    cu = np.cumsum([0, *lengths]).astype(np.int32)
    program, arrays = irc.compile(MASKS / "packed_offsets.attn"), packed(rng, cu[-1], cu)
    cotangent = arrays.pop("o")
    run = program.forward(**arrays)
    gradients = run.backward(o=cotangent)
    for first, last in pairwise(cu):
        whole = (*(arrays[n] for n in "qkv"), cotangent)
        part = [np.swapaxes(x[first:last], 0, 1)[None].astype(np.float64) for x in whole]
        mask = np.tri(last - first, dtype=bool)
        output, expected = dense(*part[:3], mask, part[3])
        assert relative(run.outputs["o"][first:last], np.swapaxes(output[0], 0, 1)) < TOLERANCE["f32"]
        for name, gradient in gradients.items():
            assert relative(gradient[first:last], np.swapaxes(expected[name][0], 0, 1), 1.0) < 3 * TOLERANCE["f32"]


def test_what_another_sequence_holds_reaches_nothing() -> None:
    rng = np.random.default_rng(6)
    cu = np.asarray([0, 40, 40, 75, 130], np.int32)
    program = irc.compile(MASKS / "packed_offsets.attn")
    arrays = packed(rng, 130, cu)
    runs = []
    for poison in (0.0, np.nan):
        given = {n: a.copy() for n, a in arrays.items()}
        for name in ("q", "k", "v", "o"):
            given[name][40:75] = poison
        cotangent = given.pop("o")
        run = program.forward(**given)
        runs.append({"o": run.outputs["o"], **run.backward(o=cotangent)})
    others = np.r_[0:40, 75:130]
    for name, clean in runs[0].items():
        assert np.array_equal(clean[others], runs[1][name][others]), name
        assert np.isnan(runs[1][name][40:75]).all(), name


def test_more_queries_than_keys_leave_rows_empty() -> None:
    """The first queries of a sequence that has fewer keys see nothing: 0, a logsumexp of -inf, and no gradient."""
    rng = np.random.default_rng(7)
    cu_q, cu_k = np.asarray([0, 5, 6, 30], np.int32), np.asarray([0, 2, 2, 40], np.int32)
    program = irc.compile(VARIANTS / "packed_alibi.attn")
    shapes = {"q": (30, 2, 8), "k": (40, 2, 8), "v": (40, 2, 8), "slope": (2,)}
    arrays = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    run = program.forward(**arrays, cu_q=cu_q, cu_k=cu_k)
    empty = np.asarray([0, 1, 2, 5])
    assert (np.isneginf(run.outputs["lse"]).all(axis=1) == np.isin(np.arange(30), empty)).all()
    assert (run.outputs["o"][empty] == 0).all() and (run.outputs["o"][[3, 4, 6, 29]] != 0).all()
    gradients = run.backward(o=np.ones((30, 2, 8), np.float32), lse=np.ones((30, 2), np.float32))
    assert (gradients["q"][empty] == 0).all() and all(np.isfinite(g).all() for g in gradients.values())


@pytest.mark.parametrize(
    ("cu", "message"),
    [
        ([0, 3, 2, 8], r"assumes nondecreasing cu\[n\] over n, which fails at n = 1"),
        ([1, 3, 8], r"assumes cu\[0\] == 0, but cu\[0\] = 1"),
        ([0, 3, 7], r"assumes cu\[N\] == T, but cu\[N\] = 7, N = 2, T = 8"),
        ([], r"cu axis 0: expected \(N \+ 1\), for some size N, got 0"),
    ],
)
def test_a_table_that_breaks_an_assumption_is_named(cu: list[int], message: str) -> None:
    program = irc.compile(MASKS / "packed_offsets.attn")
    x = np.zeros((8, 1, 8), np.float32)
    with pytest.raises(irc.InputError, match=message):
        program(q=x, k=x, v=x, cu=np.asarray(cu, np.int32))


def test_a_difference_that_decreases_is_named() -> None:
    program = irc.compile(MASKS / "packed_cache.attn", target="reference")
    x, cu_q, cu_k = np.zeros((8, 1, 8)), np.asarray([0, 3, 8], np.int32), np.asarray([0, 2, 8], np.int32)
    with pytest.raises(
        irc.InputError, match=r"assumes nondecreasing cu_k\[n\] - cu_q\[n\] over n, which fails at n = 0"
    ):
        program(q=x, k=x, v=x, cu_q=cu_q, cu_k=cu_k)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("packed_offsets", "`incremental` says nothing here: the program assumes cu[N] == T"),
        ("packed_cache", "`incremental` is not decided: it cannot be told from the offset of `align`"),
    ],
)
def test_what_is_not_decided_of_decoding_says_why(name: str, said: str) -> None:
    text = (MASKS / f"{name}.attn").read_text(encoding="utf-8").replace("rows nonempty", "incremental")
    with pytest.raises(irc.SpecError, match=re.escape(said)):
        irc.compile(text, target="reference")


def test_what_is_read_by_segment_is_proved_to_be_there() -> None:
    """With the ends of the table assumed; without, it is told from the table of each call."""
    both = (MASKS / "packed_prefix.attn", OPEN_ENDED)
    program, open_ended = (irc.compile(text, target="reference") for text in both)
    assert program.graph.accesses == ()
    assert [load.tensor for load, _ in open_ended.graph.accesses] == ["prefix"]
    x = np.ones((8, 1, 8))
    given = {"q": x, "k": x, "v": x, "prefix": np.asarray([1, 2], np.int32)}
    for run in (program, open_ended):
        assert run(**given, cu=np.asarray([0, 3, 8], np.int32)).shape == (8, 1, 8)
    with pytest.raises(irc.InputError, match="prefix: axis 0 has 2 entries, but the program may read 0 to 2"):
        open_ended(**given, cu=np.asarray([0, 3, 7], np.int32))


def test_kernels_look_it_up_once_a_row_or_column() -> None:
    """Never pair by pair, but where it is the segment of a place that depends on both; and never feature by feature."""
    source = irc.compile(TABLES, sizes={"D": 8}).source
    lines = [line for line in source.splitlines() if "irc::segment(" in line]
    pairwise = [
        line for line in lines if re.search(r"result\[lane\]|irc::load_vector|\*packed|\*across|const auto", line)
    ]
    assert len(pairwise) == len([line for line in lines if "floordiv(i + j, 2)" in line]) > 0
    assert all("floordiv(i + j, 2)" in line for line in pairwise)


def test_no_kernel_passes_over_all_tokens_to_find_segments() -> None:
    source = irc.compile(MASKS / "packed_offsets.attn", sizes={"D": 8}).source
    assert "irc::segment(" in source and "irc::Summary<" not in source.partition('extern "C"')[2]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A program that reads a table by segment, and assumes nothing of where its offsets begin and end."""
    return Exported(irc.compile(OPEN_ENDED, sizes={"D": 8}), tmp_path_factory.mktemp("packed"))


def test_the_library_for_c_gives_the_same(exported: Exported) -> None:
    rng = np.random.default_rng(8)
    arrays = packed(rng, 50, offsets(rng, 4, 50))
    agree(exported, {n: arrays[n] for n in ("q", "k", "v", "cu")} | {"prefix": np.asarray([2, 0, 9, 3], np.int32)})


def test_the_library_for_c_refuses_a_table_that_breaks_an_assumption(exported: Exported) -> None:
    sizes = {"T": 6, "H": 1, "N": 2}
    saved = np.zeros(exported.bytes("saved_bytes", sizes) + 64, np.uint8)

    def said(*cu: int) -> str:
        floats = {n: np.zeros((6, 1, 8), np.float32) for n in ("q", "k", "v", "o")}
        integers = {"cu": np.asarray(cu, np.int32), "prefix": np.zeros(2, np.int32)}
        return exported.error(exported.run("forward", sizes, floats | integers, saved))

    assert said(0, 4, 3) == "the program assumes nondecreasing cu[n] over n"
    assert said(0, 2, 5) == "prefix: an index may leave its axis"
    assert said(0, 2, 6) == exported.error(0)
