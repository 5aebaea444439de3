"""Every access in bounds: proved for all sizes, or refused, or left to a check at each call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from irc.codegen.expr import Axis, Expr, Index, Load, Op, Size, indices, loads
from irc.elaborate.bounds import Bounds, Range, below
from irc.elaborate.scope import Scope
from irc.grammar.diagnostic import Note
from irc.grammar.source import Span
from irc.graph.ir import Graph, Map, Node, Reduce, bodies, shape
from irc.graph.size import Polynomial, constant, expression, nonnegative, polynomial, text
from irc.proof.flow import inline

ONE = constant(1)
Accesses = tuple[tuple[Load, tuple[Axis, ...]], ...]


@dataclass(frozen=True, slots=True)
class Place:
    """One index of an access, written by what arguments hold, for all points of the axes of its reader; `graph` has the
    facts that may be used."""

    load: Load
    dim: int
    index: Expr
    size: Expr
    axes: tuple[Axis, ...]
    span: Span | None
    graph: Graph


def check_accesses(scope: Scope) -> Accesses:
    """The accesses that only a call can check, each with the axes that it reads."""
    graph = scope.graph()
    shapes = {node.name: shape(node) for node in graph}
    left: dict[tuple[Load, tuple[Axis, ...]], None] = {}
    bounds = Bounds(scope.sizes, graph.facts)
    readers = [(node_axes(n), bodies(n), n.span, graph, bounds) for n in graph]
    for number, fact in enumerate(graph.facts):  # facts are checked in their order, so each may use the earlier ones
        known = replace(graph, facts=graph.facts[:number])
        readers.append((fact.free, (fact.predicate,), fact.span, known, Bounds(scope.sizes, known.facts)))
    readers += [(axes, (argument,), span, graph, bounds) for axes, argument, span in promised(scope)]
    for axes, expressions, span, known, bounds in readers:
        extents = {a.name: a.size for a in axes}
        for load in dict.fromkeys(found for e in expressions for found in loads(e)):
            read = Load(load.tensor, tuple(inline(i, graph) for i in load.indices), load.kind)
            for dim, (index, size) in enumerate(zip(read.indices, shapes[load.tensor], strict=True)):
                if isinstance(index, Index) and scope.same(extents[index.name], size):
                    continue
                if not _proved(Place(load, dim, index, size, axes, span, known), bounds, scope):
                    left[(read, tuple(a for a in axes if a.name in indices(read)))] = None
    return tuple(left)


def promised(scope: Scope) -> Iterator[tuple[tuple[Axis, ...], Expr, Span | None]]:
    """The argument of each `ensure` that has one, with the axes of the core that it speaks of."""
    for promise in scope.properties:
        if promise.argument is not None:
            core = next((c for c in scope.cores if c.name == promise.core), None)
            yield () if core is None else core.batch + core.rows + core.columns, promise.argument, promise.span


def node_axes(node: Node) -> tuple[Axis, ...]:
    match node:
        case Map():
            return node.axes
        case Reduce():
            return (*node.axes, *node.over)
        case _:
            return ()


def _proved(place: Place, bounds: Bounds, scope: Scope) -> bool:
    """Whether 0 <= index < size, by the bounds of polynomials or else by z3; reports an index that is out of range
    whatever the sizes (from 2 on) are."""
    found = bounds.range(place.index, {a.name: a.size for a in place.axes})
    last = polynomial(place.size, bounds.sizes) - ONE
    if any(nonnegative(x) for x in found.low) and any(below(x, last) for x in found.high):
        return True
    # Here, because few programs come this far, and z3 takes longer to import than most programs take to build.
    from irc.proof.inside import is_within, out_of_axis

    which = f"index {place.dim + 1} of `{place.load.tensor}`"
    how = _outside(found, last) if found.exact else None
    if how is None or place.span is None:
        inside = is_within(place.index, place.size, place.axes, place.graph)
        if not inside and _unheld(place.index) and place.span is not None:
            scope.report.error(
                "E214",
                f"{which} comes from a float, and nothing holds it within the axis of size {text(place.size)}",
                scope.places.get(place.load, place.span),
                help=f"write `clamp(…, 0, {_shown(last)})`: floats are rounded, and no assumption bounds them",
            )
        return inside
    seen = out_of_axis(place.index, place.size, place.axes, place.graph)
    of_size = isinstance(place.index, Size)
    held = f"its elements are at `0` to `{_shown(last)}`"
    own = "an index has a name of its own, as `b` for the size `B`" if of_size else held
    scope.report.error(
        "E212",
        f"table access out of range: {which} {how}, and the axis has size {text(place.size)}",
        scope.places.get(place.load, place.span),
        () if seen is None else (Note(seen),),
        help=own if how.startswith("is") else "shift it (`i - j + N - 1`), or bound it with `clamp(x, low, high)`",
    )
    return False


def _unheld(e: Expr) -> bool:
    """Whether a floor of floats tells the index, and nothing holds it: what does, a call can check."""
    match e:
        case Op("clamp", (_, low, high), _):
            return _unheld(low) or _unheld(high)
        case Op("min", (Op("max", (a, b), _), c), _) | Op("max", (Op("min", (a, b), _), c), _):
            return (_unheld(a) and _unheld(b)) or _unheld(c)
        case Op("mod", (_, by), _):
            return _unheld(by)
        case Op(_, args, _):
            return e.name == "floor" or any(_unheld(a) for a in args)
        case _:
            return False


def _outside(found: Range, last: Polynomial) -> str | None:
    """How the index leaves its axis for all sizes from 2 on; None where it need not."""
    low, high = found.low[0], found.high[0]
    if low == high and (_negative(low) or nonnegative(high - last - ONE)):
        return f"is {_shown(low)}"
    if _negative(low):
        return f"goes down to {_shown(low)}"
    return f"goes up to {_shown(high)}" if nonnegative(high - last - ONE, least=2) else None


def _negative(p: Polynomial) -> bool:
    return nonnegative(constant(-1) - p, least=2)


def _shown(p: Polynomial) -> str:
    return text(expression(p))
