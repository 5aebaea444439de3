"""How the registers of a block of warpgroups are shared out between its producer and its consumers, by an estimate of
what each keeps. All numbers are such that ptxas spills nothing (tests/cuda/test_cubins.py)."""

from __future__ import annotations

from irc.codegen.cuda_forms import GATHERS, draws, scalars
from irc.codegen.cuda_kept import kept, of_mask
from irc.codegen.kernel import InnerSum, TileKernel

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
    needed = fragments + 2 * scalars(kernel) + of_mask(hoisted)
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
    return len(kernel.summaries) <= SUMMARIES[n] and len(kept(asked, {"column first", "column last"})) <= VERDICTS[n]
