"""What the template of a TileKernel of order "elements" sees: tiles as in the other orders, and how their values are
added to elements of tensors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain

from irc.codegen.expr import Axis, Expr, Kind, Load, Local, indices, rebuild, walk
from irc.codegen.hoist import Hoists
from irc.codegen.kernel import CHUNK, CHUNKS, Accumulate, Dot, InnerSum, Target, TileKernel, TileOp, Value
from irc.codegen.loops import are_few, lvalue
from irc.codegen.mirror import mirror
from irc.codegen.names import identifier
from irc.codegen.outside import Constant, Outside
from irc.codegen.panels import axis_texts
from irc.codegen.places import Places
from irc.codegen.printer import print_scalar
from irc.codegen.schedule import Schedule
from irc.codegen.segments import Lookups
from irc.codegen.slopes import are_neighbours, even_step
from irc.codegen.tile_texts import AxisText, KeptText
from irc.codegen.tiles import tile_text, tiled_context

PLACES = Places(
    "row",
    "lane_first + w * LANES",
    "n",
    ("n", "w"),
    "lane_first + vector * LANES + lane",
    "place",
    "tile_{}",
)
ROW, COLUMN = "lane_first + lane", "place"  # where a pair's sides are kept


@dataclass(frozen=True, slots=True)
class AddText:
    """target += value. With loops `over` axes the value is scalar code, `reads` names the tile values in it, and points
    are `apart` if they are many, each with an element of its own. Without loops it is the name of a tile value; `step`:
    how far apart the elements of following rows are, or else `moving`: vectors of indices, each with its dimension's
    step, from `first` on, and `beyond`: where they may not hold the indices. `stored`: at which points of the serial
    axes nothing is there yet, and values are stored, empty where all are added; `nothing`: where there are no points,
    and `own`: the other serial axes."""

    over: tuple[AxisText, ...]
    value: str
    reads: tuple[str, ...]
    apart: bool
    target: str
    step: str | None
    first: str
    moving: tuple[str, ...]
    beyond: str | None
    stored: str
    nothing: str
    own: tuple[AxisText, ...]


@dataclass(frozen=True, slots=True)
class SumText:
    """A tile value as a sum that is made pair by pair, in scalar code."""

    name: str
    over: tuple[AxisText, ...]
    value: str


def context(kernel: TileKernel, schedule: Schedule) -> dict[str, object]:
    kernel = _turned(replace(kernel, body=tuple(chain.from_iterable(_named(kernel)))))
    text = tile_text(kernel, PLACES)
    pairs = _Pairs(kernel, text.hoists)
    dots = tuple(dot for stage in text.stages for dot in stage.dots)
    summed = [step for step in kernel.body if isinstance(step, InnerSum) and _follows_rows(step, kernel)]
    sums = tuple(pairs.sum(step) for step in summed)
    made = {*(dot.name for dot in dots), *(step.name for step in sums)}
    kept = dict.fromkeys((*text.kept, *(KeptText(name, "irc::PLAIN") for name in sorted(made))))
    text = replace(text, kept=tuple(kept))
    adds = tuple(pairs.add(step) for step in kernel.body if isinstance(step, Accumulate))
    support = None if kernel.support is None else print_scalar(pairs.by_side(kernel.support, pairs.pair))
    names = pairs.names()
    return {
        **tiled_context(text, kernel, schedule),
        **names,
        "serial": axis_texts(kernel.serial),
        "chunks": print_scalar(CHUNKS) if CHUNKS.name in kernel.sizes else "row_tiles",
        "dots": dots,
        "sums": sums,
        "lines": tuple(line for stage in text.stages for line in stage.lines if line.name not in made),
        "adds": adds,
        "support_of_a_pair": support,
    }


def _named(kernel: TileKernel) -> Iterable[tuple[TileOp, ...]]:
    """The body, with names for what is added as it is."""
    for number, step in enumerate(kernel.body):
        match step:
            case Accumulate((), Local(), _) | Dot() | Value() | InnerSum():
                yield (step,)
            case Accumulate(over, value, target, stored):
                if over:
                    yield (step,)
                    continue
                name = f"added{number}"
                yield Value(name, value, kernel.support is not None), Accumulate((), Local(name), target, stored)
            case _:
                raise ValueError(f"elements: {type(step).__name__} in kernel {kernel.name} belongs to another order")


class _Pairs:
    """Prints what is evaluated pair by pair, with names for the segments of its two sides and for what takes long and
    is known outside of a loop."""

    def __init__(self, kernel: TileKernel, hoists: Hoists) -> None:
        fixed = (*kernel.batch, *kernel.serial)
        self.kernel, self.hoists = kernel, hoists
        self.rows = Lookups((*fixed, *kernel.rows), "row.segment")
        self.columns = Lookups((*fixed, *kernel.columns), "column.segment")
        self.outside = Outside((*fixed, *kernel.rows, *kernel.columns), len(fixed))
        self.entries: dict[Expr, Local] = {}  # of tables of integers, read once a pair
        self.task, self.row = len(fixed), len(fixed) + len(kernel.rows)
        self.pair = self.row + len(kernel.columns)

    def sum(self, step: InnerSum) -> SumText:
        return SumText(identifier(step.name), axis_texts(step.over), self.printed(step.value, step.over))

    def add(self, step: Accumulate) -> AddText:
        target = Target(step.target.tensor, tuple(self.named(index, step.over) for index in step.target.indices))
        spaced = _step(self.kernel.rows, step.target)
        first, moving = ("", ()) if step.over or spaced else self.hoists.places_of(target.tensor, step.target.indices)
        reads = dict.fromkeys(identifier(e.name) for e in walk(step.value) if isinstance(e, Local))
        summed = [a for a in self.kernel.serial if a.index not in step.target.indices]
        return AddText(
            over=axis_texts(step.over),
            value=self.printed(step.value, step.over),
            reads=tuple(reads),
            apart=not are_few(step.over) and all(axis.index in step.target.indices for axis in step.over),
            target=lvalue(target),
            step=spaced,
            first=first,
            moving=moving,
            beyond=self.hoists.beyond(step.target.indices) if moving else None,
            stored=" && ".join(f"{identifier(a.name)} == 0" for a in summed) or "true" if step.stored else "",
            nothing=" || ".join(f"{print_scalar(a.size)} == 0" for a in summed) if step.stored else "",
            own=axis_texts(tuple(a for a in self.kernel.serial if a not in summed)),
        )

    def named(self, expr: Expr, over: tuple[Axis, ...]) -> Expr:
        names = {axis.name for axis in over}

        def entry(part: Expr) -> Expr | None:
            if isinstance(part, Load) and part.kind is Kind.INT and not names & indices(part):
                return self.entries.setdefault(part, Local(f"entry.{len(self.entries)}", Kind.INT))
            return None

        return self.by_side(rebuild(expr, entry), self.pair + len(over))

    def by_side(self, expr: Expr, inside: int) -> Expr:
        """The expression with names for what is known of one side, or outside."""
        return self.outside.replaced(self.columns.replaced(self.rows.replaced(expr)), inside)

    def printed(self, expr: Expr, over: tuple[Axis, ...] = ()) -> str:
        return print_scalar(self.named(expr, over))

    def names(self) -> dict[str, object]:
        """What is declared where a task begins, and at a row and at a column of a tile."""
        return {
            "names_of_pair": tuple(
                (identifier(name.name), print_scalar(self.by_side(e, self.pair))) for e, name in self.entries.items()
            ),
            "names_of_row": self._names(self.kernel.rows, "row_first + lane", self.rows),
            "names_of_column": self._names(self.kernel.columns, "column_first + place", self.columns),
            "constants": self._known(-1, 0),
            "constants_of_task": self._known(0, self.task),
            "constants_of_row": self._known(self.task, self.row),
            "constants_of_pair": self._known(self.row, self.pair),
        }

    def _names(self, axes: tuple[Axis, ...], position: str, found: Lookups) -> tuple[tuple[str, str], ...]:
        """Names and texts of the indices and of the segments of one side."""
        values: list[tuple[str, Expr]] = [(local.name, segment) for segment, local in found.found.items()]
        if len(axes) > 1:
            values += [(axis.name, axis.index) for axis in axes]
        texts = tuple((identifier(name), self.hoists.scalar(value, ROW, COLUMN)) for name, value in values)
        return texts if len(axes) > 1 else ((identifier(axes[0].name), position), *texts)

    def _known(self, after: int, until: int) -> tuple[Constant, ...]:
        """What is computed inside of more loops than `after`, in up to `until`."""
        return tuple(chain.from_iterable(self.outside.constants(depth) for depth in range(after + 1, until + 1)))


def _step(side: tuple[Axis, ...], target: Target) -> str | None:
    """How far apart the elements of the side's following positions are, if that is the same everywhere."""
    return even_step(Load(target.tensor, target.indices), side[0].name) if len(side) == 1 else None


def _turned(kernel: TileKernel) -> TileKernel:
    """The kernel, or its mirror if neighbours among the columns alone, which are then its rows, are neighbours in the
    targets: vectors lie along rows. Chunks of the new rows must not share elements either."""
    targets = [step.target for step in kernel.body if isinstance(step, Accumulate)]
    turns = any(are_neighbours(t.indices, kernel.columns) for t in targets)
    if not turns or any(are_neighbours(t.indices, kernel.rows) for t in targets):
        return kernel
    shared = [t for t in targets if t.indices[:1] != (CHUNK,)]
    if not all(a.index in t.indices for a in kernel.columns for t in shared):
        return kernel
    return replace(mirror(kernel), order="elements", spans=None, searches=())  # these are of the rows that were


def _follows_rows(step: InnerSum, kernel: TileKernel) -> bool:
    """Whether the sum is a long one along rows of tensors that the pair's places name: these are read one by one."""
    sides = {axis.name for axis in (*kernel.rows, *kernel.columns)}
    reads = [e for e in walk(step.value) if isinstance(e, Load) and sides & indices(e)]
    along = [read.indices[-1:] == (axis.index,) for read in reads for axis in step.over]
    return any(along) and not are_few(step.over) and not any(isinstance(e, Local) for e in walk(step.value))
