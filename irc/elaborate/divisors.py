"""Divisors of `//` and `%`: proved to be at least 1, or an assumption that every call checks."""

from __future__ import annotations

from irc.codegen.expr import Axis, Expr, Index, Load, Op, indices, integer, op, walk
from irc.elaborate.access import node_axes
from irc.elaborate.bounds import Bounds, told_by_floats
from irc.elaborate.scope import Scope
from irc.grammar.diagnostic import Note
from irc.grammar.source import Span
from irc.ir import Fact, Map, Reduce, bodies
from irc.size import constant, nonnegative, text


def assumed_divisors(scope: Scope) -> tuple[Fact, ...]:
    """A fact `divisor >= 1` for each divisor of which that is not plain; an error where it cannot be."""
    bounds = Bounds(scope.sizes, tuple(scope.facts))
    found: dict[Expr, Fact] = {}
    for node in scope.nodes:
        if not isinstance(node, Map | Reduce) or node.span is None:
            continue
        axes = {a.name: a for a in node_axes(node)}
        for e in (part for body in bodies(node) for part in walk(body)):
            if isinstance(e, Op) and e.name in ("floordiv", "mod") and e.args[1] not in found:
                fact = _fact(e.args[1], axes, bounds, scope, node.span)
                if fact is not None:
                    found[e.args[1]] = fact
    return tuple(found.values())


def _fact(divisor: Expr, axes: dict[str, Axis], bounds: Bounds, scope: Scope, span: Span) -> Fact | None:
    extents = {name: a.size for name, a in axes.items()}
    if any(nonnegative(x - constant(1)) for x in bounds.range(divisor, extents).low):
        return None
    if _moves(divisor) or told_by_floats(divisor):
        from irc.proof.inside import is_positive, not_positive

        free, graph = tuple(axes.values()), scope.graph()
        if not is_positive(divisor, free, graph):
            seen = not_positive(divisor, free, graph)
            scope.report.error(
                "E213",
                f"the divisor `{text(divisor)}` is not at least 1 for every value of its indices",
                scope.divisors.get(divisor, span),
                () if seen is None else (Note(seen),),
                help="bound it, as in `max(x, 1)`",
            )
        return None
    free = tuple(a for name, a in axes.items() if name in indices(divisor))
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
