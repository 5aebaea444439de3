"""A TileKernel of order "columns" as one of order "rows": the two sides change places, what is computed stays.

The rows of the answer are the columns of the kernel, and the answer walks what were its rows. Sums of columns, which
each outer tile finishes, become row results; sums of rows become column results, added to by every outer tile.
"""

from __future__ import annotations

from dataclasses import replace

from irc.codegen.expr import Expr, Kind, Local, op, substitute
from irc.codegen.kernel import (
    DISTANCE,
    ColumnProduct,
    ColumnReduce,
    ColumnSums,
    DistanceProduct,
    DistanceReduce,
    Dot,
    OnlineSoftmax,
    Panel,
    RowProduct,
    RowReduce,
    RowSums,
    Search,
    Side,
    Span,
    Target,
    TileKernel,
    TileOp,
    Verdict,
)

OTHER: dict[Side, Side] = {"row": "column", "column": "row"}
_CORNERS: dict[Expr, Expr] = {
    Local(f"{side} {end}", Kind.INT): Local(f"{OTHER[side]} {end}", Kind.INT)
    for side in OTHER
    for end in ("first", "last")
}


def mirror(kernel: TileKernel) -> TileKernel:
    """The kernel with rows and columns exchanged; its indices keep their names."""
    verdict = kernel.verdict
    return replace(
        kernel,
        order="rows",
        rows=kernel.columns,
        columns=kernel.rows,
        panels=tuple(map(_panel, kernel.panels)),
        body=tuple(_operation(step) for step in kernel.body),
        verdict=verdict and Verdict(_corners(verdict.may), _corners(verdict.must)),
        spans=kernel.spans and _spans(kernel.spans),
        across=kernel.across and (_spans(kernel.across[0]), _searches(kernel.across[1])),
        summaries=tuple(replace(s, side=OTHER[s.side]) for s in kernel.summaries),
        searches=_searches(kernel.searches),
        cuts=tuple(replace(c, side=OTHER[c.side]) for c in kernel.cuts),
    )


def _panel(panel: Panel) -> Panel:
    if panel.side != "distance":
        return replace(panel, side=OTHER[panel.side])
    return replace(panel, value=_turned(panel.value), exists=panel.exists and _turned(panel.exists))


def _turned(expr: Expr) -> Expr:
    """Of the distance the other way."""
    return substitute(expr, {DISTANCE: op("neg", DISTANCE)})


def _turned_target(target: Target) -> Target:
    return Target(target.tensor, tuple(map(_turned, target.indices)))


def _corners(expr: Expr) -> Expr:
    return substitute(expr, _CORNERS)


def _spans(spans: tuple[Span, ...]) -> tuple[Span, ...]:
    return tuple(Span(_corners(s.first), _corners(s.last)) for s in spans)


def _searches(searches: tuple[Search, ...]) -> tuple[Search, ...]:
    return tuple(replace(s, value=_corners(s.value)) for s in searches)


def _operation(step: TileOp) -> TileOp:
    match step:
        case Dot(name, row, column):
            return Dot(name, column, row)
        case RowProduct(tile, panel, target):
            return ColumnProduct(tile, panel, target)
        case ColumnProduct(tile, panel, target, added):
            return RowProduct(tile, panel, target, added)
        case DistanceProduct(tile, panel, target):
            return DistanceProduct(tile, panel, _turned_target(target))
        case DistanceReduce(tile, target):
            return DistanceReduce(tile, _turned_target(target))
        case RowSums(features, value, target):
            return ColumnSums(features, value, target)
        case ColumnSums(features, value, target):
            return RowSums(features, value, target)
        case RowReduce(reduce, tile, target, _):
            if reduce == "argmax":
                raise ValueError("mirror: the place of a maximum needs the order of rows")
            return ColumnReduce(reduce, tile, target)
        case ColumnReduce(of_columns, tile, target, added):
            return RowReduce(of_columns, tile, target, added)
        case OnlineSoftmax():
            raise ValueError("mirror: a running softmax needs the order of rows")
        case _:
            return step
