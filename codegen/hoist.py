"""Vector code for tile values: what depends on one side alone is hoisted, what depends on both is evaluated in lanes.

Lanes are positions of one side: rows in the tile form, columns in the stream form. A subexpression of batch indices
becomes a scalar of the task, one of the lanes' side a vector that is filled once a stretch of it, one of the other side
a scalar. What a table says of both sides together is a run of its elements where following lanes read neighbours, else
elements gathered at vectors of indices.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from irc.codegen.expr import (
    COMPARISON,
    Axis,
    Const,
    Expr,
    Index,
    Kind,
    Load,
    Local,
    Op,
    indices,
    is_lookup,
    rebuild,
    walk,
)
from irc.codegen.kernel import Side, TileKernel
from irc.codegen.narrow import Narrow
from irc.codegen.printer import (
    address,
    element,
    identifier,
    pointer_name,
    print_expr,
    print_scalar,
    scalar_leaf,
    stride_name,
)


@dataclass(frozen=True, slots=True)
class Places:
    """How a template names where it stands: which side its lanes are; the place of a vector's first lane, and of one
    lane of it; the place on the other side; both as arguments of a gather and inside it; and a tile value."""

    lanes: Side
    vector: str
    other: str
    gather: tuple[str, str]
    gathered_lane: str
    gathered_other: str
    tile: str


TILE_PLACES = Places(
    "row",
    "lane_first + w * LANES",
    "n + m",
    ("n + m", "w"),
    "lane_first + vector * LANES + lane",
    "place",
    "tile_{}[m][w]",
)
STREAM_PLACES = Places("column", "key", "query", ("query", "key"), "key + lane", "query", "tile_{}")


@dataclass(frozen=True, slots=True)
class Hoisted:
    """A value computed outside the tile: `text` is scalar code, `type` what it is kept as; truth is kept as a mask."""

    name: str
    type: str
    text: str


@dataclass(frozen=True, slots=True)
class Gather:
    """A tensor element, or a segment, that depends on both sides, as code for a lane. `inner` names the further indices
    that it reads. Where following lanes read neighbours, `first` is one as it is stored and `step` the distance."""

    name: str
    kind: str  # "vec" or "ivec"
    text: str
    inner: tuple[str, ...]
    first: str
    step: str


@dataclass
class Hoists:
    """Collects what the vector code of one kernel needs from outside."""

    kernel: TileKernel
    places: Places = TILE_PLACES
    batch: dict[Expr, Hoisted] = field(default_factory=dict)
    row: dict[Expr, Hoisted] = field(default_factory=dict)
    column: dict[Expr, Hoisted] = field(default_factory=dict)
    gathers: dict[Load | Op, Gather] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rows = frozenset(a.name for a in self.kernel.rows)
        self._columns = frozenset(a.name for a in self.kernel.columns)
        self._outside = frozenset(a.name for a in (*self.kernel.batch, *self.kernel.serial))
        self._narrow = Narrow(self.kernel)

    def vector(self, expr: Expr) -> str:
        """The expression for one register of a tile: tile values are read as `places.tile` has it."""
        texts: dict[Expr, str] = {}

        def place(part: Expr) -> Expr | None:
            text = self._place(part)
            if text is None:
                return None
            local = Local(f"placed {len(texts)}", part.kind)
            texts[local] = text
            return local

        return print_expr(rebuild(expr, place), texts.get)

    def scalar(self, expr: Expr, lane: str, place: str) -> str:
        """Scalar code for one pair, `lane` of the lanes' side and `place` of the other: integers of one side that take
        a search of a table or a division are read where they are kept."""
        texts: dict[Expr, str] = {}

        def kept(part: Expr) -> Expr | None:
            if part.kind is not Kind.INT or not any(self._takes_long(e) for e in walk(part)):
                return None
            text = self._kept(part, lane, place)
            if text is None:
                return None
            local = Local(f"kept {len(texts)}", part.kind)
            texts[local] = text
            return local

        def leaf(part: Expr) -> str | None:
            if isinstance(part, Load):
                return address(part, leaf, lazy=True)
            return texts.get(part) or scalar_leaf(part)

        return print_expr(rebuild(expr, kept), leaf, lazy=True)

    def _takes_long(self, part: Expr) -> bool:
        """A segment, or one of several indices that share a position."""
        if isinstance(part, Index):
            return any(part in (a.index for a in side) for side in (self.kernel.rows, self.kernel.columns) if side[1:])
        return isinstance(part, Op) and part.name == "segment"

    def _kept(self, part: Expr, lane: str, place: str) -> str | None:
        """The element of a hoisted vector, or a value of the task; None where it depends on more."""
        match self._side(part):
            case "row" | "column" as side:
                return f"{self._of_side(part, side).name}[{lane if side == self.places.lanes else place}]"
            case "none":
                return self._of_batch(part).name
        return None

    def _side(self, part: Expr) -> Literal["row", "column", "none", "both"]:
        """Which side's indices the expression reads; "both" where it is to be told pair by pair."""
        names = indices(part)
        by_row, by_column = bool(names & self._rows), bool(names & self._columns)
        if names - self._rows - self._columns - self._outside or (by_row and by_column):
            return "both"
        return "row" if by_row else "column" if by_column else "none"

    def _of_side(self, part: Expr, side: Side) -> Hoisted:
        found = self.row if side == "row" else self.column
        return found.setdefault(part, self._hoisted(f"{side}_{len(found)}", part))

    def _hoisted(self, name: str, expr: Expr) -> Hoisted:
        """An integer that may need more than 32 bits is held at their ends."""
        text = print_scalar(expr)
        match expr.kind:
            case Kind.FLOAT:
                return Hoisted(name, "T", text)
            case Kind.INT:
                lane = "lane_int" if self._narrow.fits(expr) else "irc::held<lane_int>"
                return Hoisted(name, "lane_int", f"{lane}({text})")
            case Kind.BOOL:
                return Hoisted(name, "lane_int", f"({text}) ? -1 : 0")

    def _of_batch(self, part: Expr) -> Hoisted:
        return self.batch.setdefault(part, self._hoisted(f"batch_{len(self.batch)}", part))

    def _place(self, part: Expr) -> str | None:
        """The text of a subexpression that is available as a whole, or None to go on below it."""
        if isinstance(part, Const):
            return None
        if isinstance(part, Local):
            return self.places.tile.format(identifier(part.name))
        if any(isinstance(e, Local) for e in walk(part)):
            return None
        match self._side(part):
            case "row" | "column" as side:
                kept = self._of_side(part, side)
                if side != self.places.lanes:
                    return f"{kept.name}[{self.places.other}]"
                vector = "vec" if kept.type == "T" else "ivec"
                return f"irc::load_vector<{vector}>({kept.name} + {self.places.vector})"
            case "none":
                return self._of_batch(part).name
        if is_lookup(part):
            return self._looked_up(part)
        if isinstance(part, Op) and part.name in COMPARISON and part.args[0].kind is Kind.INT:
            return self._compared(part)
        return f"lane_int({print_scalar(part)})" if isinstance(part, Index) else None

    def _compared(self, part: Op) -> str | None:
        """A comparison of integers of which lanes of 32 bits may not hold the operands, but all that one side of the
        kernel adds: the rest is made in 64 bits, and held at the ends of 32. None for any other."""
        x, y = part.args
        apart = self._narrow.apart(x, y)
        if apart is None or "both" not in (self._side(x), self._side(y)) or all(map(self._narrow.fits, part.args)):
            return None
        *sides, turned = apart
        if not any(map(self._narrow.fits, sides)):
            return None
        texts: dict[Expr, str] = {Local(f"side {n}", Kind.INT): self.vector(side) for n, side in enumerate(sides)}
        names = tuple(texts)[::-1] if turned else tuple(texts)
        return f"({print_expr(Op(part.name, names, Kind.BOOL), texts.get)})"

    def _looked_up(self, read: Load | Op) -> str:
        """What a table says pair by pair: a run of its elements, elements at vectors of indices, or code for a lane."""
        first, step = self._run(read)
        if step or not isinstance(read, Load) or read.kind is Kind.BOOL:
            return self._gather(read, first, step)
        return self._elements(read)

    def _elements(self, read: Load) -> str:
        """The elements at vectors of indices; where none of these depends on the lane, the one element."""
        first, moving = self.places_of(read.tensor, read.indices)
        if moving:
            kind = "vec" if read.kind is Kind.FLOAT else "ivec"
            return f"irc::gather_elements<{kind}>(wanted, &{first}, {', '.join(moving)})"
        return f"irc::load<{'T' if read.kind is Kind.FLOAT else 'lane_int'}>({first})"

    def places_of(self, tensor: str, at: tuple[Expr, ...]) -> tuple[str, tuple[str, ...]]:
        """An element, by the indices that lanes share, and vectors of the others, each with its dimension's step."""
        lanes = self._rows if self.places.lanes == "row" else self._columns
        fixed, moving = [], []
        for dimension, index in enumerate(at):
            text, stride = self.vector(index), stride_name(tensor, dimension)
            if indices(index) & lanes:
                moving.append(f"{text}, {stride}")
            elif index != Const(0, Kind.INT):
                fixed.append(f"({text})*{stride}")
        return f"{pointer_name(tensor)}[{' + '.join(fixed) or '0'}]", tuple(moving)

    def _gather(self, read: Load | Op, first: str, step: str) -> str:
        inner = tuple(sorted(indices(read) - self._rows - self._columns - self._outside))
        text = self.scalar(read, self.places.gathered_lane, self.places.gathered_other)
        text = text if read.kind != Kind.BOOL else f"{text} ? -1 : 0"
        kind = "vec" if read.kind == Kind.FLOAT else "ivec"
        made = self.gathers.setdefault(read, Gather(f"gather_{len(self.gathers)}", kind, text, inner, first, step))
        return f"{made.name}({', '.join((*self.places.gather, 'wanted', *inner))})"

    def _run(self, read: Load | Op) -> tuple[str, str]:
        """The element of a lane, and how far that of the next is; empty where they are no neighbours."""
        axes = self.kernel.rows if self.places.lanes == "row" else self.kernel.columns
        if not isinstance(read, Load) or read.kind is Kind.BOOL or not are_neighbours(read.indices, axes):
            return "", ""
        step = even_step(read, axes[0].name) or ""
        return element(read.tensor, read.indices, scalar_leaf, lazy=True), step


def are_neighbours(place: tuple[Expr, ...], side: tuple[Axis, ...]) -> bool:
    """Whether elements for following positions of the side are one apart, where a tensor lies as its shape says."""
    if len(side) != 1:
        return False
    slopes = [slope(index, side[0].name) for index in place]
    return slopes[-1:] in ([1], [-1]) and not any(slopes[:-1])


def even_step(read: Load, index: str) -> str | None:
    """How far the element lies from that of the index's value before, if that is the same everywhere."""
    slopes = [slope(place, index) for place in read.indices]
    terms = [f"{by} * {stride_name(read.tensor, n)}" for n, by in enumerate(slopes) if by]
    return None if None in slopes else " + ".join(terms) or "0"


def slope(expr: Expr, index: str) -> int | None:
    """What the expression grows by when the index does by one, if that is one constant whatever the index is."""
    if index not in indices(expr):
        return 0
    match expr:
        case Index():
            return 1
        case Op("neg", (x,)):
            by = slope(x, index)
            return None if by is None else -by
        case Op("add" | "sub" as name, (x, y)):
            left, right = slope(x, index), slope(y, index)
            if left is None or right is None:
                return None
            return left + right if name == "add" else left - right
        case Op("mul", (Const(factor), x)) | Op("mul", (x, Const(factor))):
            by = slope(x, index)
            return None if by is None else by * int(factor)
        case _:
            return None
