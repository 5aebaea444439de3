"""What kernels on tensor cores keep in registers from tile to tile beside fragments: parts of masks and of verdicts."""

from __future__ import annotations

from collections.abc import Collection

from irc.codegen.expr import Const, Expr, Index, Local, Op, children, indices, walk
from irc.codegen.kernel import TileKernel
from irc.codegen.narrow import BASE, STEP


def of_mask(kernel: TileKernel) -> int:
    """Registers of a mask, where values of tokens are kept apart: what it keeps for each of two rows, and what a
    division takes."""
    if kernel.support is None:
        return 0
    columns = {a.name for a in kernel.columns}
    rows = {a.name for a in kernel.rows}
    divides = any(
        isinstance(e, Op) and e.name in ("floordiv", "mod") and indices(e) & rows and indices(e) & columns
        for e in walk(kernel.support)
    )
    return len(kept((kernel.support,), {BASE.name, STEP.name, *columns})) + divides


def kept(exprs: Collection[Expr], moving: Collection[str]) -> set[Expr]:
    """The largest parts that do not change where the names in `moving` do, and those of columns."""
    found: set[Expr] = set()

    def look(e: Expr) -> None:
        if any(
            isinstance(p, Index | Local) and (p.name in moving or p.name.startswith(("column value", "entries")))
            for p in walk(e)
        ):
            for child in children(e):
                look(child)
        elif not isinstance(e, Const):
            found.add(e)

    for expr in exprs:
        look(expr)
    return found
