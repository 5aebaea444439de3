"""Divisors of `//` and `%`: proved to be at least 1, or an assumption that every call checks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from irc.codegen.expr import Axis, Const, Expr, Index, Load, Op, indices, integer, loads, op, walk
from irc.elaborate.access import node_axes, promised
from irc.elaborate.bounds import Bounds, from_zero, possibly_zero, told_by_floats
from irc.elaborate.scope import Scope
from irc.grammar.diagnostic import Note
from irc.grammar.source import Span
from irc.graph.ir import Fact, Graph, Map, Reduce, bodies
from irc.graph.size import constant, nonnegative, text
from irc.proof.flow import inline


def assumed_divisors(scope: Scope) -> tuple[Fact, ...]:
    """A fact `divisor >= 1` for each divisor of which that is not plain; an error where it cannot be."""
    graph = scope.graph()
    found: dict[Expr, Fact] = {}
    for node in scope.nodes:
        if not isinstance(node, Map | Reduce) or node.span is None:
            continue
        axes = node_axes(node)
        for divisor in _divisors(bodies(node), graph):
            if divisor not in found:
                fact = _fact(divisor, axes, graph, scope, node.span)
                if fact is not None:
                    found[divisor] = fact
    for number, fact in enumerate(scope.facts):  # each may use the earlier ones
        _check_moving((fact.predicate,), fact.free, replace(graph, facts=graph.facts[:number]), scope, fact.span)
    for axes, argument, span in promised(scope):
        _check_moving((argument,), axes, graph, scope, span)
    return tuple(found.values())


def _divisors(exprs: Iterable[Expr], graph: Graph) -> tuple[Expr, ...]:
    """Each divisor once, written by what arguments hold."""
    parts = (part for e in exprs for part in walk(e))
    found = (e.args[1] for e in parts if isinstance(e, Op) and e.name in ("floordiv", "mod"))
    return tuple(dict.fromkeys(inline(e, graph) for e in found))


def _check_moving(
    exprs: tuple[Expr, ...], axes: tuple[Axis, ...], graph: Graph, scope: Scope, span: Span | None
) -> None:
    """What is assumed and promised divides by numbers that are at least 1 for every value of its indices."""
    for divisor in _divisors(exprs, graph):
        if (_moves(divisor) or isinstance(divisor, Const)) and span is not None:
            _fact(divisor, axes, graph, scope, span)


def check_constants(value: Expr, scope: Scope, span: Span) -> None:
    """That the numbers by which a size is divided are at least 1."""
    for part in walk(value):
        if isinstance(part, Op) and part.name in ("floordiv", "mod"):
            _is_too_small(part.args[1], scope, span)


def _is_too_small(divisor: Expr, scope: Scope, span: Span) -> bool:
    """Whether the divisor is a number below 1, which is an error."""
    if not isinstance(divisor, Const) or divisor.value >= 1:
        return False
    scope.report.error(
        "E213",
        f"the divisor `{text(divisor)}` is not at least 1",
        scope.divisors.get(divisor, span),
        help="divide by a positive number: `x // -2` is `-x // 2`",
    )
    return True


def _fact(divisor: Expr, axes: tuple[Axis, ...], graph: Graph, scope: Scope, span: Span) -> Fact | None:
    if _is_too_small(divisor, scope, span):
        return None
    names = possibly_zero((divisor,), axes, scope.sizes, graph.facts)
    bounds = Bounds(from_zero(scope.sizes, names), graph.facts)
    if any(nonnegative(x - constant(1)) for x in bounds.range(divisor, {a.name: a.size for a in axes}).low):
        return None
    inputs = {n.name for n in graph.inputs}
    if _moves(divisor) or told_by_floats(divisor) or any(x.tensor not in inputs for x in loads(divisor)):
        from irc.proof.inside import is_positive, not_positive

        if not is_positive(divisor, axes, graph):
            seen = not_positive(divisor, axes, graph)
            scope.report.error(
                "E213",
                f"the divisor `{text(divisor)}` is not at least 1 for every value of its indices",
                scope.divisors.get(divisor, span),
                () if seen is None else (Note(seen),),
                help="bound it, as in `max(x, 1)`",
            )
        return None
    free = tuple(a for a in axes if a.name in indices(divisor))
    return Fact(op("le", integer(1), divisor), free, f"{_written(divisor)} >= 1 (a divisor)", span=span)


def _moves(e: Expr) -> bool:
    """Whether an index stands in it as a number."""
    match e:
        case Index():
            return True
        case Op(_, args, _):
            return any(_moves(a) for a in args)
        case _:
            return False


def _written(e: Expr) -> str:
    match e:
        case Load(tensor, (), _):
            return tensor
        case Load(tensor, items, _):
            return f"{tensor}[{', '.join(_written(i) for i in items)}]"
        case _:
            return text(e)
