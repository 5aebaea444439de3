"""Ends of operations: between those of numbers lies all that the operation makes, and expressions compute the same."""

from __future__ import annotations

from itertools import combinations_with_replacement, product

import numpy as np
import pytest

from irc.calls import contract
from irc.codegen.expr import Expr, integer, op
from irc.export import checks
from irc.graph.interpret import evaluate, grid

PARTS = {"add": 2, "sub": 2, "mul": 2, "floordiv": 2, "mod": 2, "min": 2, "max": 2, "neg": 1, "abs": 1, "clamp": 3}
ENDS = list(combinations_with_replacement((-7, -2, 0, 1, 5), 2))


def value(expr: Expr) -> int:
    return int(evaluate(expr, grid((), {}, {})))


@pytest.mark.parametrize("name", PARTS)
def test_all_that_an_operation_makes_lies_between_its_ends(name: str) -> None:
    divides = name in ("floordiv", "mod")
    for parts in product(ENDS, repeat=PARTS[name]):
        if divides and parts[1][0] < 1:
            continue
        low, high = contract._operate(name, [(float(a), float(b)) for a, b in parts])
        inside = [range(a, b + 1) for a, b in parts]
        if name == "clamp":  # to bounds in their order
            inside = [inside[0], *(range(a, b + 1, max(1, b - a)) for a, b in parts[1:])]
        made = [value(op(name, *map(integer, at))) for at in product(*inside) if name != "clamp" or at[1] <= at[2]]
        assert not made or low <= min(made) <= max(made) <= high, parts
        ends = checks._operate(name, [(integer(a), integer(b)) for a, b in parts])
        assert ends is not None and tuple(map(value, ends)) == (low, high), parts


def test_ends_that_are_not_known() -> None:
    unknown = contract.EVERYTHING
    assert contract._operate("floordiv", [unknown, (2.0, 3.0)]) == unknown
    assert contract._operate("mul", [(0.0, 0.0), unknown]) == (0.0, 0.0)
    assert contract._operate("mod", [unknown, (3.0, 5.0)]) == (0.0, 4.0)
    assert contract._operate("floordiv", [(1.0, 2.0), (-1.0, 3.0)]) == unknown
    assert not np.isnan(contract._operate("flat", [unknown, (0.0, 0.0), (0.0, 3.0), (4.0, 4.0)])).any()
