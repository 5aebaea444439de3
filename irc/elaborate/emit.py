"""The nodes of an attention core, once its expressions are known. Nothing in them is shaped like attention."""

from __future__ import annotations

from dataclasses import dataclass

from irc.codegen.expr import Axis, Expr, op
from irc.grammar.source import Span
from irc.ir import Map, Reduce, own_element


@dataclass(frozen=True, slots=True)
class Statistic:
    """A row statistic asked for: logsumexp, max or entropy, under a name, its axes in the order written."""

    function: str
    name: str
    axes: tuple[Axis, ...]
    groups: tuple[int, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Parts:
    """What the stages of a core came to. `rows` are the axes of a row of the score: batch, heads and query."""

    name: str
    axes: tuple[Axis, ...]
    groups: tuple[int, ...]
    rows: tuple[Axis, ...]
    keys: tuple[Axis, ...]
    logit: Expr
    allow: Expr | None
    sink: Expr | None
    weighted: Expr
    statistics: tuple[Statistic, ...]
    span: Span


def core_nodes(parts: Parts, reductions: list[Reduce]) -> list[Map | Reduce]:
    """`reductions`, which the expressions read, then logit (unless the score is one of them), logsumexp, weight,
    output and further statistics."""
    nodes: list[Map | Reduce] = list(reductions)
    name, pair, allow, span = parts.name, parts.rows + parts.keys, parts.allow, parts.span
    logit = parts.logit
    if logit not in [own_element(r) for r in reductions if r.axes == pair]:
        nodes.append(Map(f"{name}.logit", pair, logit, span=span))
        logit = own_element(nodes[-1])
    asked = next((s for s in parts.statistics if s.function == "logsumexp"), None)
    own = asked or Statistic("logsumexp", f"{name}.lse", parts.rows, (), span)
    lse = Reduce(own.name, own.axes, parts.keys, "logsumexp", logit, allow, parts.sink, own.groups, span=span)
    weight = Map(f"{name}.weight", pair, op("exp", op("sub", logit, own_element(lse))), allow, span=span)
    body = op("mul", own_element(weight), parts.weighted)
    output = Reduce(name, parts.axes, parts.keys, "sum", body, allow, groups=parts.groups, span=span)
    further = [s for s in parts.statistics if s is not asked]
    return [*nodes, lse, weight, output, *(_statistic(s, parts, logit, lse, weight) for s in further)]


def _statistic(s: Statistic, parts: Parts, logit: Expr, lse: Reduce, weight: Map) -> Map | Reduce:
    match s.function:
        case "max":
            return Reduce(s.name, s.axes, parts.keys, "max", logit, parts.allow, groups=s.groups, span=s.span)
        case "entropy":
            body = op("mul", own_element(weight), op("sub", own_element(lse), logit))
            return Reduce(s.name, s.axes, parts.keys, "sum", body, parts.allow, groups=s.groups, span=s.span)
        case _:
            return Map(s.name, s.axes, own_element(lse), groups=s.groups, span=s.span)
