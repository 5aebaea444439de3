"""Rows that lie in memory as tensor cores want them, one number after another: copied and stored 16 bytes at a time."""

from __future__ import annotations

from dataclasses import dataclass

from irc.codegen.expr import Axis, Const, Kind, Load, indices
from irc.codegen.kernel import Target
from irc.codegen.positions import extent
from irc.codegen.printer import element, scalar_leaf, stride_name


@dataclass(frozen=True, slots=True)
class RowText:
    """Of a panel or of a result the first element of a row, an lvalue, and whether the others follow it."""

    element: str
    is_contiguous: str


def row_text(load: Load | Target, features: tuple[Axis, ...]) -> RowText | None:
    """The rows of a plain slice: the last dimensions are the features in their order, and no other depends on these."""
    first, names = len(load.indices) - len(features), {axis.name for axis in features}
    others = load.indices[:first]
    if load.indices[first:] != tuple(a.index for a in features) or any(indices(e) & names for e in others):
        return None
    steps = [f"{stride_name(load.tensor, first + n)} == {extent(features[n + 1 :])}" for n in range(len(features))]
    at_start = (*others, *(Const(0, Kind.INT) for _ in features))
    return RowText(element(load.tensor, at_start, scalar_leaf), " && ".join(steps))
