"""What a template may see, all of it: fused kernels as data.

Names: a kernel reads and writes tensors through `(pointer, strides in elements)`; every `Load`/`Target` addresses its
tensor with one integer expression a dimension. Inside a TileKernel, row position `i` is the query side and column
position `j` the key side; a *tile value* has one number for each (i, j) and is read as `Local(name)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Literal, TypeGuard

from irc.codegen.expr import Axis, Const, Expr, Index, Load, Local, Op, Size

Storage = Literal["f32", "f64", "bf16", "f16", "i8", "u8", "i16", "u16", "i32", "bool"]
Arithmetic = Literal["f32", "f64"]
Side = Literal["row", "column"]
CHUNK = Index("row.chunk")  # of rows, in a kernel of order "elements"; templates call it row__chunk
CHUNKS = Size("row.chunks")  # as many as a call has threads
DISTANCE = Index("row.distance")  # a row's position less a column's, where each side has one index
BYTES: dict[Storage, int] = {
    "f32": 4, "f64": 8, "bf16": 2, "f16": 2, "i8": 1, "u8": 1, "i16": 2, "u16": 2, "i32": 4, "bool": 1,
}  # fmt: skip
MARGIN = 64  # entries at either end of a table of distances, more than tiles have rows or columns beyond the last


@dataclass(frozen=True, slots=True)
class Tensor:
    """A kernel argument. Rank 0 is a scalar. `shape` is needed only where a LoopKernel clears the tensor, and in CUDA
    where points that meet are added to it."""

    name: str
    storage: Storage
    rank: int
    written: bool = False
    shape: tuple[Expr, ...] | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Where a result goes: tensor[indices]."""

    tensor: str
    indices: tuple[Expr, ...]


# pointwise and small reductions, gathers, scatters


@dataclass(frozen=True, slots=True)
class Loop:
    """for every point of `axes`: target[…] (=|+=) where ? body : 0, the body reduced by `reduce` over `over`
    (sum from 0, max from -inf, argmax from -1, logsumexp from -inf or `init`; where `where` fails nothing is seen). Or
    "running": the sum of body along the one axis that is not parallel, up to its point, in CUDA alone.
    `add` accumulates into the target and skips points at which `where` fails; then `parallel` axes are race-free."""

    axes: tuple[Axis, ...]
    over: tuple[Axis, ...]
    reduce: Literal["", "sum", "max", "argmax", "logsumexp", "running"]
    body: Expr
    where: Expr | None
    init: Expr | None
    target: Target
    add: bool
    parallel: tuple[str, ...]  # names of axes that threads may share out

    @property
    def serial(self) -> tuple[Axis, ...]:
        """The others."""
        return tuple(axis for axis in self.axes if axis.name not in self.parallel)


@dataclass(frozen=True, slots=True)
class LoopKernel:
    """`zero` clears the target tensor first; then the loops run one after another."""

    name: str
    tensors: tuple[Tensor, ...]
    sizes: tuple[str, ...]
    loops: tuple[Loop, ...]
    zero: str | None
    arithmetic: Arithmetic
    source: tuple[str, ...] = ()  # the spec's lines, for the comment above the code


# tiles


@dataclass(frozen=True, slots=True)
class Panel:
    """A matrix operand of one side: value[token, feature]. The features' sizes are constants; several are flattened,
    the last fastest. `value` reads batch axes, the side's axes and the features. It is evaluated while packing. A panel
    of distances is value[DISTANCE, feature] for all pairs so far apart, 0 where `exists` fails."""

    name: str
    side: Literal["row", "column", "distance"]
    features: tuple[Axis, ...]
    value: Expr
    exists: Expr | None = None


@dataclass(frozen=True, slots=True)
class Dot:
    """tile[i, j] = sum over features f of row[i, f] * column[j, f]; both panels have the same width. One of them may be
    of distances."""

    name: str
    row: str
    column: str


@dataclass(frozen=True, slots=True)
class Value:
    """tile[i, j] = value; with `masked`, 0 (by selection) wherever the kernel's `support` fails."""

    name: str
    value: Expr
    masked: bool


@dataclass(frozen=True, slots=True)
class InnerSum:
    """tile[i, j] = sum over n of value(i, j, n): for sums that are no dot of two panels."""

    name: str
    over: tuple[Axis, ...]
    value: Expr
    masked: bool


@dataclass(frozen=True, slots=True)
class OnlineSoftmax:
    """weight[i, j] = exp(score - lse_i) over the supported j, running (Milakov & Gimelshein 2018). `init`: one more
    logit a row (not a key). Row products and row sums that follow and use `weight` are rescaled as the maximum moves.
    A row with no supported j and no init: weights 0, lse -inf, max -inf. Row order only. At most one a kernel.
    `remainder` is what lse, once rounded, lacks where kernels of the same target compute weights from it again, as
    exp((score - lse) - remainder)."""

    score: Expr
    weight: str
    init: Expr | None
    lse: Target | None
    max: Target | None
    remainder: Target | None = None


@dataclass(frozen=True, slots=True)
class RowProduct:
    """target[i, f] = sum over j of tile[i, j] * panel[j, f] (column panel), or panel[i - j, f] of distances. Pairs
    outside the support do not exist. `added` as of a ColumnProduct, which it is the mirror of."""

    tile: str
    panel: str
    target: Target
    added: bool = False


@dataclass(frozen=True, slots=True)
class ColumnProduct:
    """target[j, f] = sum over i of tile[i, j] * panel[i, f] (row panel), or panel[i - j, f] of distances. Pairs outside
    the support do not exist. With `added` the target starts at 0 and columns may share its elements, and points of the
    kernel's `serial` axes; its first index is CHUNK. On the CPU alone."""

    tile: str
    panel: str
    target: Target
    added: bool = False


@dataclass(frozen=True, slots=True)
class DistanceProduct:
    """target[n, f] = sum over the pairs with i - j = n of tile[i, j] * panel[i, f] (row panel), or panel[j, f] (column
    panel). The target's indices read DISTANCE. Pairs outside the support do not exist. On the CPU alone."""

    tile: str
    panel: str
    target: Target


@dataclass(frozen=True, slots=True)
class DistanceReduce:
    """target[n] = sum over the supported pairs with i - j = n of tile[i, j]. The target's indices read DISTANCE. On the
    CPU alone."""

    tile: str
    target: Target


@dataclass(frozen=True, slots=True)
class RowReduce:
    """target[i] = sum or max over supported j of tile[i, j]; or the first j of the largest, -1 where there is
    none (NaN counts as -inf there). `added` as of a ColumnReduce, which it is the mirror of."""

    reduce: Literal["sum", "max", "argmax"]
    tile: str
    target: Target
    added: bool = False


@dataclass(frozen=True, slots=True)
class ColumnReduce:
    """target[j] = sum or max over supported i of tile[i, j]. `added` as of a ColumnProduct."""

    reduce: Literal["sum", "max"]
    tile: str
    target: Target
    added: bool = False


@dataclass(frozen=True, slots=True)
class RowSums:
    """target[i, f] = sum over supported j of value(i, j, f), for what is no product of a tile and a panel. Of the
    features, whose sizes are constants, the last runs fastest. On the CPU alone."""

    features: tuple[Axis, ...]
    value: Expr
    target: Target


@dataclass(frozen=True, slots=True)
class ColumnSums:
    """target[j, f] = sum over supported i of value(i, j, f), as RowSums. In a kernel of order "columns", beside which
    sums of rows are joined lane by lane."""

    features: tuple[Axis, ...]
    value: Expr
    target: Target


@dataclass(frozen=True, slots=True)
class Accumulate:
    """target[indices] += value for every supported (i, j) and every point of `over`; the target starts at 0. In a
    kernel of order "elements" alone; see there for who owns the target. With `stored` the target starts undefined:
    every pair exists and has an element of its own, and the first value for it is stored. On the CPU alone."""

    over: tuple[Axis, ...]
    value: Expr
    target: Target
    stored: bool = False


TileProduct = RowProduct | ColumnProduct | DistanceProduct
TileSums = RowSums | ColumnSums
TileReduce = RowReduce | ColumnReduce | DistanceReduce
TileOp = Dot | Value | InnerSum | OnlineSoftmax | TileProduct | TileSums | TileReduce | Accumulate


@dataclass(frozen=True, slots=True)
class Verdict:
    """For any rectangle of rows [row_first, row_last] and columns [column_first, column_last] (inclusive, flattened
    positions, read as `Local("row first", Kind.INT)` …): `may` false means that no pair in it is supported, `must`
    true that all are."""

    may: Expr
    must: Expr


@dataclass(frozen=True, slots=True)
class Summary:
    """Least and greatest value of a vector on every stretch of one side, made once a call in one pass over the side.
    A verdict or a span reads those of its rectangle as Local("NAME low", INT) and Local("NAME high", INT). `value`
    reads that side's axes and batch axes; a truth counts as 0 or 1."""

    name: str
    side: Side
    value: Expr


@dataclass(frozen=True, slots=True)
class Search:
    """Local(name, INT) in a span: a last position, whose value in the summary's vector, which does not decrease, is at
    most `value` (`up_to`), or the first that reaches it. Exact up to the shortest stretch that is summarised."""

    name: str
    summary: str
    up_to: bool
    value: Expr


@dataclass(frozen=True, slots=True)
class Span:
    """Positions first … last of one side, inclusive; none where last < first. They may reach beyond the side."""

    first: Expr
    last: Expr


@dataclass(frozen=True, slots=True)
class Cut:
    """A verdict is sharper on stretches of a side that do not cross a multiple of `every` (or hold whole multiples)."""

    side: Side
    every: Expr


@dataclass(frozen=True, slots=True)
class TileKernel:
    """One fused kernel.

    order "rows":     a task is one point of `batch` and one tile of rows; it walks the columns once.
    order "columns":  a task is one point of `batch`; it walks column tiles outside, row tiles inside. Column results
                      are finished tile by tile; row results are accumulated over the whole length in a buffer of the
                      task, stored at its end. It is made as its mirror of order "rows" (mirror.py). With results
                      that are added a task walks one chunk (`positions.chunks_of`) of the `serial` axes' points.
    order "elements": a task is one point of `batch` and one chunk (of CHUNKS) of the row tiles; it walks
                      `serial` axes, its rows and all columns. Its only results are Accumulates. Where a target's
                      first index is CHUNK, each chunk has its own copy, summed by a later step;
                      otherwise the target is indexed by the row and chunks cannot collide.

    Row and column positions are flattened: with several axes a side, the last runs fastest.
    `support`: the pairs that exist, or None for all. `body` is in order of evaluation.
    `spans`: what a tile of the outer side can touch of the side that is walked (columns; in the order "columns" rows),
    over the corners of that tile, read as in a Verdict. Every supported pair is in one; None for the whole side.
    `across`: the same where the other side is walked, if it needs no more summaries; and its searches.
    `summaries`, `searches`: what verdict and spans read of tables. `cuts`: where stretches are cut for the verdict.
    `bounds`: least and greatest values that the program assumes of scalars and tables of integers, by name.
    `distance_tables`: tensors that tile values read at [..., i - j + n] alone, n such that there are entries for all
    pairs, and MARGIN more at both ends. On the CPU alone.
    `pairs`: dots and products may multiply bf16 in pairs, where the machine can; sums are made in `arithmetic`.
    """

    name: str
    order: Literal["rows", "columns", "elements"]
    tensors: tuple[Tensor, ...]
    sizes: tuple[str, ...]
    batch: tuple[Axis, ...]
    serial: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    panels: tuple[Panel, ...]
    body: tuple[TileOp, ...]
    support: Expr | None
    verdict: Verdict | None
    arithmetic: Arithmetic
    spans: tuple[Span, ...] | None = None
    across: tuple[tuple[Span, ...], tuple[Search, ...]] | None = None
    summaries: tuple[Summary, ...] = ()
    searches: tuple[Search, ...] = ()
    cuts: tuple[Cut, ...] = ()
    bounds: tuple[tuple[str, int, int], ...] = ()
    distance_tables: frozenset[str] = frozenset()
    pairs: bool = False
    source: tuple[str, ...] = ()  # the spec's lines, for the comment above the code


def is_expression(item: object) -> TypeGuard[Expr]:
    return isinstance(item, Const | Index | Size | Load | Local | Op)


def pieces(data: object) -> Iterator[object]:
    """Every dataclass in kernel data, and every expression, as a whole."""
    if isinstance(data, tuple):
        for item in data:
            yield from pieces(item)
    elif is_dataclass(data):
        yield data
        for f in fields(data) if not is_expression(data) else ():
            yield from pieces(getattr(data, f.name))


Kernel = LoopKernel | TileKernel
"""ABI of every kernel:

    extern "C" void NAME(void *const *data, const int64_t *const *strides, const int64_t *sizes, int threads)

`data` and `strides` in the order of `tensors`, `sizes` in the order of `sizes`. A tensor's last stride is 1, or it has
one element along that dimension. Results do not depend on `threads` but where `chunks` does."""
