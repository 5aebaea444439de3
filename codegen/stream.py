"""The stream form of a TileKernel that finishes rows, for few of them: what stream.cpp.j2 needs.

The tile form puts rows in the lanes, dozens at once, and packs keys for them. With a row or a few the kernel is bound
by reading its columns, and a task is here all rows of one point of the batch, with the heads that read the same columns
(sharing.py), and a part of the columns. These are read where they lie, once. Points whose columns lie side by side, as
heads do in a paged cache, are walked together. The sizes of a call tell which form runs: a program's own source
chooses itself, and where a library is compiled for calls from Python these do, which need not compile both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from irc.codegen.cpu import STORAGE
from irc.codegen.expr import FALSE, Const, Expr, Local, Op, integer, op, walk
from irc.codegen.kernel import (
    BYTES,
    Accumulate,
    ColumnProduct,
    ColumnReduce,
    DistanceProduct,
    DistanceReduce,
    OnlineSoftmax,
    Panel,
    RowReduce,
    Storage,
    TileKernel,
    TileSums,
    is_expression,
    pieces,
)
from irc.codegen.masks import mask_context
from irc.codegen.names import identifier
from irc.codegen.panels import lying, pair_by_pair, sums_distances, width
from irc.codegen.places import STREAM_PLACES
from irc.codegen.positions import extent, size
from irc.codegen.printer import print_scalar
from irc.codegen.schedule import Caches
from irc.codegen.sharing import Shared, read_by_mask, share
from irc.codegen.slopes import even_step
from irc.codegen.tile_texts import PanelText, RowText
from irc.codegen.tiles import text_context, tile_text

MOST_COLUMNS, LEAST_COLUMNS = 64, 16  # of a tile
FIRST_CACHE = 48 << 10  # bytes of one that fetches fill: smaller ones, as Zen 4's, await too few lines at once
TILE_BYTES = 4096  # of an operand: those at hand and those to come, of keys and values, in the first cache
COLUMNS_OF_A_PART = 512
TASKS_OF_A_THREAD = 4  # at least, where heads are walked together
MOST_ROWS = 16  # of the kernel
MOST_FEATURES = 4096  # of which a thread's stack holds some rows
MOST_QUERIES = 128  # rows of a task, those of all its heads: beyond, packing pays


def form(kernel: TileKernel) -> tuple[str, Expr] | None:
    """The name of this form's function, and for which sizes of a call the kernel runs in it; None for no sizes."""
    runs = _few(share(pair_by_pair(kernel)), size(kernel.rows)) if _has_form(kernel) else FALSE
    return None if runs == FALSE else (f"{kernel.name}_of_few_rows", runs)


def _has_form(kernel: TileKernel) -> bool:
    """Whether the kernel has this form beside tiles: not where it makes sums of columns, where its rows are as many as
    its columns, some times as many, or known to be many, where features are as many as a picture has pixels, and where
    bits matter."""
    rows, columns = size(kernel.rows), size(kernel.columns)
    if kernel.order != "rows" or columns in (rows, *(rows.args if isinstance(rows, Op) and rows.name == "mul" else ())):
        return False
    if isinstance(rows, Const) and rows.value > MOST_ROWS:
        return False
    if any(width(panel) > MOST_FEATURES for panel in kernel.panels):
        return False
    others = ColumnProduct | ColumnReduce | DistanceProduct | DistanceReduce | TileSums | Accumulate
    if any(isinstance(step, others) for step in kernel.body):
        return False
    return not sums_distances(kernel) and not by_bits(kernel)


def context(kernel: TileKernel, caches: Caches) -> dict[str, object]:
    """The names that the template reads. The kernel has this form."""
    kernel = pair_by_pair(kernel)
    rows, shared = size(kernel.rows), share(kernel)
    text = tile_text(shared.kernel, STREAM_PLACES)
    dots = tuple(dot for stage in text.stages for dot in stage.dots)
    in_place = {panel.name for panel in text.column_panels if panel.row is not None}
    elements = {
        n: STORAGE[_storage(p, kernel)] if n in in_place else "T" for p in kernel.panels if (n := f"panel_{p.name}")
    }
    return {
        **text_context(text, shared.kernel),
        **mask_context(replace(shared.kernel, rows=kernel.rows)),
        "lines": tuple(line for stage in text.stages for line in stage.lines),
        "dots": dots,
        "elements": elements,
        "forms": {d.name: f"irc::InPlace<Products, {elements[d.column]}, {d.width}>" for d in dots},
        "columns_of_a_tile": _columns(kernel),
        "columns_of_a_part": COLUMNS_OF_A_PART,
        "cache_of_fetches": 1 if caches.first >= FIRST_CACHE else 2,
        "tasks_of_a_thread": TASKS_OF_A_THREAD,
        "inner": _inner(shared.kernel, text.column_panels),
        "row_extent": print_scalar(rows),
        "query_extent": extent(shared.kernel.rows),
    }


def by_bits(kernel: TileKernel) -> bool:
    """Whether the kernel stores a maximum of tile values or looks for it: a gradient goes where a value made again is
    equal to it, and the two forms add products in orders of their own."""
    stored = any(
        (isinstance(step, OnlineSoftmax) and step.max is not None)
        or (isinstance(step, RowReduce) and step.reduce == "max")
        for step in kernel.body
    )
    compared = (
        e
        for p in pieces(kernel.body)
        if is_expression(p)
        for e in walk(p)
        if isinstance(e, Op) and e.name in ("eq", "ne")
    )
    return stored or any(isinstance(part, Local) for e in compared for part in walk(e))


@dataclass(frozen=True, slots=True)
class Inner:
    """The last axis of the batch, whose points a task may walk together. `steps`: how far a row of each column operand
    that is read where it lies is from the same row of the point before; `row`: of the first of them."""

    index: str
    size: str
    row: RowText
    steps: dict[str, str]


def _inner(kernel: TileKernel, panels: tuple[PanelText, ...]) -> Inner | None:
    """None where its points have masks of their own, or lie unevenly, or are not read where they lie."""
    if not kernel.batch or kernel.batch[-1].name in read_by_mask(kernel):
        return None
    axis, steps, rows = kernel.batch[-1], {}, []
    for panel, text in zip((p for p in kernel.panels if p.side == "column"), panels, strict=True):
        load = lying(panel.value)
        if text.row is not None and load is not None:
            step = even_step(load, axis.name)
            if step is None:
                return None
            steps[text.name] = step
            rows.append(text.row)
    return Inner(identifier(axis.name), f"({print_scalar(axis.size)})", rows[0], steps) if rows else None


def _columns(kernel: TileKernel) -> int:
    """As many as TILE_BYTES hold of the widest operand, a power of two."""
    widest = max((width(p) * BYTES[_storage(p, kernel)] for p in kernel.panels if p.side == "column"), default=1)
    columns = MOST_COLUMNS
    while columns > LEAST_COLUMNS and columns * widest > TILE_BYTES:
        columns //= 2
    return columns


def are_few(rows: Expr) -> Expr:
    """Whether there are rows, and no more than a form for few of them takes."""
    return op("and", op("lt", integer(0), rows), op("le", rows, integer(MOST_ROWS)))


def _few(shared: Shared, rows: Expr) -> Expr:
    """Whether the stream form is the one to run."""
    queries = op("le", op("mul", shared.members, rows), integer(MOST_QUERIES))
    return op("and", are_few(rows), op("and", queries, shared.condition))


def _storage(panel: Panel, kernel: TileKernel) -> Storage:
    """What a row of the panel is made of where it lies, or else computed."""
    load = lying(panel.value)
    if load is None:
        return kernel.arithmetic
    return next(t.storage for t in kernel.tensors if t.name == load.tensor)
