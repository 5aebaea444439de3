"""The stream form of a TileKernel that finishes rows, for few of them: what stream.cpp.j2 needs.

The tile form puts rows in the lanes, dozens at once, and packs keys for them. With a row or a few the kernel is bound
by reading its columns, and a task is here all rows of one point of the batch, with the heads that read the same columns
(sharing.py), and a part of the columns. These are read where they lie, once. Both forms stand in one kernel, which
chooses by the sizes of a call.
"""

from __future__ import annotations

from dataclasses import fields, replace

from irc.codegen.cpu import ARITHMETIC, STORAGE, prologue
from irc.codegen.expr import Const, Expr, Load, Local, Op, integer, op, walk
from irc.codegen.hoist import STREAM_PLACES
from irc.codegen.kernel import (
    Accumulate,
    ColumnProduct,
    ColumnReduce,
    OnlineSoftmax,
    Panel,
    RowReduce,
    TileKernel,
)
from irc.codegen.masks import mask_context
from irc.codegen.positions import extent, size, unflatten
from irc.codegen.printer import print_scalar
from irc.codegen.sharing import Shared, expressions, share
from irc.codegen.tiles import tile_text

COLUMNS = 64  # of a tile: their keys and values in the first or second cache
TILES_OF_A_PART = 8
MOST_ROWS = 16  # of the kernel
MOST_QUERIES = 128  # rows of a task, those of all its heads: beyond, packing pays


def context(kernel: TileKernel) -> dict[str, object] | None:
    """The names that the template reads; None where the kernel has the tile form alone: where it makes sums of columns,
    where its rows are as many as its columns, or known to be many, and where bits matter."""
    rows, columns = size(kernel.rows), size(kernel.columns)
    if kernel.order != "rows" or rows == columns or (isinstance(rows, Const) and rows.value > MOST_ROWS):
        return None
    if any(isinstance(step, ColumnProduct | ColumnReduce | Accumulate) for step in kernel.body) or _by_bits(kernel):
        return None
    shared = share(kernel)
    text = tile_text(shared.kernel, STREAM_PLACES)
    hoists = text.hoists
    return {
        **{f.name: getattr(text, f.name) for f in fields(text)},
        "lines": tuple(line for stage in text.stages for line in stage.lines),
        "dots": tuple(dot for stage in text.stages for dot in stage.dots),
        "hoists": {
            "batch": tuple(hoists.batch.values()),
            "row": tuple(hoists.row.values()),
            "column": tuple(hoists.column.values()),
            "gathers": tuple(hoists.gathers.values()),
        },
        **mask_context(replace(shared.kernel, rows=kernel.rows)),
        "kernel": kernel,
        "prologue": prologue(kernel),
        "elements": {f"panel_{p.name}": _element(p, kernel) for p in kernel.panels},
        "columns_of_a_tile": COLUMNS,
        "tiles_of_a_part": TILES_OF_A_PART,
        "few": " && ".join(
            (print_scalar(_few(shared, rows)), *(f"{p.row.feature_step} == 1" for p in text.column_panels if p.row))
        ),
        "row_extent": print_scalar(rows),
        "query_extent": extent(shared.kernel.rows),
        "column_extent": extent(kernel.columns),
        "batch_extent": extent(shared.kernel.batch) if shared.kernel.batch else "1",
        "row_indices": unflatten(shared.kernel.rows, "row_at"),
        "column_indices": unflatten(kernel.columns, "column_at"),
        "batch_indices": unflatten(shared.kernel.batch, "batch_at") if shared.kernel.batch else (),
    }


def _by_bits(kernel: TileKernel) -> bool:
    """Whether the kernel stores a maximum of tile values or looks for it: a gradient goes where a value made again is
    equal to it, and the two forms add products in orders of their own."""
    stored = any(
        (isinstance(step, OnlineSoftmax) and step.max is not None)
        or (isinstance(step, RowReduce) and step.reduce == "max")
        for step in kernel.body
    )
    compared = (e for e in expressions(kernel.body) for e in walk(e) if isinstance(e, Op) and e.name in ("eq", "ne"))
    return stored or any(isinstance(part, Local) for e in compared for part in walk(e))


def _few(shared: Shared, rows: Expr) -> Expr:
    """Whether the stream form is the one to run."""
    some = op("and", op("lt", integer(0), rows), op("le", rows, integer(MOST_ROWS)))
    queries = op("le", op("mul", shared.members, rows), integer(MOST_QUERIES))
    return op("and", some, op("and", queries, shared.condition))


def _element(panel: Panel, kernel: TileKernel) -> str:
    """What a row of the panel is made of where it lies, or else computed."""
    if isinstance(panel.value, Load):
        name = panel.value.tensor
        return next(STORAGE[t.storage] for t in kernel.tensors if t.name == name)
    return ARITHMETIC[kernel.arithmetic]
