"""Attention kernels made by hand, and what they should give, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irc.codegen.expr import Axis, Const, Expr, Index, Kind, Load, Local, Size, integer, number, op
from irc.codegen.kernel import (
    Arithmetic,
    ColumnProduct,
    Dot,
    OnlineSoftmax,
    Panel,
    RowProduct,
    Storage,
    Target,
    Tensor,
    TileKernel,
    Value,
    Verdict,
)

b, h, i, j, c, d = (Index(name) for name in "bhijcd")
BATCH = (Axis("b", Size("B")), Axis("h", Size("H")))
ROWS = (Axis("i", Size("Sq"), "row"),)
COLUMNS = (Axis("j", Size("Sk"), "column"),)
SIZES = ("B", "H", "Sq", "Sk")
S = Local("s")

ROW_FIRST, ROW_LAST, COLUMN_FIRST, COLUMN_LAST = (
    Local(name, Kind.INT) for name in ("row first", "row last", "column first", "column last")
)
CAUSAL = op("le", j, i)
CAUSAL_VERDICT = Verdict(op("le", COLUMN_FIRST, ROW_LAST), op("le", COLUMN_LAST, ROW_FIRST))


def window(w: int) -> tuple[Expr, Verdict]:
    """i - w < j <= i."""
    near = op("lt", op("sub", i, integer(w)), j)
    return op("and", CAUSAL, near), Verdict(
        op("and", CAUSAL_VERDICT.may, op("lt", op("sub", ROW_FIRST, integer(w)), COLUMN_LAST)),
        op("and", CAUSAL_VERDICT.must, op("lt", op("sub", ROW_LAST, integer(w)), COLUMN_FIRST)),
    )


@dataclass(frozen=True)
class Setup:
    """Widths, storage and what is done to the score; `logit` is an expression of Local("s")."""

    width: int = 64
    value_width: int = 64
    storage: Storage = "f32"
    arithmetic: Arithmetic = "f32"
    group: int = 1
    support: Expr | None = None
    verdict: Verdict | None = None
    logit: Expr | None = None
    tensors: tuple[Tensor, ...] = ()
    init: Expr | None = None

    @property
    def score(self) -> Expr:
        return self.logit if self.logit is not None else op("mul", S, number(self.width**-0.5))

    @property
    def kv_head(self) -> Expr:
        return op("floordiv", h, integer(self.group))


def _axis(index: Index, size: int) -> tuple[Axis, ...]:
    return (Axis(index.name, Const(size, Kind.INT)),)


def forward(setup: Setup) -> TileKernel:
    kv = setup.kv_head
    return TileKernel(
        name="forward",
        order="rows",
        tensors=(
            *(Tensor(name, setup.storage, 4) for name in "qkv"),
            Tensor("o", setup.storage, 4, True),
            Tensor("lse", setup.arithmetic, 3, True),
            Tensor("top", setup.arithmetic, 3, True),
            *setup.tensors,
        ),
        sizes=SIZES,
        batch=BATCH,
        serial=(),
        rows=ROWS,
        columns=COLUMNS,
        panels=(
            Panel("pq", "row", _axis(c, setup.width), Load("q", (b, h, i, c))),
            Panel("pk", "column", _axis(c, setup.width), Load("k", (b, kv, j, c))),
            Panel("pv", "column", _axis(d, setup.value_width), Load("v", (b, kv, j, d))),
        ),
        body=(
            Dot("s", "pq", "pk"),
            OnlineSoftmax(setup.score, "w", setup.init, Target("lse", (b, h, i)), Target("top", (b, h, i))),
            RowProduct("w", "pv", Target("o", (b, h, i, d))),
        ),
        support=setup.support,
        verdict=setup.verdict,
        arithmetic=setup.arithmetic,
        source=("softmax j", "matmul v[b,h,j,d]"),
    )


def backward(setup: Setup) -> TileKernel:
    """The five products; `logit` must be the scaled score."""
    scale = number(setup.width**-0.5)
    names = ("q", "k", "v", "do")
    ds = op("mul", Local("w"), op("sub", Local("dp"), Load("delta", (b, h, i))))
    return TileKernel(
        name="backward",
        order="columns",
        tensors=(
            *(Tensor(name, setup.storage, 4) for name in names),
            *(Tensor(name, setup.arithmetic, 3) for name in ("lse", "delta")),
            *(Tensor(name, setup.storage, 4, True) for name in ("dq", "dk", "dv")),
            *setup.tensors,
        ),
        sizes=SIZES,
        batch=BATCH,
        serial=(),
        rows=ROWS,
        columns=COLUMNS,
        panels=(
            Panel("pq", "row", _axis(c, setup.width), Load("q", (b, h, i, c))),
            Panel("pk", "column", _axis(c, setup.width), Load("k", (b, h, j, c))),
            Panel("pv", "column", _axis(d, setup.value_width), Load("v", (b, h, j, d))),
            Panel("pdo", "row", _axis(d, setup.value_width), Load("do", (b, h, i, d))),
            Panel("qs", "row", _axis(c, setup.width), op("mul", Load("q", (b, h, i, c)), scale)),
            Panel("ks", "column", _axis(c, setup.width), op("mul", Load("k", (b, h, j, c)), scale)),
        ),
        body=(
            Dot("s", "pq", "pk"),
            Value("w", op("exp", op("sub", setup.score, Load("lse", (b, h, i)))), True),
            Dot("dp", "pdo", "pv"),
            Value("ds", ds, True),
            ColumnProduct("w", "pdo", Target("dv", (b, h, j, d))),
            ColumnProduct("ds", "qs", Target("dk", (b, h, j, c))),
            RowProduct("ds", "ks", Target("dq", (b, h, i, c))),
        ),
        support=setup.support,
        verdict=setup.verdict,
        arithmetic=setup.arithmetic,
    )


def softmax(logits: np.ndarray, support: np.ndarray, init: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Weights and logsumexp in float64; blocked logits do not exist."""
    logits = np.where(support, logits.astype(np.float64), -np.inf)
    top = logits.max(-1, initial=-np.inf)
    if init is not None:
        top = np.maximum(top, init)
    shift = np.where(np.isneginf(top), 0.0, top)
    weights = np.exp(logits - shift[..., None])
    total = weights.sum(-1) + (0 if init is None else np.exp(init - shift))
    with np.errstate(divide="ignore", invalid="ignore"):
        lse = shift + np.log(total)
        return np.where(total[..., None] > 0, weights / total[..., None], 0.0), lse


def select_product(weights: np.ndarray, support: np.ndarray, values: np.ndarray) -> np.ndarray:
    """sum over j of weights[..., i, j] * values[..., j, d] over the supported pairs alone."""
    terms = np.where(support[..., None], weights[..., None] * values[..., None, :, :], 0.0)
    return np.asarray(terms.sum(-2))
