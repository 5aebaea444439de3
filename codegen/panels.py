"""Operands of products: how wide they are, and whether their rows lie in memory as they are read."""

from __future__ import annotations

from irc.codegen.expr import Axis, Const, Expr, Kind, Load, indices
from irc.codegen.kernel import Panel, Target, TileKernel
from irc.codegen.positions import points
from irc.codegen.printer import element, identifier, print_scalar, scalar_leaf, stride_name
from irc.codegen.tile_texts import AxisText, RowText


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


def before_features(load: Load | Target, features: tuple[Axis, ...]) -> tuple[Expr, ...] | None:
    """The other indices of a plain slice: its last dimensions are the features in their order, on which no other
    depends. None where it is none."""
    first, names = len(load.indices) - len(features), {axis.name for axis in features}
    others = load.indices[:first]
    if load.indices[first:] != tuple(a.index for a in features) or any(indices(e) & names for e in others):
        return None
    return others


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
