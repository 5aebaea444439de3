"""Why a property holds, and what happens in a counterexample, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from irc.codegen.expr import TRUE, Axis, Expr
from irc.elaborate.report import counted
from irc.interpret import Grid, complete_sizes, evaluate, size_value
from irc.ir import Core, Graph, Property
from irc.plot import inlined
from irc.printer import expression
from irc.proof.claim import Answer, Claim, Model
from irc.proof.mutation import written


def evidence(property: Property, decided: Sequence[tuple[Claim, Answer]]) -> str:
    """The sentence for a property that is proved."""
    match property.name:
        case "causal":
            return "no output reads an input at a later position than its own"
        case "window":
            assert property.argument is not None
            return f"no output reads an input {expression(property.argument)} or more positions before its own"
        case "rows nonempty":
            keys = dict.fromkeys((claim.core, answer.evidence) for claim, answer in decided)
            named = len(keys) > 1
            return "; ".join(f"in `{core}` a key is {key}" if named else f"a key is {key}" for core, key in keys)
        case "batch independent":
            return "no output entry reads another entry of an input"
    return "; ".join(dict.fromkeys(f"{c.about}{f' ({a.evidence})' if a.evidence else ''}" for c, a in decided))


def reason(graph: Graph, property: Property, claim: Claim, model: Model) -> str:
    """The sentence for a claim that the model refutes."""
    core = next((c for c in graph.cores if c.name == claim.core), None)
    if core is None or any(a.name not in model.indices for a in core.rows):
        return f"{claim.about} fails{_at(model)}"
    query = f"query {_point(core, core.rows, model)}"
    if property.name == "rows nonempty":
        return f"{query} has no key" + ("" if _keys(graph, core, model) else ", for there is none")
    if any(a.name not in model.indices for a in core.columns):
        return f"{claim.about} fails{_at(model)}"
    key = f"key {_point(core, core.columns, model)}"
    match property.name:
        case "causal" | "window":
            return f"{query} sees {key}{_distance(graph, core, model)}"
        case "allow":
            assert property.argument is not None
            wanted = written(property.argument, core)
            if _value(graph, core.support or TRUE, core, model):
                return f"{query} sees {key}, which `{wanted}` forbids"
            return f"{query} does not see {key}, which `{wanted}` allows"
    return f"{claim.about} fails{_at(model)}"


def _point(core: Core, axes: tuple[Axis, ...], model: Model) -> str:
    """`i = 0`, or `(yi xi) = (0 1)`."""
    values = [str(model.indices[a.name]) for a in axes]
    if len(axes) == 1:
        return f"{axes[0].name} = {values[0]}"
    return f"({' '.join(a.name for a in axes)}) = ({' '.join(values)})"


def _distance(graph: Graph, core: Core, model: Model) -> str:
    """How far the key lies from the query's position, along a single axis."""
    if len(core.position) != 1 or len(core.columns) != 1:
        return ""
    apart = model.indices[core.columns[0].name] - int(_value(graph, core.position[0], core, model))
    if apart == 0:
        return ", at its own position"
    return f", {counted(abs(apart), 'position', 'positions')} {'after' if apart > 0 else 'before'} its own"


def _keys(graph: Graph, core: Core, model: Model) -> bool:
    """Whether there is a key at all."""
    sizes = complete_sizes(graph, model.sizes)
    return all(size_value(a.size, sizes) > 0 for a in core.columns)


def _value(graph: Graph, expr: Expr, core: Core, model: Model) -> Any:
    """An expression at the pair of the model."""
    axes = (*core.batch, *core.rows, *core.columns)
    spans = tuple(range(p, p + 1) for p in (model.indices.get(a.name, 0) for a in axes))
    values = model.tables | {name: np.asarray(value) for name, value in model.scalars.items()}
    sizes = complete_sizes(graph, model.sizes)
    return evaluate(inlined(graph, expr), Grid(tuple(a.name for a in axes), sizes, values, spans)).item()


def _at(model: Model) -> str:
    listed = ", ".join(f"{name} = {value}" for name, value in model.indices.items())
    return f" at {listed}" if listed else ""
