"""Kernels of order "elements" against numpy: table gradients, pair by pair."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from compiled import call

from irc.codegen.expr import Axis, Expr, Kind, Load, Local, Size, flat, integer, op
from irc.codegen.kernel import (
    CHUNK,
    CHUNKS,
    Accumulate,
    Dot,
    InnerSum,
    Panel,
    Target,
    Tensor,
    TileKernel,
    Value,
    Verdict,
)
from irc.codegen.render import MODEL, render_kernel

B, S, K = Size("B"), Size("S"), Size("K")
b, i, j = Axis("b", B), Axis("i", S, "row"), Axis("j", K, "column")
c, d = Axis("c", integer(3)), Axis("d", integer(5))
Q = Panel("Q", "row", (c, d), Load("q", (b.index, i.index, c.index, d.index)))
KEYS = Panel("KEYS", "column", (c, d), Load("k", (b.index, j.index, c.index, d.index)))
CAUSAL = op("le", j.index, i.index)
BOUNDS = Verdict(
    op("le", Local("column first", Kind.INT), Local("row last", Kind.INT)),
    op("le", Local("column last", Kind.INT), Local("row first", Kind.INT)),
)
DISTANCE = op("sub", i.index, j.index)


def table_kernel(support: Expr | None, verdict: Verdict | None, private: bool) -> TileKernel:
    """table[(chunk,) i - j + K - 1] += tanh(q_i . k_j), the adjoint of a relative bias."""
    place = op("add", DISTANCE, op("sub", K, integer(1)))
    target = Target("table", (CHUNK, place) if private else (i.index, place))
    return TileKernel(
        name="table_gradient",
        order="elements",
        tensors=(Tensor("q", "f64", 4), Tensor("k", "f64", 4), Tensor("table", "f64", 2, True)),
        sizes=("B", "S", "K", CHUNKS.name),
        batch=(),
        serial=(b,),
        rows=(i,),
        columns=(j,),
        panels=(Q, KEYS),
        body=(
            Dot("score", "Q", "KEYS"),
            Value("weight", op("tanh", Local("score")), True),
            Accumulate((), Local("weight"), target),
        ),
        support=support,
        verdict=verdict,
        arithmetic="f64",
    )


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("mask", ["none", "causal", "causal with verdict"])
@pytest.mark.parametrize(("rows", "columns"), [(70, 130), (1, 1), (100, 64), (0, 5)])
def test_table_gradient(rows: int, columns: int, mask: str, private: bool) -> None:
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((2, rows, 3, 5)), rng.standard_normal((2, columns, 3, 5))
    support = None if mask == "none" else CAUSAL
    kernel = table_kernel(support, BOUNDS if "verdict" in mask else None, private)
    weight = np.tanh(np.einsum("bicd,bjcd->bij", q, k))
    if support is not None:
        weight[:, np.arange(rows)[:, None] < np.arange(columns)] = 0
        k[:, rows:] = np.nan  # blocked for every row
    expected = np.zeros((rows, rows + columns - 1 + (rows == 0)))
    for row in range(rows):
        for column in range(columns):
            expected[row, row - column + columns - 1] += weight[:, row, column].sum()
    chunks = 3
    table = np.zeros((chunks, expected.shape[1])) if private else np.zeros_like(expected)
    call(kernel, {"q": q, "k": k, "table": table}, {"B": 2, "S": rows, "K": columns, CHUNKS.name: chunks})
    if private:
        np.testing.assert_allclose(table.sum(0), expected.sum(0), atol=1e-12)
    else:
        np.testing.assert_allclose(table, expected, atol=1e-12)


def test_two_dimensional_sides_inner_sums_and_inner_loops() -> None:
    """edge[b, n] += sum over pairs of w(i, j) * E[i, j, n], with rows and columns on a grid and b a batch axis."""
    y, x = Axis("y", Size("Y"), "row"), Axis("x", Size("X"), "row")
    v, u = Axis("v", Size("Y"), "column"), Axis("u", Size("X"), "column")
    n = Axis("n", Size("N"))
    row = flat(((y.index, y.size), (x.index, x.size)))
    column = flat(((v.index, v.size), (u.index, u.size)))
    edge = Load("E", (row, column, n.index))
    near = op(
        "le", op("add", op("abs", op("sub", y.index, v.index)), op("abs", op("sub", x.index, u.index))), integer(2)
    )
    kernel = TileKernel(
        name="edges",
        order="elements",
        tensors=(Tensor("E", "f32", 3), Tensor("w", "f32", 2), Tensor("g", "f32", 2), Tensor("dw", "f32", 2, True)),
        sizes=("B", "Y", "X", "N"),
        batch=(b,),
        serial=(),
        rows=(y, x),
        columns=(v, u),
        panels=(),
        body=(
            InnerSum("s", (n,), op("mul", edge, Load("w", (b.index, n.index))), True),
            Accumulate(
                (n,),
                op("mul", op("mul", Local("s"), edge), Load("g", (b.index, row))),
                Target("dw", (op("add", op("mul", b.index, op("mul", y.size, x.size)), row), n.index)),
            ),
        ),
        support=near,
        verdict=None,
        arithmetic="f32",
    )
    rng = np.random.default_rng(2)
    height, width, edges = 9, 13, 4
    e = rng.standard_normal((height * width, height * width, edges)).astype(np.float32)
    w = rng.standard_normal((2, edges)).astype(np.float32)
    g = rng.standard_normal((2, height * width)).astype(np.float32)
    dw = np.zeros((2 * height * width, edges), np.float32)
    call(kernel, {"E": e, "w": w, "g": g, "dw": dw}, {"B": 2, "Y": height, "X": width, "N": edges})
    rows, columns = np.divmod(np.arange(height * width), width)
    distance = abs(rows[:, None] - rows) + abs(columns[:, None] - columns)
    s = np.einsum("ijn,bn->bij", e, w) * (distance <= 2)
    np.testing.assert_allclose(dw.reshape(2, -1, edges), np.einsum("bij,ijn,bi->bin", s, e, g), rtol=1e-4, atol=1e-4)


def test_chunks_do_not_depend_on_threads() -> None:
    rng = np.random.default_rng(3)
    q, k = rng.standard_normal((2, 150, 3, 5)), rng.standard_normal((2, 90, 3, 5))
    results = []
    for threads in (1, 2, 3):
        table = np.zeros((2, 239))
        arrays = {"q": q, "k": k, "table": table}
        call(table_kernel(CAUSAL, BOUNDS, True), arrays, {"B": 2, "S": 150, "K": 90, CHUNKS.name: 2}, threads)
        results.append(table.tobytes())
    assert len(set(results)) == 1


def test_what_takes_long_is_computed_where_it_is_known() -> None:
    """table[m] += u[m] * (i - j) / exp(exp(c) i): the quotient once a pair, its divisor once a row, exp(c) once."""
    m = Axis("m", integer(4))
    once = op("exp", Load("c", ()))
    divisor = op("exp", op("mul", once, op("float", i.index)))
    near = op("div", op("float", DISTANCE), divisor)
    kernel = TileKernel(
        name="known",
        order="elements",
        tensors=(Tensor("c", "f64", 0), Tensor("u", "f64", 1), Tensor("table", "f64", 2, True)),
        sizes=("B", "S", "K", CHUNKS.name),
        batch=(),
        serial=(b,),
        rows=(i,),
        columns=(j,),
        panels=(),
        body=(Accumulate((m,), op("mul", Load("u", (m.index,)), near), Target("table", (CHUNK, m.index))),),
        support=CAUSAL,
        verdict=BOUNDS,
        arithmetic="f64",
    )
    (text,) = render_kernel(kernel, MODEL)
    lines = text.splitlines()
    place = {what: next(n for n, line in enumerate(lines) if what in line) for what in (
        "irc::exp(irc::load<T>(c_ptr[0]))", "#pragma omp", "*irc::to_float<T>(i)", "for (int place = begin",
        "irc::to_float<T>(i - j)", "for (int64_t m__ = 0",
    )}  # fmt: skip
    assert list(place.values()) == sorted(place.values()), place
    rng = np.random.default_rng(2)
    rows, columns = 40, 70
    arrays = {"c": np.array(-3.0), "u": rng.standard_normal(4), "table": np.zeros((2, 4))}
    call(kernel, arrays, {"B": 1, "S": rows, "K": columns, CHUNKS.name: 2})
    at, over = np.arange(rows)[:, None], np.arange(columns)
    quotients = np.where(over <= at, (at - over) / np.exp(np.exp(-3.0) * at), 0.0)
    np.testing.assert_allclose(arrays["table"].sum(0), quotients.sum() * arrays["u"], rtol=1e-12)


HEAD = Axis("h", Size("H"))
ROWS, COLUMNS = 203, 131
APART = np.arange(ROWS)[:, None] - np.arange(COLUMNS)  # i - j
MOVED = op("add", DISTANCE, op("sub", K, integer(1)))
PLACES: dict[str, tuple[Expr, np.ndarray]] = {
    "difference": (MOVED, APART + COLUMNS - 1),
    "the other way": (op("add", op("sub", j.index, i.index), op("sub", S, integer(1))), ROWS - 1 - APART),
    "clamped": (op("add", op("clamp", DISTANCE, integer(-20), integer(40)), integer(20)), APART.clip(-20, 40) + 20),
    "bucket": (Load("bucket", (MOVED,), Kind.INT), np.sqrt(abs(APART)).astype(int)),
    "of pairs": (Load("pair", (i.index, j.index), Kind.INT), APART**2 % 7),
    "column": (j.index, np.tile(np.arange(COLUMNS), (ROWS, 1))),
    "difference that exists": (DISTANCE, APART),
}


@pytest.mark.parametrize("arithmetic", ["f32", "f64"])
@pytest.mark.parametrize(("place", "masked"), [(p, m) for p in PLACES for m in (True, False) if m or "exists" not in p])
def test_places_in_a_table(place: str, masked: bool, arithmetic: Literal["f32", "f64"]) -> None:
    """table[chunk, h, place(i, j)] += E[i, j] * u[b, h, i], over b too; what is blocked holds NaN, and has no place."""
    index, at = PLACES[place]
    chunks = 2
    value = op("mul", Load("E", (i.index, j.index)), Load("u", (b.index, HEAD.index, i.index)))
    kernel = TileKernel(
        name="places",
        order="elements",
        tensors=(
            Tensor("E", arithmetic, 2),
            Tensor("bucket", "i32", 1),
            Tensor("pair", "i32", 2),
            Tensor("table", arithmetic, 3, True),
            Tensor("u", arithmetic, 3),
        ),
        sizes=("B", "H", "S", "K", CHUNKS.name),
        batch=(HEAD,),
        serial=(b,),
        rows=(i,),
        columns=(j,),
        panels=(),
        body=(
            Value("weight", value, masked),
            Accumulate((), Local("weight"), Target("table", (CHUNK, HEAD.index, index))),
        ),
        support=CAUSAL if masked else None,
        verdict=BOUNDS if masked else None,
        arithmetic=arithmetic,
    )
    rng = np.random.default_rng(5)
    exists = np.tri(ROWS, COLUMNS, dtype=bool) if masked else np.ones((ROWS, COLUMNS), bool)
    edges, u = rng.standard_normal((ROWS, COLUMNS)), rng.standard_normal((2, 3, ROWS))
    expected = np.zeros((3, int(at[exists].max()) + 1))
    for h in range(3):
        np.add.at(expected[h], at[exists], (edges * u[:, h].sum(0)[:, None])[exists])
    kind = np.float32 if arithmetic == "f32" else np.float64
    arrays = {
        "E": np.where(exists, edges, np.nan).astype(kind),
        "bucket": np.sqrt(abs(np.arange(ROWS + COLUMNS - 1) - (COLUMNS - 1))).astype(np.int32),
        "pair": np.where(exists, at, 2**30).astype(np.int32),
        "u": u.astype(kind),
    }
    results = []
    for threads in (1, 2):
        arrays["table"] = np.zeros((chunks, *expected.shape), kind)
        call(kernel, arrays, {"B": 2, "H": 3, "S": ROWS, "K": COLUMNS, CHUNKS.name: chunks}, threads)
        results.append(arrays["table"].tobytes())
    assert results[0] == results[1]
    error = np.linalg.norm(arrays["table"].sum(0) - expected) / np.linalg.norm(expected)
    assert error < (5e-6 if arithmetic == "f32" else 1e-14)


@pytest.mark.parametrize("support", [None, CAUSAL], ids=["all", "causal"])
def test_neighbours_among_columns_alone(support: Expr | None) -> None:
    """dense[h, i, j] += q_i . k_j, over b: vectors lie along the columns, and blocked elements stay 0."""
    rows, columns = 70, 133
    kernel = TileKernel(
        name="dense",
        order="elements",
        tensors=(Tensor("q", "f32", 4), Tensor("k", "f32", 4), Tensor("dense", "f32", 3, True)),
        sizes=("B", "H", "S", "K"),
        batch=(HEAD,),
        serial=(b,),
        rows=(i,),
        columns=(j,),
        panels=(
            Panel("Q", "row", (d,), Load("q", (b.index, HEAD.index, i.index, d.index))),
            Panel("KEYS", "column", (d,), Load("k", (b.index, HEAD.index, j.index, d.index))),
        ),
        body=(
            Dot("score", "Q", "KEYS"),
            Accumulate((), Local("score"), Target("dense", (HEAD.index, i.index, j.index))),
        ),
        support=support,
        verdict=BOUNDS if support else None,
        arithmetic="f32",
    )
    (text,) = render_kernel(kernel, MODEL)
    assert "irc::add_run(&dense_ptr[h*dense_s0 + i*dense_s1 + j*dense_s2], 1 * dense_s2, values)" in text
    rng = np.random.default_rng(6)
    q = rng.standard_normal((2, 3, rows, 5)).astype(np.float32)
    k = rng.standard_normal((2, 3, columns, 5)).astype(np.float32)
    expected = np.einsum("bhic,bhjc->hij", q, k)
    if support is not None:
        expected[:, ~np.tri(rows, columns, dtype=bool)] = 0
        k[:, :, rows:] = np.nan
    dense = np.zeros((3, rows, columns), np.float32)
    call(kernel, {"q": q, "k": k, "dense": dense}, {"B": 2, "H": 3, "S": rows, "K": columns})
    np.testing.assert_allclose(dense, expected, atol=1e-5)


def test_several_sums_of_one_body() -> None:
    """Tables by difference and by head of the same values, one of a plain product, and one with a loop of its own."""
    rows, columns, chunks = 60, 100, 2
    m = Axis("n", integer(3))  # a name that templates use too
    difference = op("add", DISTANCE, op("sub", K, integer(1)))
    score = op("mul", Load("x", (i.index,)), Load("y", (j.index,)))
    chunk = CHUNK
    weighted = op("mul", Local("score"), Load("w", (m.index,)))
    kernel = TileKernel(
        name="several",
        order="elements",
        tensors=(
            Tensor("first", "f64", 2, True),
            Tensor("second", "f64", 2, True),
            Tensor("third", "f64", 3, True),
            Tensor("w", "f64", 1),
            Tensor("x", "f64", 1),
            Tensor("y", "f64", 1),
        ),
        sizes=("S", "K", CHUNKS.name),
        batch=(),
        serial=(),
        rows=(i,),
        columns=(j,),
        panels=(),
        body=(
            Value("score", score, True),
            Accumulate((), Local("score"), Target("first", (chunk, difference))),
            Accumulate((), op("mul", Local("score"), Local("score")), Target("second", (chunk, j.index))),
            Accumulate((m,), weighted, Target("third", (chunk, j.index, m.index))),
        ),
        support=CAUSAL,
        verdict=BOUNDS,
        arithmetic="f64",
    )
    rng = np.random.default_rng(7)
    arrays = {"w": rng.standard_normal(3), "x": rng.standard_normal(rows), "y": rng.standard_normal(columns)}
    results = {
        "first": np.zeros((chunks, rows + columns - 1)),
        "second": np.zeros((chunks, columns)),
        "third": np.zeros((chunks, columns, 3)),
    }
    call(kernel, arrays | results, {"S": rows, "K": columns, CHUNKS.name: chunks})
    scores = np.where(np.tri(rows, columns, dtype=bool), arrays["x"][:, None] * arrays["y"], 0)
    first = [np.trace(scores, columns - 1 - place) for place in range(rows + columns - 1)]
    np.testing.assert_allclose(results["first"].sum(0), first, atol=1e-12)
    np.testing.assert_allclose(results["second"].sum(0), (scores**2).sum(0), atol=1e-12)
    np.testing.assert_allclose(results["third"].sum(0), scores.sum(0)[:, None] * arrays["w"], atol=1e-12)
