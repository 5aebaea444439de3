"""Tables of truths in a mask: what a tile reads of them at once, and what of the mask is left.

A verdict knows nothing of such a table. A kernel reads a panel's part of it before scores are made, and finds itself
which columns no row is paired with, and which every row is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import reduce

from irc.codegen.expr import TRUE, Expr, Kind, Load, Op, conjuncts, loads, op
from irc.codegen.kernel import TileKernel, Verdict


def truth_tables(kernel: TileKernel) -> dict[Expr, Load]:
    """Parts of the support that are an element of a table of truths, or its contrary, and all that reads the table."""
    parts = () if kernel.support is None else conjuncts(kernel.support)
    reads = {part: part.args[0] if isinstance(part, Op) and part.name == "not" else part for part in parts}
    uses = Counter(load.tensor for part in parts for load in loads(part))
    return {p: e for p, e in reads.items() if isinstance(e, Load) and e.kind is Kind.BOOL and uses[e.tensor] == 1}


def without(kernel: TileKernel, parts: Iterable[Expr]) -> TileKernel:
    """The kernel with a verdict that leaves these parts of its support aside."""
    names = {load.tensor for part in parts for load in loads(part)}
    if kernel.verdict is None or not names:
        return kernel

    def rest(expr: Expr) -> Expr:
        return conjoined(e for e in conjuncts(expr) if not names & {load.tensor for load in loads(e)})

    return replace(kernel, verdict=Verdict(rest(kernel.verdict.may), rest(kernel.verdict.must)))


def conjoined(parts: Iterable[Expr]) -> Expr:
    start: Expr = TRUE
    return reduce(lambda x, y: op("and", x, y), parts, start)
