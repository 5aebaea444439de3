"""Flattened positions of a side: of its axes the last runs fastest."""

from __future__ import annotations

import math

from irc.codegen.expr import Axis, Const, Expr, Kind, Op, integer, op
from irc.codegen.kernel import CHUNKS
from irc.codegen.names import identifier
from irc.codegen.printer import print_scalar


def unflatten(axes: tuple[Axis, ...], position: str, narrow: bool = False) -> tuple[tuple[str, str], ...]:
    """(name, text) of each index of a flattened position, the last index running fastest; `narrow`: in 32 bits."""

    def printed(divisor: Expr) -> str:
        return print_scalar(Op("narrow", (divisor,), Kind.INT) if narrow else divisor)

    if len(axes) == 1:
        return ((identifier(axes[0].name), position),)
    out: list[tuple[str, str]] = []
    below: Expr = integer(1)
    for axis in reversed(axes):
        text = position if below == integer(1) else f"{position}/({printed(below)})"
        if axis is not axes[0]:
            text = f"{text}%({printed(axis.size)})"
        out.append((identifier(axis.name), text))
        below = op("mul", axis.size, below)
    return tuple(reversed(out))


def size(axes: tuple[Axis, ...]) -> Expr:
    """The number of positions on a side."""
    number: Expr = integer(1)
    for axis in axes:
        number = op("mul", number, axis.size)
    return number


def points(axes: tuple[Axis, ...]) -> int | None:
    """The same as a number, where it is known when a kernel is made."""
    known = [int(axis.size.value) for axis in axes if isinstance(axis.size, Const)]
    return math.prod(known) if len(known) == len(axes) else None


def extent(axes: tuple[Axis, ...]) -> str:
    """The same, printed."""
    return print_scalar(size(axes))


def chunks_of(owners: Expr) -> Expr:
    """Into how many chunks the points of each owner are shared out: one where there are several owners a thread."""
    least = op("max", owners, integer(1))
    enough = op("floordiv", op("add", op("mul", integer(4), CHUNKS), op("sub", least, integer(1))), least)
    return op("min", CHUNKS, enough)


def tiles_of(axes: tuple[Axis, ...], length: int) -> Expr:
    """The number of tiles of so many positions, the last one perhaps shorter."""
    return op("floordiv", op("add", size(axes), integer(length - 1)), integer(length))
