"""Accesses and divisors: an index within its axis and a divisor at least 1, at every point of the axes that read it.

Kernels rely on what is proved here, so floats are not taken for real numbers: a `floor` may have any value, within
bounds that allow for rounding, and a comparison of floats either; and facts about floats count for nothing, since a
host checks them in double and kernels round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from irc.codegen.expr import Axis, Expr, Load, Op, indices, integer, op, rebuild
from irc.elaborate.bounds import Bounds, of_floats, told_by_floats
from irc.graph.interpret import Grid, evaluate
from irc.graph.ir import Graph
from irc.graph.printer import expression
from irc.graph.size import size_names
from irc.proof.claim import Claim, Model
from irc.proof.decide import decide, is_proved


def within_axis(index: Expr, size: Expr, axes: Sequence[Axis]) -> Claim:
    """That 0 <= index < size."""
    inside = op("and", op("le", integer(0), index), op("lt", index, size))
    return Claim(f"`{expression(index)}` lies within its axis", tuple(axes), inside)


def positive(divisor: Expr, axes: Sequence[Axis]) -> Claim:
    """That a divisor is at least 1."""
    return Claim(f"`{expression(divisor)}` is at least 1", tuple(axes), op("le", integer(1), divisor))


def is_within(index: Expr, size: Expr, axes: Sequence[Axis], graph: Graph) -> bool:
    return _is_proved(within_axis(index, size, axes), graph)


def is_positive(divisor: Expr, axes: Sequence[Axis], graph: Graph) -> bool:
    return _is_proved(positive(divisor, axes), graph)


def _is_proved(claim: Claim, graph: Graph) -> bool:
    exact = tuple(f for f in graph.facts if not told_by_floats(f.predicate))
    bounds, extents = Bounds(dict(graph.sizes), exact), {a.name: a.size for a in claim.free}

    def unknown(part: Expr) -> Expr | None:
        """An unknown for each expression that makes something of floats; what is around it still bounds it."""
        if not of_floats(part):
            return None
        value = Load(repr(part), (), part.kind)
        ends = bounds.rounded_down(part.args[0], extents) if isinstance(part, Op) and part.name == "floor" else None
        return value if ends is None else op("clamp", value, *map(integer, ends))

    return is_proved(replace(claim, goal=rebuild(claim.goal, unknown)), replace(graph, facts=exact))


def out_of_axis(index: Expr, size: Expr, axes: Sequence[Axis], graph: Graph) -> str | None:
    """Where the index leaves its axis in the smallest state: `i - j` is -1 with S = 2, i = 0, j = 1."""
    claim = within_axis(index, size, axes)
    model = decide(claim, graph).model
    if model is None or not indices(index):
        return None
    value, entries = _value(index, model), _value(size, model)
    written = "1 entry" if entries == 1 else f"{entries} entries"
    return f"with {_named(claim, model)} it is {value}, and the axis has {written}"


def not_positive(divisor: Expr, axes: Sequence[Axis], graph: Graph) -> str | None:
    """Where the divisor is below 1 in the smallest state."""
    claim = positive(divisor, axes)
    model = decide(claim, graph).model
    return None if model is None else f"with {_named(claim, model)} it is {_value(divisor, model)}"


def _named(claim: Claim, model: Model) -> str:
    """Sizes and indices on which it depends."""
    sizes = size_names((claim.goal,))
    used = {n: v for n, v in model.indices.items() if n in indices(claim.goal)}
    return ", ".join(f"{n} = {v}" for n, v in [*((n, model.sizes[n]) for n in sizes), *used.items()])


def _value(value: Expr, model: Model) -> int:
    ranges = tuple(range(v, v + 1) for v in model.indices.values())
    values = {**model.tables, **{n: np.asarray(v) for n, v in model.scalars.items()}}
    return int(evaluate(value, Grid(tuple(model.indices), model.sizes, values, ranges)).item())
