"""Sums over features that are no dots, as `sum(c: (q[i,c] - k[j,c]) ^ 2)`. What they compute of one side and a feature
is packed as operands of dots are, so that a block of pairs is summed in registers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from irc.codegen.expr import (
    FLOATING,
    Axis,
    Expr,
    Index,
    Kind,
    Load,
    Local,
    Op,
    flat,
    indices,
    is_lookup,
    rebuild,
    substitute,
    walk,
)
from irc.codegen.hoist import inner_name
from irc.codegen.kernel import Panel, Side, TileKernel
from irc.codegen.names import identifier
from irc.codegen.positions import points
from irc.codegen.printer import print_scalar

MOST = 256  # features of a panel
SHORT = ("div", "sqrt", "rsqrt", "relu")  # little code
QUICK = ("relu", "floor")  # as quick as a sum


@dataclass
class Packing:
    """Panels of single numbers that sums of a kernel read, each as a Local, with its text; lanes are rows."""

    kernel: TileKernel
    panels: dict[tuple[Side, tuple[Axis, ...], Expr], Panel] = field(default_factory=dict)
    texts: dict[Expr, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rows, self._columns = (
            frozenset(a.name for a in side) for side in (self.kernel.rows, self.kernel.columns)
        )

    def packed(self, value: Expr, over: tuple[Axis, ...]) -> Expr | None:
        """The value, of panels where it reads one side at the indices `over`; None where these are too many, or what it
        reads is looked up by the pair."""
        inner, sides = {a.name for a in over}, (self._rows, self._columns)
        features = points(over)
        if features is None or features > MOST:
            return None
        far = [e for e in walk(value) if is_lookup(e) and all(indices(e) & side for side in sides)]
        if not all(map(self._is_of_distance, far)):
            return None

        operands: dict[Expr, Expr] = {}

        def operand(part: Expr) -> Expr | None:
            read = indices(part)
            if part.kind is not Kind.FLOAT or not read & inner or any(isinstance(e, Local) for e in walk(part)):
                return None
            if bool(read & self._rows) == bool(read & self._columns):
                return None
            return operands.setdefault(part, Local(f"operand {len(operands)}"))

        found = rebuild(value, operand)
        looked_up = (indices(e) for e in walk(found) if is_lookup(e) and not self._is_of_distance(e))
        if any(names & inner and names & (self._rows | self._columns) for names in looked_up):
            return None
        return substitute(found, {name: self._panel_of(part, over) for part, name in operands.items()})

    def _is_of_distance(self, read: Load | Op) -> bool:
        """Whether vectors read it as a run of a table, wherever they stand."""
        return isinstance(read, Load) and read.tensor in self.kernel.distance_tables

    def apart(self, values: Sequence[Expr], over: tuple[Axis, ...]) -> tuple[tuple[Expr, ...], dict[Expr, Expr]]:
        """The values, and Locals in them for what takes long to compute of the pair, but reads none of the indices."""
        inner, found = {a.name for a in over}, dict[Expr, Expr]()

        def part_of_the_pair(part: Expr) -> Expr | None:
            if not isinstance(part, Op) or part.kind is not Kind.FLOAT or _is_quick(part) or indices(part) & inner:
                return None
            if any(e in self.texts for e in walk(part)):
                return None
            return found.setdefault(part, Local(f"made {len(found)}"))

        rest = tuple(rebuild(value, part_of_the_pair) for value in values)
        return rest, {local: part for part, local in found.items()}

    def _panel_of(self, value: Expr, over: tuple[Axis, ...]) -> Local:
        side: Side = "row" if indices(value) & self._rows else "column"
        panel = Panel(f"inner.{len(self.panels)}", side, over, value)
        panel = self.panels.setdefault((side, over, value), panel)
        local, name = Local(f"packed {panel.name}"), f"panel_{identifier(panel.name)}"
        at = print_scalar(flat(tuple((Index(inner_name(a.name)), a.size) for a in over)))
        if side == "row":
            text = f"irc::load_vector<vec>({name}.dotted(lane_first) + ({at}) * PANEL + w * LANES)"
        else:
            text = f"{name}.dotted(n + m)[{at}]"
        self.texts[local] = text
        return local


def shared_parts(values: Sequence[Expr]) -> tuple[tuple[Expr, ...], dict[Expr, Expr]]:
    """The values, and Locals in them for what takes long and stands in them more than once."""
    met, found = Counter(e for value in values for e in walk(value)), dict[Expr, Expr]()

    def repeated(part: Expr) -> Expr | None:
        if met[part] < 2 or not isinstance(part, Op) or part.kind is not Kind.FLOAT or _is_quick(part):
            return None
        return found.setdefault(part, Local(f"shared {len(found)}"))

    rest = tuple(rebuild(value, repeated) for value in values)
    return rest, {local: part for part, local in found.items()}


def is_short(value: Expr) -> bool:
    """Whether a copy of the value for each register of a block is little code."""
    return not any(isinstance(e, Op) and e.name in FLOATING and e.name not in SHORT for e in walk(value))


def shares_work(value: Expr, other: Expr) -> bool:
    """Whether both compute something that takes long."""
    return any(_takes_long(e) for e in {*walk(value)} & {*walk(other)})


def _is_quick(value: Expr) -> bool:
    """Whether the value is made as fast as it is loaded."""
    return not any(map(_takes_long, walk(value)))


def _takes_long(part: Expr) -> bool:
    return isinstance(part, Op) and part.name in (*FLOATING, "pow") and part.name not in QUICK
