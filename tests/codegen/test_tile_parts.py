"""Tile kernels beyond plain attention: inner sums, reductions of both sides, late values, positions in the plane."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from attention_tiles import BATCH, CAUSAL, CAUSAL_VERDICT, COLUMNS, ROWS, SIZES, S, Setup, b, c, d, forward, h, i, j
from compiled import call

from irc.codegen.expr import Axis, Expr, Index, Kind, Load, Local, Size, flat, integer, number, op
from irc.codegen.kernel import (
    ColumnReduce,
    Dot,
    InnerSum,
    OnlineSoftmax,
    Panel,
    RowProduct,
    RowReduce,
    Target,
    Tensor,
    TileKernel,
    TileOp,
    Value,
)
from irc.codegen.render import MODEL, render_kernel

RNG = np.random.default_rng(3)


def _normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def _kernel(order: str, tensors: tuple[Tensor, ...], panels: tuple[Panel, ...], body: tuple[TileOp, ...]) -> TileKernel:
    return TileKernel(
        name="parts",
        order=order,  # type: ignore[arg-type]
        tensors=tensors,
        sizes=SIZES,
        batch=BATCH,
        serial=(),
        rows=ROWS,
        columns=COLUMNS,
        panels=panels,
        body=body,
        support=CAUSAL,
        verdict=CAUSAL_VERDICT,
        arithmetic="f32",
    )


@pytest.mark.parametrize("rows,columns", [(130, 130), (60, 201), (101, 7)])
def test_inner_sum_and_reductions_of_both_sides(rows: int, columns: int) -> None:
    n = Index("n")
    edge = Load("edge", (i, j, n))
    body = (
        InnerSum("e", (Axis("n", integer(3)),), op("mul", edge, Load("weight", (h, n))), False),
        Value("x", op("add", Local("e"), op("mul", Load("u", (b, h, i)), Load("t", (b, h, j)))), False),
        RowReduce("sum", "x", Target("row_sum", (b, h, i))),
        RowReduce("max", "x", Target("row_top", (b, h, i))),
        ColumnReduce("sum", "x", Target("column_sum", (b, h, j))),
        ColumnReduce("max", "x", Target("column_top", (b, h, j))),
    )
    ranks = {"edge": 3, "weight": 2, "u": 3, "t": 3}
    results = ("row_sum", "row_top", "column_sum", "column_top")
    tensors = (*(Tensor(t, "f32", r) for t, r in ranks.items()), *(Tensor(t, "f32", 3, True) for t in results))
    arrays = {
        "edge": _normal(rows, columns, 3),
        "weight": _normal(2, 3),
        "u": _normal(2, 2, rows),
        "t": _normal(2, 2, columns),
        **{t: _normal(2, 2, rows if t.startswith("row") else columns) for t in results},
    }
    kernel = _kernel("columns", tensors, (), body)
    (text,) = render_kernel(kernel, MODEL)
    assert "irc::gather_elements<vec>(wanted, &edge_ptr[" in text
    assert "irc::load<T>(weight_ptr[" in text  # one number for all pairs
    call(kernel, arrays, {"B": 2, "H": 2, "Sq": rows, "Sk": columns})
    x = np.einsum("ijn,hn->hij", arrays["edge"], arrays["weight"]) + np.einsum(
        "bhi,bhj->bhij", arrays["u"], arrays["t"]
    )
    allowed = np.arange(columns) <= np.arange(rows)[:, None]
    zeroed, lowered = np.where(allowed, x, 0), np.where(allowed, x, -np.inf)
    expected = (zeroed.sum(-1), lowered.max(-1), zeroed.sum(-2), lowered.max(-2))
    for name, value in zip(results, expected, strict=True):
        np.testing.assert_allclose(arrays[name], value, rtol=1e-4, atol=1e-4, err_msg=name)


def test_entropy_is_made_of_weights_after_the_softmax() -> None:
    kernel = forward(Setup(support=CAUSAL, verdict=CAUSAL_VERDICT))
    softmax_step = OnlineSoftmax(Local("logit"), "w", None, Target("lse", (b, h, i)), None)
    body = (
        kernel.body[0],
        Value("logit", op("mul", S, number(0.125)), False),
        softmax_step,
        Value("wl", op("mul", Local("w"), Local("logit")), True),
        RowReduce("sum", "wl", Target("mean", (b, h, i))),
        RowReduce("sum", "w", Target("total", (b, h, i))),
        RowReduce("max", "logit", Target("top", (b, h, i))),
        RowProduct("logit", "pv", Target("o", (b, h, i, d))),
    )
    extra = (Tensor("mean", "f32", 3, True), Tensor("total", "f32", 3, True))
    kernel = replace(kernel, body=body, tensors=(*kernel.tensors, *extra))
    shape = (1, 2, 150, 150)
    arrays = {n: _normal(*shape[:3], 64) for n in "qkvo"} | {
        n: _normal(*shape[:3]) for n in ("lse", "top", "mean", "total")
    }
    call(kernel, arrays, dict(zip(SIZES, shape, strict=True)))
    logits = np.where(np.tri(150, dtype=bool), arrays["q"] @ arrays["k"].swapaxes(-1, -2) * 0.125, -np.inf)
    weights = np.exp(logits - arrays["lse"][..., None])
    finite = np.where(np.tri(150, dtype=bool), logits, 0)
    np.testing.assert_allclose(arrays["total"], 1, rtol=1e-5)
    np.testing.assert_allclose(arrays["mean"], (weights * finite).sum(-1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(arrays["top"], logits.max(-1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(arrays["o"], finite @ arrays["v"], rtol=1e-3, atol=1e-3)


def test_positions_in_the_plane() -> None:
    yi, xi, yj, xj = (Index(name) for name in ("yi", "xi", "yj", "xj"))
    height, breadth = Size("Y"), Size("X")

    def at(y: Expr, x: Expr) -> Expr:
        return flat(((y, height), (x, breadth)))

    def near(p: Expr, q: Expr) -> Expr:
        return op("le", op("abs", op("sub", p, q)), integer(2))

    logit = op(
        "add", S, Load("table", (op("add", op("sub", yi, yj), integer(2)), op("add", op("sub", xi, xj), integer(2))))
    )
    width = integer(24)
    kernel = TileKernel(
        name="plane",
        order="rows",
        tensors=(*(Tensor(n, "f32", 2) for n in ("q", "k", "v", "table")), Tensor("o", "f32", 2, True)),
        sizes=("Y", "X"),
        batch=(),
        serial=(),
        rows=(Axis("yi", height, "row"), Axis("xi", breadth, "row")),
        columns=(Axis("yj", height, "column"), Axis("xj", breadth, "column")),
        panels=(
            Panel("pq", "row", (Axis("c", width),), Load("q", (at(yi, xi), c))),
            Panel("pk", "column", (Axis("c", width),), Load("k", (at(yj, xj), c))),
            Panel("pv", "column", (Axis("d", width),), Load("v", (at(yj, xj), d))),
        ),
        body=(
            Dot("s", "pq", "pk"),
            OnlineSoftmax(logit, "w", None, None, None),
            RowProduct("w", "pv", Target("o", (at(yi, xi), d))),
        ),
        support=op("and", near(yi, yj), near(xi, xj)),
        verdict=None,
        arithmetic="f32",
    )
    rows, columns = 11, 13
    arrays = {n: _normal(rows * columns, 24) for n in "qkvo"} | {"table": _normal(5, 5)}
    call(kernel, arrays, {"Y": rows, "X": columns})
    y, x = np.divmod(np.arange(rows * columns), columns)
    dy, dx = y[:, None] - y, x[:, None] - x
    allowed = (abs(dy) <= 2) & (abs(dx) <= 2)
    bias = arrays["table"][np.clip(dy + 2, 0, 4), np.clip(dx + 2, 0, 4)]
    logits = np.where(allowed, arrays["q"] @ arrays["k"].T + bias, -np.inf)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    np.testing.assert_allclose(
        arrays["o"], weights / weights.sum(-1, keepdims=True) @ arrays["v"], rtol=1e-4, atol=1e-5
    )


def test_two_feature_axes_and_two_dots() -> None:
    kernel = forward(Setup(support=CAUSAL, verdict=CAUSAL_VERDICT))
    e = Index("e")
    features = (Axis("c", integer(3)), Axis("e", integer(4)))
    panels = (
        *kernel.panels,
        Panel("rq", "row", features, Load("r", (b, h, i, c, e))),
        Panel("rk", "column", features, op("float", op("sub", op("mul", c, integer(2)), e))),
    )
    score = op("add", op("mul", S, number(0.125)), Local("t", Kind.FLOAT))
    body = (
        kernel.body[0],
        Dot("t", "rq", "rk"),
        OnlineSoftmax(score, "w", None, Target("lse", (b, h, i)), None),
        kernel.body[2],
    )
    kernel = replace(kernel, panels=panels, body=body, tensors=(*kernel.tensors, Tensor("r", "f32", 5)))
    shape = (1, 2, 100, 100)
    arrays = {n: _normal(*shape[:3], 64) for n in "qkvo"} | {n: _normal(*shape[:3]) for n in ("lse", "top")}
    arrays["r"] = _normal(*shape[:3], 3, 4)
    call(kernel, arrays, dict(zip(SIZES, shape, strict=True)))
    step = np.arange(3)[:, None] * 2.0 - np.arange(4)
    logits = (
        arrays["q"] @ arrays["k"].swapaxes(-1, -2) * 0.125 + np.einsum("bhice,ce->bhi", arrays["r"], step)[..., None]
    )
    logits = np.where(np.tri(100, dtype=bool), logits, -np.inf)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    np.testing.assert_allclose(
        arrays["o"], weights / weights.sum(-1, keepdims=True) @ arrays["v"], rtol=1e-4, atol=1e-4
    )
