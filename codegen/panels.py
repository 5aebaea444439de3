"""Operands of products: how wide they are, and whether their rows lie in memory as they are read."""

from __future__ import annotations

from dataclasses import replace

from irc.codegen.expr import Axis, Const, Expr, Kind, Load, Local, Op, indices, integer, op, rebuild, substitute, walk
from irc.codegen.kernel import DISTANCE, Dot, InnerSum, Panel, RowProduct, Target, TileKernel, TileOp
from irc.codegen.names import identifier, stride_name
from irc.codegen.outside import DIVIDING
from irc.codegen.positions import points
from irc.codegen.printer import element, print_scalar, scalar_leaf
from irc.codegen.tile_texts import AxisText, RowText

MOST_BLOCKS = 4


def axis_texts(axes: tuple[Axis, ...]) -> tuple[AxisText, ...]:
    return tuple(AxisText(identifier(a.name), print_scalar(a.size)) for a in axes)


def width(panel: Panel) -> int:
    number = points(panel.features)
    if number is None:
        raise ValueError(f"tiles: the features of panel {panel.name} are not constant")
    return number


def of_distances(kernel: TileKernel) -> set[str]:
    """The names of the panels that are of distances."""
    return {panel.name for panel in kernel.panels if panel.side == "distance"}


def sums_distances(kernel: TileKernel) -> bool:
    """Whether products of the rows are with a panel of distances."""
    return any(isinstance(step, RowProduct) and step.panel in of_distances(kernel) for step in kernel.body)


def pair_by_pair(kernel: TileKernel) -> TileKernel:
    """The kernel in which dots look up by each pair what it chooses by its distance: few rows read it but once."""
    panels, apart = {panel.name: panel for panel in kernel.panels}, of_distances(kernel)
    if not apart:
        return kernel
    distance = op("sub", kernel.rows[0].index, kernel.columns[0].index)

    def looked_up(step: TileOp) -> TileOp:
        if not isinstance(step, Dot) or not {step.row, step.column} & apart:
            return step
        row, column = (substitute(panels[name].value, {DISTANCE: distance}) for name in (step.row, step.column))
        return InnerSum(step.name, panels[step.row].features, op("mul", row, column), masked=False)

    body = tuple(map(looked_up, kernel.body))
    dotted = {name for step in body if isinstance(step, Dot) for name in (step.row, step.column)}
    read = dotted | {step.panel for step in body if isinstance(step, RowProduct)}
    return replace(kernel, body=body, panels=tuple(panel for panel in kernel.panels if panel.name in read))


def parts_of(value: Expr, features: tuple[Axis, ...]) -> list[tuple[tuple[Axis, ...], Expr]]:
    """The numbers of a token in their order, apart where they lie in few blocks that conditions tell apart: their loops
    become vectors."""
    first = features[0]
    conditions = (e.args[0] for e in walk(value) if isinstance(e, Op) and e.name == "where")
    told = any(first.name in indices(condition) for condition in conditions)
    if len(features) == 1 or not told or not isinstance(first.size, Const) or first.size.value > MOST_BLOCKS:
        return [(features, value)]
    blocks = (substitute(value, {first.index: integer(n)}) for n in range(int(first.size.value)))
    return [part for block in blocks for part in parts_of(block, features[1:])]


def fixed_of(panel: Panel) -> tuple[Expr, dict[Expr, Local]]:
    """The panel's value, with Locals for what a token computes or looks up once for all its features, and what these
    are: floats, and what says where in memory its features lie."""
    names, found = {axis.name for axis in panel.features}, dict[Expr, Local]()

    def place(part: Expr) -> Expr | None:
        if indices(part) and not names & indices(part) and _is_kept(part):
            return found.setdefault(part, Local(f"fixed {len(found)}", part.kind))
        if isinstance(part, Op) and part.name == "where":  # what only some features read stays with them
            return op("where", rebuild(part.args[0], place), *part.args[1:])
        return None

    return rebuild(panel.value, place), found


def _is_kept(part: Expr) -> bool:
    """Whether the expression is worth a name: loops over features would read its tables and divide again."""
    if part.kind is Kind.FLOAT:
        return isinstance(part, Op | Load)
    if part.kind is Kind.BOOL:
        return isinstance(part, Load)
    return any(
        isinstance(e, Load) or (isinstance(e, Op) and (e.name == "segment" or e.name in DIVIDING)) for e in walk(part)
    )


def lying(value: Expr) -> Load | None:
    """What an operand is where it lies: numbers of a tensor, integers as the floats that they are; None where it is
    computed."""
    if isinstance(value, Op) and value.name == "float":
        value = value.args[0]
    return value if isinstance(value, Load) and value.kind is not Kind.BOOL else None


def before_features(load: Load | Target, features: tuple[Axis, ...]) -> tuple[Expr, ...] | None:
    """The other indices of a plain slice: its last dimensions are the features in their order, on which no other
    depends. None where it is none."""
    first, names = len(load.indices) - len(features), {axis.name for axis in features}
    others = load.indices[:first]
    if load.indices[first:] != tuple(a.index for a in features) or any(indices(e) & names for e in others):
        return None
    return others


def panel_rows(panel: Panel, side: tuple[Axis, ...]) -> RowText | None:
    """The rows of a panel that lies in memory."""
    load = lying(panel.value)
    return None if load is None else row_text(load, panel.features, side)


def row_text(load: Load | Target, features: tuple[Axis, ...], side: tuple[Axis, ...]) -> RowText | None:
    """The rows of a plain slice of one feature."""
    others, names = before_features(load, features), {axis.name for axis in side}
    if others is None or len(features) != 1:
        return None
    at_start = (*others, Const(0, Kind.INT))
    plain = len(side) == 1 and others.count(side[0].index) == 1
    even = plain and not any(indices(e) & names for e in others if e != side[0].index)
    return RowText(
        element(load.tensor, at_start, scalar_leaf),
        stride_name(load.tensor, others.index(side[0].index)) if even else None,
    )
