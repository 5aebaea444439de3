"""Of several claims those that say something, each once."""

from __future__ import annotations

from irc.codegen.expr import Expr, Op
from irc.proof.claim import Claim
from irc.proof.flow import conjuncts


def distinct(found: list[Claim]) -> tuple[Claim, ...]:
    """One that holds under fewer conditions stands for those that assume more."""
    telling = [(c, frozenset(conjuncts(c.given))) for c in found if not _plain(c.goal)]
    kept: list[tuple[Claim, frozenset[Expr]]] = []
    for c, given in sorted(telling, key=lambda pair: len(pair[1])):
        if not any(k.goal == c.goal and set(k.free) <= set(c.free) and known <= given for k, known in kept):
            kept.append((c, given))
    return tuple(c for c, _ in kept)


def _plain(goal: Expr) -> bool:
    """Whether the goal says x <= x or x == x."""
    return isinstance(goal, Op) and goal.name in ("le", "eq") and goal.args[0] == goal.args[1]
