"""What the backward run computes again and what the forward run keeps for it, decided at each call from the sizes.

Values without pairs (projections, mostly) can be had again from the arguments. That is done where it costs little
beside the tile kernels that read them: long sequences, where memory counts. Elsewhere they are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from irc.arrangement.lifetimes import Kernels, owners, reads, writes
from irc.codegen.expr import Expr, integer, op
from irc.codegen.kernel import Dot, LoopKernel, TileKernel, TileProduct
from irc.graph.ir import product
from irc.runtime.plan import Call, Plan, Product, Step
from irc.runtime.sizes import evaluate

SHARE = 0.05  # of the work of the backward run's tile kernels: up to here projections are computed again
POINT = 32  # operations that one point of a loop counts as; it waits for memory


@dataclass(frozen=True, slots=True)
class Choice:
    """Operations, as expressions over sizes, of computing again what could be kept, and of the tile kernels."""

    again: Expr
    tiles: Expr

    def keep(self, sizes: Mapping[str, int]) -> bool:
        """Whether the forward run should keep what the backward run could compute again."""
        return evaluate(self.again, sizes) > SHARE * evaluate(self.tiles, sizes)


def kept(plan: Plan, kernels: Kernels, again: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of the tensors of a backward plan that are computed `again`: those that suffice for all that the plan does with
    them, and all that need not be computed when those are given."""
    owner = owners(plan.steps)
    own = [s for s in plan.steps if writes(s, kernels) and writes(s, kernels) <= set(again)]
    used = {n for s in plan.steps if s not in own for n in reads(s, kernels)}
    sources = {owner.get(n, n) for n in used & set(again)}
    enough = tuple(n for n in again if n in sources)
    needed = set(enough)
    for step in reversed(own):
        if writes(step, kernels) & needed:
            needed |= reads(step, kernels) & set(again)
    return enough, tuple(n for n in again if n in needed)


def choice(plan: Plan, kernels: Kernels) -> Choice:
    """The costs of a backward plan with its `again`."""
    own = [s for s in plan.steps if writes(s, kernels) and writes(s, kernels) <= set(plan.again)]
    tiles = [k for s in plan.steps if isinstance(s, Call) and isinstance(k := kernels[s.kernel], TileKernel)]
    return Choice(total([_step(s, kernels) for s in own]), total([_tiles(k) for k in tiles]))


def total(parts: Collection[Expr]) -> Expr:
    result: Expr = integer(0)
    for part in parts:
        result = op("add", result, part)
    return result


def _step(step: Step, kernels: Kernels) -> Expr:
    match step:
        case Product(_, axes, _, left, right):
            dims = [d for o in (left, right) for d in o.dims if not isinstance(d, int)]
            return product((integer(2), *(a.size for a in dict.fromkeys((*axes, *(a for d in dims for a in d))))))
        case Call(name) if isinstance(kernel := kernels[name], LoopKernel):
            return total([product((integer(POINT), *(a.size for a in (*k.axes, *k.over)))) for k in kernel.loops])
    return integer(0)


def _tiles(kernel: TileKernel) -> Expr:
    """Two operations for each pair and feature of a product; every pair counts, masked or not."""
    widths = {p.name: product(tuple(a.size for a in p.features)) for p in kernel.panels}
    panels = [o.row if isinstance(o, Dot) else o.panel for o in kernel.body if isinstance(o, Dot | TileProduct)]
    pairs = product(tuple(a.size for a in (*kernel.batch, *kernel.serial, *kernel.rows, *kernel.columns)))
    return op("mul", integer(2), op("mul", pairs, total([widths[p] for p in panels])))
