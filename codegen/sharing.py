"""Heads that read the same keys, as further rows of one task: what is read of the columns is then read once for them.

A batch axis is shared by `members` of its points where every column operand reads it as `axis // members` alone, or not
at all. It becomes an axis of groups and, outermost, one of rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TypeVar

from irc.codegen.expr import (
    TRUE,
    Axis,
    Expr,
    Index,
    Load,
    Local,
    Op,
    indices,
    integer,
    op,
    rebuild,
    substitute,
    walk,
)  # fmt: skip
from irc.codegen.kernel import TileKernel, is_expression, pieces

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shared:
    """The kernel with shared heads as rows; how many there are to each of its rows; and what must hold of the sizes for
    it to mean the same."""

    kernel: TileKernel
    members: Expr
    condition: Expr


def share(kernel: TileKernel) -> Shared:
    """The kernel with the last batch axis that its columns share, if there is one, and if the mask does not read it."""
    masked = read_by_mask(kernel)
    for axis in reversed(kernel.batch):
        count = members(axis, [p.value for p in kernel.panels if p.side == "column"])
        if count is not None and axis.name not in masked:
            return _with_rows(kernel, axis, count)
    return Shared(kernel, integer(1), TRUE)


def read_by_mask(kernel: TileKernel) -> frozenset[str]:
    """Names of the indices that verdicts on rectangles of pairs depend on."""
    masked = (kernel.verdict, kernel.spans, kernel.summaries, kernel.searches, kernel.cuts)
    return frozenset().union(*(indices(p) for p in pieces(masked) if is_expression(p)))


def members(axis: Axis, operands: Iterable[Expr]) -> Expr | None:
    """How many points of the axis in a row read the same of all operands; None for one, or where it is not plain."""
    found: set[Expr] = set()

    def group(part: Expr) -> Expr | None:
        match part:
            case Op("floordiv", (Index(axis.name), count)) if not indices(count) and not _reads(count):
                found.add(count)
                return integer(0)
        return None

    rest = [rebuild(e, group) for e in operands]
    if any(axis.name in indices(e) for e in rest) or len(found) > 1:
        return None
    return found.pop() if found else axis.size


def _with_rows(kernel: TileKernel, axis: Axis, members: Expr) -> Shared:
    member = Axis(f"{axis.name}.member", members)
    group = Axis(f"{axis.name}.group", op("floordiv", axis.size, members))
    one = members == axis.size
    at = member.index if one else op("add", op("mul", group.index, members), member.index)
    divided = Op("floordiv", (axis.index, members), axis.index.kind)
    changed: dict[Expr, Expr] = {axis.index: at, divided: integer(0) if one else group.index}
    batch = tuple(b for a in kernel.batch for b in ((a,) if a != axis else () if one else (group,)))
    exact = (
        TRUE if one else op("and", op("lt", integer(0), members), op("eq", op("mod", axis.size, members), integer(0)))
    )
    return Shared(
        replace(
            kernel,
            batch=batch,
            rows=(member, *kernel.rows),
            panels=_substituted(kernel.panels, changed),
            body=_substituted(kernel.body, changed),
            support=_substituted(kernel.support, changed),
        ),
        members,
        exact,
    )


def _reads(expr: Expr) -> bool:
    return any(isinstance(e, Load | Local) for e in walk(expr))


def _substituted(item: T, changed: dict[Expr, Expr]) -> T:
    """Kernel data, its expressions with these replaced."""
    if is_expression(item):
        return substitute(item, changed)  # type: ignore[return-value]
    if isinstance(item, tuple):
        return tuple(_substituted(part, changed) for part in item)  # type: ignore[return-value]
    if is_dataclass(item) and not isinstance(item, type):
        return replace(item, **{f.name: _substituted(getattr(item, f.name), changed) for f in fields(item)})
    return item
