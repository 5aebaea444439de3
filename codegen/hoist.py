"""Vector code for tile values: what depends on one side alone is hoisted, what depends on both is evaluated in lanes.

Lanes are rows. A subexpression of batch indices becomes a scalar of the task, one of row indices a vector that is
filled once a row panel, one of column indices a scalar that is filled once a column tile. A Load that depends on both
sides is gathered lane by lane.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from irc.codegen.expr import Const, Expr, Index, Kind, Load, Local, indices, rebuild, walk
from irc.codegen.kernel import TileKernel
from irc.codegen.printer import identifier, print_expr, print_scalar


@dataclass(frozen=True, slots=True)
class Hoisted:
    """A value computed outside the tile: `text` is scalar code, `type` what it is kept as; truth is kept as a mask."""

    name: str
    type: str
    text: str


@dataclass(frozen=True, slots=True)
class Gather:
    """A tensor element that depends on both sides. `inner` are the names of further indices that it reads."""

    name: str
    kind: str  # "vec" or "ivec"
    text: str
    inner: tuple[str, ...]


def _hoisted(name: str, expr: Expr) -> Hoisted:
    text = print_scalar(expr)
    match expr.kind:
        case Kind.FLOAT:
            return Hoisted(name, "T", text)
        case Kind.INT:
            return Hoisted(name, "lane_int", f"lane_int({text})")
        case Kind.BOOL:
            return Hoisted(name, "lane_int", f"({text}) ? -1 : 0")


@dataclass
class Hoists:
    """Collects what the vector code of one kernel needs from outside."""

    kernel: TileKernel
    batch: dict[Expr, Hoisted] = field(default_factory=dict)
    row: dict[Expr, Hoisted] = field(default_factory=dict)
    column: dict[Expr, Hoisted] = field(default_factory=dict)
    gathers: dict[Expr, Gather] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rows = frozenset(a.name for a in self.kernel.rows)
        self._columns = frozenset(a.name for a in self.kernel.columns)
        self._outside = frozenset(a.name for a in (*self.kernel.batch, *self.kernel.serial))

    def vector(self, expr: Expr) -> str:
        """The expression for one register of a tile: `tile_NAME[m][w]` are the values of the present register block."""
        texts: dict[Expr, str] = {}

        def place(part: Expr) -> Expr | None:
            text = self._place(part)
            if text is None:
                return None
            local = Local(f"placed {len(texts)}", part.kind)
            texts[local] = text
            return local

        return print_expr(rebuild(expr, place), texts.get)

    def _place(self, part: Expr) -> str | None:
        """The text of a subexpression that is available as a whole, or None to go on below it."""
        if isinstance(part, Const):
            return None
        if isinstance(part, Local):
            return f"tile_{identifier(part.name)}[m][w]"
        if any(isinstance(e, Local) for e in walk(part)):
            return None
        names = indices(part)
        inner = names - self._rows - self._columns - self._outside
        by_row, by_column = bool(names & self._rows), bool(names & self._columns)
        if inner or (by_row and by_column):
            if isinstance(part, Load):
                return self._gather(part, tuple(sorted(inner)))
            return f"lane_int({print_scalar(part)})" if isinstance(part, Index) else None
        if by_row:
            kept = self.row.setdefault(part, _hoisted(f"row_{len(self.row)}", part))
            vector = "vec" if kept.type == "T" else "ivec"
            return f"irc::load_vector<{vector}>({kept.name} + lane_first + w * LANES)"
        if by_column:
            return self.column.setdefault(part, _hoisted(f"column_{len(self.column)}", part)).name + "[n + m]"
        return self.batch.setdefault(part, _hoisted(f"batch_{len(self.batch)}", part)).name

    def _gather(self, load: Load, inner: tuple[str, ...]) -> str:
        text = print_scalar(load) if load.kind != Kind.BOOL else f"{print_scalar(load)} ? -1 : 0"
        kind = "vec" if load.kind == Kind.FLOAT else "ivec"
        made = self.gathers.setdefault(load, Gather(f"gather_{len(self.gathers)}", kind, text, inner))
        return f"{made.name}({', '.join(('n + m', 'w', 'wanted', *inner))})"
