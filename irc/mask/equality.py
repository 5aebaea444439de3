"""What follows in a conjunction from `x == y`: other parts with x in place of y, where terms cancel then.

`entry[i] == entry[j]` makes `i - start[entry[i]] < j - start[entry[j]]` the same as `i < j`, which bounds a walk.
"""

from __future__ import annotations

from irc.codegen.expr import Expr, Kind, Op, is_lookup, substitute
from irc.mask.linear import linear


def implied(parts: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """Further comparisons that hold wherever all parts do, each shorter than the part that it comes from."""
    found: list[Expr] = []
    for equation in parts:
        match equation:
            case Op("eq", (x, y), _) if x.kind is Kind.INT and is_lookup(x) and is_lookup(y):
                replaced = [(part, substitute(part, {y: x})) for part in parts if part is not equation]
                found += [new for part, new in replaced if _terms(new) < _terms(part)]
    return tuple(dict.fromkeys(found))


def _terms(part: Expr) -> int:
    match part:
        case Op("lt" | "le" | "eq", (x, y), _) if x.kind is Kind.INT:
            return len(linear(x).minus(linear(y)).terms)
    return 0
