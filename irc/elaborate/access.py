"""Every access in bounds: proved for all sizes, or refused, or left to a check at each call."""

from __future__ import annotations

from irc.codegen.expr import Axis, Expr, Index, Load, indices, loads
from irc.elaborate.bounds import Bounds, below
from irc.elaborate.scope import Scope
from irc.grammar.source import Span
from irc.ir import Map, Node, Reduce, bodies, shape
from irc.size import Polynomial, constant, expression, nonnegative, polynomial, text

ONE = constant(1)
Accesses = tuple[tuple[Load, tuple[Axis, ...]], ...]


def check_accesses(scope: Scope) -> Accesses:
    """The accesses that only a call can check, each with the axes that it reads."""
    bounds = Bounds(scope.sizes, tuple(scope.facts))
    shapes = {node.name: shape(node) for node in scope.nodes}
    left: dict[tuple[Load, tuple[Axis, ...]], None] = {}
    readers = [(node_axes(n), bodies(n), n.span) for n in scope.nodes]
    readers += [(fact.free, (fact.predicate,), fact.span) for fact in scope.facts]
    for free, expressions, span in readers:
        axes = {a.name: a for a in free}
        extents = {name: a.size for name, a in axes.items()}
        for load in dict.fromkeys(found for e in expressions for found in loads(e)):
            for k, (index, size) in enumerate(zip(load.indices, shapes[load.tensor], strict=True)):
                if isinstance(index, Index) and scope.same(extents[index.name], size):
                    continue
                if not _proved(index, size, extents, bounds, scope, load, k, span):
                    used = tuple(a for n, a in axes.items() if n in indices(load))
                    left[(load, used)] = None
    return tuple(left)


def node_axes(node: Node) -> tuple[Axis, ...]:
    match node:
        case Map():
            return node.axes
        case Reduce():
            return (*node.axes, *node.over)
        case _:
            return ()


def _proved(
    index: Expr,
    size: Expr,
    extents: dict[str, Expr],
    bounds: Bounds,
    scope: Scope,
    load: Load,
    dim: int,
    span: Span | None,
) -> bool:
    """Whether 0 <= index < size is plain; reports an index that is out of range whatever the sizes (from 2 on) are."""
    found = bounds.range(index, extents)
    last = polynomial(size, bounds.sizes) - ONE
    fits = any(nonnegative(x) for x in found.low) and any(below(x, last) for x in found.high)
    if fits or not found.exact or span is None:
        return fits
    low, high = found.low[0], found.high[0]
    if low == high and (_negative(low) or nonnegative(high - last - ONE)):
        _refuse(scope, load, dim, span, f"is {_shown(low)}", size)
    elif _negative(low):
        _refuse(scope, load, dim, span, f"goes down to {_shown(low)}", size)
    elif nonnegative(high - last - ONE, least=2):
        _refuse(scope, load, dim, span, f"goes up to {_shown(high)}", size)
    return False


def _negative(p: Polynomial) -> bool:
    return nonnegative(constant(-1) - p, least=2)


def _shown(p: Polynomial) -> str:
    return text(expression(p))


def _refuse(scope: Scope, load: Load, dim: int, span: Span, how: str, size: Expr) -> None:
    place = scope.places.get(load, span)
    scope.report.error(
        "E212",
        f"table access out of range: index {dim + 1} of `{load.tensor}` {how}, and the axis has size {text(size)}",
        place,
        help=None if how.startswith("is") else "shift it (`i - j + N - 1`), or bound it with `clamp(x, low, high)`",
    )
