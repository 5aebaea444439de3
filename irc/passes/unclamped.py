"""Places that are held within an axis, `q[max(i - u, 0)]`, without that where a condition around them says that they
are inside: what is read moves evenly through memory then. Of loops alone, which read nothing where a condition
fails."""

from __future__ import annotations

from irc.codegen.expr import Expr, Kind, Op, conjuncts, op, rebuild
from irc.passes.gathers import is_held


def unclamped(expr: Expr, where: Expr | None) -> Expr:
    """The expression, evaluated where `where` holds."""
    return _unclamped(expr, () if where is None else conjuncts(where))


def _unclamped(expr: Expr, known: tuple[Expr, ...]) -> Expr:
    def free(part: Expr) -> Expr | None:
        match part:
            case Op("where", (condition, x, y), _):
                within = _unclamped(x, (*known, *conjuncts(condition)))
                return op("where", _unclamped(condition, known), within, _unclamped(y, known))
            case Op("max" | "min" as name, (x, end), Kind.INT) if is_held(name, x, end, known):
                return _unclamped(x, known)
            case Op("clamp", (x, low, high), Kind.INT):
                if is_held("max", x, low, known) and is_held("min", x, high, known):
                    return _unclamped(x, known)
        return None

    return rebuild(expr, free)
