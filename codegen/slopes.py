"""How what is read moves in memory as an index goes up by one."""

from __future__ import annotations

from irc.codegen.expr import Axis, Const, Expr, Index, Load, Op, indices
from irc.codegen.names import stride_name


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
