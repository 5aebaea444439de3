"""Rows that lie in memory as tensor cores want them, one number after another: copied and stored 16 bytes at a time."""

from __future__ import annotations

from dataclasses import dataclass

from irc.codegen.expr import Axis, Const, Kind, Load
from irc.codegen.kernel import Target
from irc.codegen.names import pointer_name, stride_name
from irc.codegen.panels import before_features
from irc.codegen.positions import extent
from irc.codegen.printer import element, scalar_leaf


@dataclass(frozen=True, slots=True)
class RowText:
    """Of a panel or of a result the first element of a row, an lvalue, and whether the others follow it; and whether
    every row lies on 16 bytes."""

    element: str
    is_contiguous: str
    is_aligned: str


def row_text(load: Load | Target, features: tuple[Axis, ...]) -> RowText | None:
    """The rows of a plain slice."""
    others = before_features(load, features)
    if others is None:
        return None
    strides = (stride_name(load.tensor, len(others) + n) for n in range(len(features)))
    steps = [f"{stride} == {extent(features[n + 1 :])}" for n, stride in enumerate(strides)]
    at_start = (*others, *(Const(0, Kind.INT) for _ in features))
    pointer = pointer_name(load.tensor)
    bytes = [f"uint64_t({stride_name(load.tensor, n)}) * sizeof(*{pointer})" for n in range(len(others))]
    aligned = f"({' | '.join([f'uintptr_t({pointer})', *bytes])}) % 16 == 0"
    return RowText(element(load.tensor, at_start, scalar_leaf), " && ".join(steps), aligned)
