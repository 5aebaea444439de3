"""Expressions in one state of a program."""

from __future__ import annotations

from typing import Any

import numpy as np

from irc.codegen.expr import Axis, Expr, indices
from irc.graph.interpret import Grid, complete_sizes, evaluate, size_value
from irc.graph.ir import Graph
from irc.proof.claim import Array, Model
from irc.show.plot import inlined


def over(expr: Expr, axes: tuple[Axis, ...], graph: Graph, model: Model) -> Array:
    """The expression at every point of the axes, another index being where the model has it, else 0.

    Raises KeyError where it reads what the model leaves out, IndexError where an access leaves its tensor.
    """
    expr, sizes = inlined(graph, expr), complete_sizes(graph, model.sizes)
    values = model.tables | {name: np.asarray(value) for name, value in model.scalars.items()}
    spans = {a.name: range(size_value(a.size, sizes)) for a in axes}
    others = sorted((indices(expr) | model.indices.keys()) - spans.keys())
    points = {name: range(at, at + 1) for name, at in ((name, model.indices.get(name, 0)) for name in others)}
    grid = Grid((*spans, *points), sizes, values, (*spans.values(), *points.values()))
    return np.broadcast_to(evaluate(expr, grid), grid.shape).reshape([len(s) for s in spans.values()])


def value(expr: Expr, graph: Graph, model: Model) -> Any:
    """The expression at the indices of the model."""
    return over(expr, (), graph, model).item()
