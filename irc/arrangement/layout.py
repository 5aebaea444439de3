"""Which dimension of a tensor runs fastest: the order in which the matrix products that read it need no copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from irc.runtime.plan import Allocate, Operand, Product, Step, View


def laid_out(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps with an order of dimensions for each new tensor that a product reads."""
    views = {s.result: s for s in steps if isinstance(s, View)}
    wishes: dict[str, tuple[int, ...]] = {}
    for step in steps:
        if isinstance(step, Product):
            for mine, other in ((step.left, step.right), (step.right, step.left)):
                order = _order(step, mine, other)
                source = mine.tensor
                if order is not None and source not in views:
                    wishes.setdefault(source, order)
    return tuple(
        replace(s, order=wishes[s.tensor]) if isinstance(s, Allocate) and s.tensor in wishes else s for s in steps
    )


def _order(step: Product, mine: Operand, other: Operand) -> tuple[int, ...] | None:
    """Dimensions from the slowest to the fastest: those that both operands keep, then those of the side that the last
    dimension does not belong to, then those of its own; None where that is the order that they have."""
    others = {a.name for d in other.dims if not isinstance(d, int) for a in d}
    wanted = {a.name for a in step.axes}
    kinds: list[tuple[bool, bool]] = []
    for dim in mine.dims:
        found = set() if isinstance(dim, int) else {(a.name in others, a.name in wanted) for a in dim}
        if len(found) != 1:
            return None
        kinds.append(found.pop())
    both, last = (True, True), kinds[-1]
    if last == both:
        return None
    order = sorted(range(len(kinds)), key=lambda d: (kinds[d] != both, kinds[d] == last))
    return None if order == list(range(len(kinds))) else tuple(order)
