"""How the registers of a block of warpgroups are shared out between its producer and its consumers, by an estimate of
what each keeps. All numbers are such that ptxas spills nothing (tests/cuda/test_cubins.py)."""

from __future__ import annotations

from collections.abc import Collection

from irc.codegen.cuda_forms import GATHERS, draws, scalars
from irc.codegen.expr import Const, Expr, Index, Local, Op, children, indices, walk
from irc.codegen.kernel import InnerSum, TileKernel
from irc.codegen.narrow import BASE, STEP

REGISTERS = 168  # of a thread of 384, before the first warpgroup gives to the others
ROLES = ((72, 216), (56, 224), (40, 232))  # of a thread of the producer, and of a consumer
OTHERS, BESIDE = 50, 52  # of a consumer for addresses and operands; and where dots go on beside products
SUMS = 12  # of a consumer where values of pairs are sums of their own, unless they count as gathered
VERDICTS, SUMMARIES = (9, 19), (0, 2)
"""What a producer keeps of a tile of rows for verdicts, and of how many tables it finds the ends, at most, where the
least registers are enough for it, and where a few more are."""


def roles(kernel: TileKernel, hoisted: TileKernel, fragments: int, operand: int) -> tuple[tuple[int, int], bool] | None:
    """The registers of both, and whether the dots of a tile go on beside the products of the one before, which they do
    where they can: the `operand` of these then takes registers beside the other fragments; 0 where there is none. None
    where a consumer has too few."""
    needed = fragments + 2 * scalars(kernel) + _of_pairs(hoisted)
    if scalars(kernel) < GATHERS and any(isinstance(step, InnerSum) for step in kernel.body):
        needed += SUMS
    light = sum(_is_light(hoisted, n) for n in range(2))
    choices = ROLES[light if draws(kernel) else min(light, 1) : light + 1]
    for more in (operand + BESIDE, OTHERS) if operand else (OTHERS,):
        for producer, consumer in choices:
            if needed + more <= consumer:
                return (producer, consumer), more != OTHERS
    return None


def _is_light(kernel: TileKernel, n: int) -> bool:
    verdict = kernel.verdict
    asked = (verdict.may, verdict.must) if verdict else ()
    return len(kernel.summaries) <= SUMMARIES[n] and len(_kept(asked, {"column_first", "column_last"})) <= VERDICTS[n]


def _of_pairs(kernel: TileKernel) -> int:
    """Registers of a mask: what it keeps for each of two rows, and what a division takes."""
    if kernel.support is None:
        return 0
    columns = {a.name for a in kernel.columns}
    rows = {a.name for a in kernel.rows}
    divides = any(
        isinstance(e, Op) and e.name in ("floordiv", "mod") and indices(e) & rows and indices(e) & columns
        for e in walk(kernel.support)
    )
    return len(_kept((kernel.support,), {BASE.name, STEP.name, *columns})) + divides


def _kept(exprs: Collection[Expr], moving: Collection[str]) -> set[Expr]:
    """The largest parts that do not change where the names in `moving` do, and those of columns."""
    found: set[Expr] = set()

    def look(e: Expr) -> None:
        if any(
            isinstance(p, Index | Local) and (p.name in moving or p.name.startswith("column_value")) for p in walk(e)
        ):
            for child in children(e):
                look(child)
        elif not isinstance(e, Const):
            found.add(e)

    for expr in exprs:
        look(expr)
    return found
