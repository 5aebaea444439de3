"""Tile kernels for few rows in CUDA: the columns in parts, a block for each, and a launch that merges what these find.

A block makes a tile of rows, so that with a row or a few to each point of the batch most of a device would idle. Rows
are then those of all heads that read the same columns (sharing.py), which are so loaded once. How columns are split
depends on their number alone, and parts are merged in order: so no bit depends on the device, or on the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain

from irc.codegen.cuda_launch import NUMBER, Arrays, Launch, Memory, rendered
from irc.codegen.expr import Const, Expr, Kind, Local, Op, integer, op, substitute
from irc.codegen.kernel import Span, TileKernel, Verdict
from irc.codegen.panels import pair_by_pair, sums_distances
from irc.codegen.positions import extent, size
from irc.codegen.printer import print_scalar
from irc.codegen.sharing import share
from irc.codegen.stream import are_few, by_bits

PART = 256  # columns at least: several tiles, beside which a record is small
MOST_PARTS = 128
MERGE_THREADS = 128


@dataclass(frozen=True, slots=True)
class Split:
    """`kernel`, as its parts run it; whether they do for the sizes of a call; and how many parts there are then."""

    kernel: TileKernel
    few: Expr
    parts: Expr


@dataclass(frozen=True, slots=True)
class Recorded:
    """A split as templates read it: what a part keeps of a row, in a record of so many bytes."""

    split: Split
    arrays: list[Memory]
    bytes: int

    @property
    def parts(self) -> str:
        return print_scalar(self.split.parts)

    @property
    def batch_extent(self) -> str:
        return extent(self.split.kernel.batch)


def split(kernel: TileKernel) -> Split | None:
    """The form for few rows of a kernel with row results alone; None where rows are as many as columns or more, or
    known to be many, or columns few, and where bits matter, or vectors of distances are summed."""
    kernel = pair_by_pair(kernel)
    rows, columns = size(kernel.rows), size(kernel.columns)
    shared = share(kernel)
    few = op("and", are_few(rows), op("and", op("le", integer(2 * PART), columns), shared.condition))
    if (
        columns in _at_least(rows)
        or by_bits(kernel)
        or sums_distances(kernel)
        or (isinstance(few, Const) and not few.value)
    ):
        return None
    parts = op("min", op("floordiv", columns, integer(PART)), integer(MOST_PARTS))
    return Split(_all_rows_at_once(shared.kernel, rows), few, parts)


def _at_least(size: Expr) -> tuple[Expr, ...]:
    """Sizes than which it is not less: itself, and those that it adds, or is the greatest of."""
    parts = size.args if isinstance(size, Op) and size.name in ("add", "max") else ()
    return (size, *chain.from_iterable(map(_at_least, parts)))


def _all_rows_at_once(kernel: TileKernel, rows: Expr) -> TileKernel:
    """The kernel with verdicts and spans of all its rows, which are few, in place of those of a tile: heads among the
    rows have no place in them."""
    ends: dict[Expr, Expr] = {
        Local("row first", Kind.INT): integer(0),
        Local("row last", Kind.INT): op("sub", rows, integer(1)),
    }
    verdict, spans = kernel.verdict, kernel.spans
    return replace(
        kernel,
        verdict=verdict and Verdict(substitute(verdict.may, ends), substitute(verdict.must, ends)),
        spans=spans and tuple(Span(substitute(s.first, ends), substitute(s.last, ends)) for s in spans),
        searches=tuple(replace(s, value=substitute(s.value, ends)) for s in kernel.searches),
    )


def unsplit(launch: Launch, split: Split) -> Launch:
    """That of the kernel itself, for all other calls."""
    otherwise = unsplit(launch.otherwise, split) if launch.otherwise else None
    return replace(launch, tasks=op("where", split.few, integer(0), launch.tasks), otherwise=otherwise)


def launches(part: Launch, recorded: Recorded, context: Mapping[str, object]) -> tuple[Launch, Launch]:
    """That of all parts, given for one, and the one that merges them; `context`: of its template."""
    split, name = recorded.split, f"{part.name}_merged"
    rows = op("mul", size(split.kernel.batch), size(split.kernel.rows))
    workspace = op("mul", op("mul", split.parts, rows), integer(recorded.bytes))
    shared, number = Arrays(), NUMBER[split.kernel.arithmetic]
    for kind, array, each in (("T", "weight_of", number), ("T", "sum_of", number), ("int32_t", "has_key_of", 4)):
        shared.add(kind, array, MOST_PARTS, each)
    text = rendered("merge", name, split.kernel, recorded, THREADS=MERGE_THREADS, shared=shared.arrays, **context)
    return (
        replace(part, tasks=_few(split, op("mul", split.parts, part.tasks)), workspace=workspace),
        Launch(name, _few(split, rows), 1, MERGE_THREADS, shared.bytes, text, workspace=workspace),
    )


def _few(split: Split, tasks: Expr) -> Expr:
    return op("where", split.few, tasks, integer(0))
