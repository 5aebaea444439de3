"""The nodes of an attention core, once its expressions are known. Nothing in them is shaped like attention."""

from __future__ import annotations

from dataclasses import dataclass, replace

from irc.codegen.expr import Axis, Expr, loads, op, substitute, walk
from irc.elaborate.weights import NORMALISERS, WEIGHT
from irc.grammar.source import Span
from irc.graph.ir import Map, Reduce, own_element


@dataclass(frozen=True, slots=True)
class Statistic:
    """A row statistic asked for: logsumexp, max, argmax or entropy, under a name, its axes in the order written."""

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
    normaliser: str
    weights: tuple[Expr, ...]
    weighted: Expr
    statistics: tuple[Statistic, ...]
    span: Span


def core_nodes(parts: Parts, reductions: list[Reduce]) -> tuple[list[Map | Reduce], Expr]:
    """`reductions`, which the expressions read, then logit (unless the score is one of them), row statistics, weights,
    output and further statistics; and what the values are multiplied by."""
    waiting = _of_weights(reductions)
    nodes: list[Map | Reduce] = [r for r in reductions if r not in waiting]
    name, pair, allow, span = parts.name, parts.rows + parts.keys, parts.allow, parts.span
    rule, logit = NORMALISERS[parts.normaliser], parts.logit
    if logit not in [own_element(r) for r in reductions if r.axes == pair]:
        nodes.append(Map(f"{name}.logit", pair, logit, span=span))
        logit = own_element(nodes[-1])

    def row_sum(suffix: str, body: Expr) -> Reduce:
        return Reduce(f"{name}.{suffix}", parts.rows, parts.keys, "sum", body, allow, span=span)

    asked = lse = None
    if rule.statistic is not None:
        asked = next((s for s in parts.statistics if s.function == rule.statistic), None)
        own = asked or Statistic(rule.statistic, f"{name}.lse", parts.rows, (), span)
        lse = Reduce(own.name, own.axes, parts.keys, rule.statistic, logit, allow, parts.sink, own.groups, span=span)
        nodes.append(lse)
    weight = Map(f"{name}.weight", pair, rule.weight(logit, own_element(lse) if lse else logit), allow, span=span)
    nodes.append(weight)
    divisor = None
    if rule.divisor is not None:
        nodes.append(row_sum("total", own_element(weight)))
        divisor = rule.divisor(own_element(nodes[-1]))
    last: Expr = own_element(weight)
    for number, body in enumerate(parts.weights, 2):
        if divisor is not None:
            last, divisor = op("div", last, divisor), None
        made = [replace(r, body=substitute(r.body, {WEIGHT: last}), where=allow) for r in _read(body, waiting)]
        nodes += [*made, Map(f"{name}.weight{number}", pair, substitute(body, {WEIGHT: last}), allow, span=span)]
        last = own_element(nodes[-1])
    body = op("mul", last, parts.weighted)
    if divisor is None:
        nodes.append(Reduce(name, parts.axes, parts.keys, "sum", body, allow, groups=parts.groups, span=span))
    else:
        total = Reduce(f"{name}.sum", parts.axes, parts.keys, "sum", body, allow, span=span)
        whole = op("div", own_element(total), divisor)
        nodes += [total, Map(name, parts.axes, whole, groups=parts.groups, span=span)]
    further = [s for s in parts.statistics if s is not asked]
    nodes += [_statistic(s, parts, logit, lse, weight) for s in further]
    return nodes, last if divisor is None else op("div", last, divisor)


def _of_weights(reductions: list[Reduce]) -> list[Reduce]:
    """Those that a `map` of the weight sums, which read the weight or each other."""
    found: list[Reduce] = []
    for node in reductions:
        if WEIGHT in walk(node.body) or {r.name for r in found} & {load.tensor for load in loads(node.body)}:
            found.append(node)
    return found


def _read(body: Expr, waiting: list[Reduce]) -> list[Reduce]:
    """Of these what the expression reads, directly and through each other, in their order."""
    names = {load.tensor for load in loads(body)}
    for node in reversed(waiting):
        if node.name in names:
            names |= {load.tensor for load in loads(node.body)}
    return [node for node in waiting if node.name in names]


def _statistic(s: Statistic, parts: Parts, logit: Expr, lse: Reduce | None, weight: Map) -> Map | Reduce:
    match s.function:
        case "max" | "argmax" as function:
            return Reduce(s.name, s.axes, parts.keys, function, logit, parts.allow, groups=s.groups, span=s.span)
        case _ if lse is None:
            raise AssertionError(f"{s.function} of weights that have no logsumexp")
        case "entropy":
            body = op("mul", own_element(weight), op("sub", own_element(lse), logit))
            return Reduce(s.name, s.axes, parts.keys, "sum", body, parts.allow, groups=s.groups, span=s.span)
        case _:
            return Map(s.name, s.axes, own_element(lse), groups=s.groups, span=s.span)
