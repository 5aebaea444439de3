"""Vector code for tile values: what depends on one side alone is hoisted, what depends on both is evaluated in lanes.

Lanes are positions of one side: rows in the tile form, columns in the stream form. A subexpression of batch indices
becomes a scalar of the task, one of the lanes' side a vector that is filled once a stretch of it, one of the other side
a scalar. What a table says of both sides together is a run of its elements where following lanes read neighbours, else
elements gathered at vectors of indices. Of a table with an entry for every pair a tile reads whole lines, before they
are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from itertools import chain
from typing import Literal

from irc.codegen.expr import (
    COMPARISON,
    Const,
    Expr,
    Index,
    Kind,
    Load,
    Local,
    Op,
    children,
    flat,
    indices,
    integer,
    is_lookup,
    op,
    rebuild,
    substitute,
    walk,
)
from irc.codegen.kernel import InnerSum, RowSums, Side, Target, TileKernel, is_expression, pieces
from irc.codegen.names import identifier, pointer_name, stride_name
from irc.codegen.narrow import BELOW, FITS, INSIDE, NEAR, Narrow
from irc.codegen.places import TILE_PLACES, Gather, Hoisted, Places, Table
from irc.codegen.printer import address, element, print_expr, print_scalar, scalar_leaf
from irc.codegen.slopes import are_neighbours, even_step, slope

WRAPPING = ("add", "sub", "mul", "neg")  # right in the end, where the end is held


@dataclass
class Hoists:
    """Collects what the vector code of one kernel needs from outside."""

    kernel: TileKernel
    places: Places = TILE_PLACES
    batch: dict[Expr, Hoisted] = field(default_factory=dict)
    row: dict[Expr, Hoisted] = field(default_factory=dict)
    column: dict[Expr, Hoisted] = field(default_factory=dict)
    gathers: dict[Load | Op, Gather] = field(default_factory=dict)
    draws: dict[Op, str] = field(default_factory=dict)  # random numbers, by what holds those of neighbours
    tables: dict[Load, Table] = field(default_factory=dict)
    masks: dict[Expr, Table] = field(default_factory=dict)  # of truths
    known: dict[Expr, str] = field(default_factory=dict)  # texts of what others make

    def __post_init__(self) -> None:
        self._rows = frozenset(a.name for a in self.kernel.rows)
        self._columns = frozenset(a.name for a in self.kernel.columns)
        self._outside = frozenset(a.name for a in (*self.kernel.batch, *self.kernel.serial))
        body = self.kernel.body
        over = {a.name for step in body if isinstance(step, InnerSum) for a in step.over}
        over |= {a.name for step in body if isinstance(step, RowSums) for a in step.features}
        inner = {*(a.name for a in self.kernel.serial), *over, *map(inner_name, over)}
        self._narrow = Narrow(self.kernel)
        self._known = Narrow(self.kernel, frozenset(inner), assume=True)
        made = tuple(pieces(self.kernel))
        read = (e.indices for piece in made if is_expression(piece) for e in walk(piece) if isinstance(e, Load))
        added = (piece.indices for piece in made if isinstance(piece, Target))
        self._places = frozenset(chain(*read, *added))
        self._narrows = self.kernel.arithmetic != "f64"
        self._held: frozenset[Expr] = frozenset()  # integers that a condition around the text makes sure of
        self._ahead = self.places.ahead

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

    def condition(self, expr: Expr) -> str:
        """The same of what is asked of any pair of a tile, at any time."""
        self._ahead = False
        text = self.vector(expr)
        self._ahead = self.places.ahead
        return text

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

    def _power(self, part: Expr) -> str | None:
        """A power for each lane of a base that is one for the task, whose logarithm is taken once."""
        if not isinstance(part, Op) or part.name != "pow" or self.kernel.arithmetic != "f32" or part.kind is Kind.INT:
            return None
        base, exponent = part.args
        if self._side(base) != "none" or self._side(part) not in ("both", self.places.lanes):
            return None
        key = Op("pow", (base, base), Kind.FLOAT)
        kept = Hoisted(f"batch_{len(self.batch)}", "irc::Base", f"irc::Base({print_scalar(base)})")
        return f"irc::pow({self.batch.setdefault(key, kept).name}, irc::splat<vec>({self.vector(exponent)}))"

    def _drawn(self, part: Expr) -> str | None:
        """Random numbers of a panel of rows, of which neighbours along the last place are made at once."""
        if not isinstance(part, Op) or part.name != "random" or not self.places.pair or not self._fit(part.args):
            return None
        seed, i, j, k = part.args
        rows = flat(tuple((a.index, a.size) for a in self.kernel.rows))
        if {self._side(seed), self._side(i)} != {"none"} or "both" in (self._side(j), self._side(k)):
            return None
        by_row = self._side(k) != "row"
        if not by_row and (k != rows or self._side(j) == "row"):
            return None
        name = self.draws.setdefault(part, f"draws_{len(self.draws)}")
        first, second, third, last = map(self.vector, part.args)
        if by_row:
            return f"{name}.of_rows(w, {first}, {second}, irc::splat<ivec>({third}), {last})"
        return f"{name}.of_columns(w, {first}, {second}, {third}, {self.places.pair[0]})"

    def _place(self, part: Expr) -> str | None:
        """The text of a subexpression that is available as a whole, or None to go on below it."""
        if isinstance(part, Const):
            return None
        if part in self.known:
            return self.known[part]
        if isinstance(part, Local):
            return self.places.tile.format(identifier(part.name))
        if any(isinstance(e, Local) for e in walk(part)):
            return None
        if (made := self._power(part) or self._drawn(part)) is not None:
            return made
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
            if self._one_holds(*part.args):
                return None
            if (compared := self._compared(part)) is not None:
                return compared
        if isinstance(part, Op) and part.kind is not Kind.INT and self._narrows and not self._fit(part.args):
            return self._exact(part, partial(self._made, part))
        return f"lane_int({print_scalar(part)})" if isinstance(part, Index) else None

    def _fit(self, parts: tuple[Expr, ...]) -> bool:
        """Whether a lane of 32 bits holds all integers that it makes of the expressions, or is known to do so here."""
        return all(e in self._held or self._known.fits(e) for e in self._integers(parts))

    def _integers(self, parts: tuple[Expr, ...]) -> Iterator[Expr]:
        """The integers among the expressions, those of both sides with what they are made of. A number that is rounded
        down is taken for held; a place in a tensor is, and sums and products on the way to it wrap."""
        for part in parts:
            if part.kind is not Kind.INT or isinstance(part, Index | Local):
                continue
            place = part in self._places
            if not place and not (isinstance(part, Op) and part.name in ("flat", "floor")):
                yield part
            if isinstance(part, Op) and self._is_made(part):
                yield from self._integers(self._summed(part) if place and part.name in WRAPPING else part.args)

    def _is_made(self, part: Op) -> bool:
        return not is_lookup(part) and self._side(part) == "both"

    def _summed(self, part: Expr) -> tuple[Expr, ...]:
        """What lanes add, subtract and multiply."""
        if isinstance(part, Op) and part.name in WRAPPING and self._is_made(part):
            return tuple(chain(*map(self._summed, part.args)))
        return (part,)

    def _compared(self, part: Op) -> str | None:
        """A comparison of integers that a lane may not hold, but holds all that one side of the kernel adds: the rest
        is made in 64 bits, and held at the ends of 32. None where it holds neither."""
        apart = self._narrow.apart(*part.args)
        if apart is None or all(map(self._narrow.fits, part.args)):
            return None
        columns, others, turned = apart
        x, y = (others, columns) if turned else (columns, others)
        if not self._narrow.fits(x) and not self._narrow.fits(y):
            return None
        made = f"({self._made(Op(part.name, (x, y), Kind.BOOL))})"
        if any(self._narrow.fits(e, INSIDE) for e in (x, y)) or all(map(self._narrow.fits, (x, y))):
            return made
        far = x if self._narrow.fits(y) else y
        beyond = _beyond(part.name, far, turned=far is x)
        return f"({made} {'||' if part.name in ('lt', 'ne') else '&&'} {self.vector(beyond)})"

    def _one_holds(self, x: Expr, y: Expr) -> bool:
        """Whether the two stand apart already, and a lane holds one of them, which is never an end."""
        return "both" not in (self._side(x), self._side(y)) and any(self._narrow.fits(e, INSIDE) for e in (x, y))

    def _made(self, part: Op) -> str:
        """The operation, of what its arguments are as a whole."""
        texts: dict[Expr, str] = {Local(f"part {n}", e.kind): self.vector(e) for n, e in enumerate(part.args)}
        return print_expr(Op(part.name, tuple(texts), part.kind), texts.get)

    def _exact(self, part: Load | Op, make: Callable[[], str]) -> str:
        """What lanes make of the expression, in a call in which they hold it; else code for one, in 64 bits."""
        alone, near = self._gather(part, "", ""), self._near(children(part))
        if near is None:
            return alone
        before, self._held = self._held, self._held | {*self._integers(children(part))}
        made = make()
        self._held = before
        return f"({near} ? {made} : {alone})"

    def beyond(self, parts: tuple[Expr, ...]) -> str | None:
        """A condition under which lanes may not hold what they make of the expressions; None where they always do."""
        if not self._narrows or self._fit(parts):
            return None
        near = self._near(parts)
        return "true" if near is None else f"!{near}"

    def _near(self, parts: tuple[Expr, ...]) -> str | None:
        """A condition on what stands for one side alone, under which lanes hold all integers that they make of the
        expressions; None where there is none."""
        made = tuple(self._integers(parts))
        sided = [e for e in made if self._side(e) != "both" and not self._known.fits(e, BELOW)]
        bounded: dict[Expr, Expr] = {e: self._known.near(n) for n, e in enumerate(sided)}
        if not all(self._known.fits(substitute(e, bounded)) for e in made):
            return None
        ends = (op("and", op("le", integer(-NEAR), e), op("le", e, integer(NEAR))) for e in bounded)
        return f"irc::all(irc::splat_mask<ivec>({self.vector(reduce(partial(op, 'and'), ends))}))"

    def _looked_up(self, read: Load | Op) -> str:
        """What a table says pair by pair: what a tile has read of it, a run of its elements, elements at vectors of
        indices, or code for a lane."""
        if isinstance(read, Load) and (table := self._table(read)) is not None:
            return f"irc::load_vector<{table.kind}>({table.name}.column({self.places.other}) + w * LANES)"
        first, step = self._run(read)
        if self.places.pair and isinstance(read, Load) and read.tensor in self.kernel.distance_tables:
            return self._of_distance(read, step, *self.places.pair)
        if step or not isinstance(read, Load) or read.kind is Kind.BOOL:
            return self._gather(read, first, step)
        if self._narrows and not self._fit(read.indices):
            return self._exact(read, partial(self._elements, read))
        return self._elements(read)

    def _of_distance(self, read: Load, step: str, lanes: str, other: str) -> str:
        """A run of a table of distances, which is there for every vector of a tile."""
        row, column = (lanes, other) if self.places.lanes == "row" else (other, lanes)
        names = {**dict.fromkeys(self._rows, row), **dict.fromkeys(self._columns, column)}
        first = element(read.tensor, read.indices, lambda e: names.get(getattr(e, "name", "")) or scalar_leaf(e))
        return f"irc::load_run<vec>(&{first}, {step})"

    def _table(self, read: Load) -> Table | None:
        """Where a tile reads it, some columns at a time."""
        if read.kind is Kind.BOOL:
            return None
        kind = "vec" if read.kind is Kind.FLOAT else "ivec"
        made = self._of_pairs(read, Table(f"pairs_{len(self.tables)}", kind)) if self._ahead else None
        return made and self.tables.setdefault(read, made)

    def truths(self, part: Expr, read: Load) -> str | None:
        """A mask of what a table of truths says of a vector of pairs, or the contrary, if a tile reads it at once."""
        table = Table(f"truths_{len(self.masks)}", "turned" if part != read else "")
        made = self._of_pairs(read, table) or self._of_places(read, table) if self.places.ahead else None
        if made is None:
            return None
        return f"{self.masks.setdefault(part, made).name}.wanted<ivec>({self.places.other}, w)"

    def _of_pairs(self, read: Load, table: Table) -> Table | None:
        """The table with its place, if it has an element for every pair, and those of following rows, or columns, are
        neighbours."""
        rows, columns = self.kernel.rows, self.kernel.columns
        if len(rows) != 1 or len(columns) != 1 or not indices(read) <= self._rows | self._columns | self._outside:
            return None
        for near, far in ((rows, columns), (columns, rows)):
            along = [slope(read.indices[-1], side[0].name) for side in (near, far)]
            step = even_step(read, far[0].name)
            if along == [1, 0] and are_neighbours(read.indices, near) and step is not None:
                first = element(read.tensor, read.indices, scalar_leaf)
                return replace(table, first=first, step=step, lanes=near is rows)
        return None

    def _of_places(self, read: Load, table: Table) -> Table | None:
        """The table with its place, if rows tell some of its dimensions and columns others."""
        lanes = {"row": "[lane_first + row]", "column": "[n]"}
        found: dict[str, list[str]] = {side: [] for side in lanes}
        shared = list(read.indices)
        for n, index in enumerate(read.indices):
            match self._side(index):
                case "row" | "column" as side:
                    stride = stride_name(read.tensor, n)
                    found[side].append(f"{self._of_side(index, side).name}{lanes[side]} * {stride}")
                    shared[n] = integer(0)
                case "both":
                    return None
        first = element(read.tensor, tuple(shared), scalar_leaf)
        rows, columns = (" + ".join(found[side]) for side in lanes)
        return replace(table, first=first, rows=rows, columns=columns) if rows and columns else None

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
        inner = tuple(map(identifier, sorted(indices(read) - self._rows - self._columns - self._outside)))
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


def _beyond(name: str, far: Expr, turned: bool) -> Expr:
    """What a comparison must also ask of a value that is held at the ends of 32 bits, where the other may be an end: of
    `far` as its second operand, or `turned`."""
    below, above = op("lt", far, integer(FITS[0])), op("lt", integer(FITS[1]), far)
    match name:
        case "eq" | "ne":
            either = op("or", below, above)
        case _:
            either = below if (name == "lt") == turned else above
    return either if name in ("lt", "ne") else op("not", either)


def inner_name(name: str) -> str:
    """The index of a sum inside a tile value, which may stand where another sum is over the same."""
    return f"{name}.inner"
