"""What pairs choose by how far apart they are, as operands of products.

`r[h, max(i - j, 0), c]`, the vector of a distance (Shaw, Uszkoreit and Vaswani 2018; Dai, Yang and others 2019), is one
for each pair, but a tile of 256 by 256 pairs has 511 distances. With a panel that has a row for each of these, products
of queries with them are dots of two panels; sums of them over keys, and the gradients of the vectors, are products of a
tile and a panel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial, reduce

from irc.codegen.expr import (
    COMPARISON,
    Axis,
    Const,
    Expr,
    Index,
    Kind,
    Load,
    Local,
    Op,
    indices,
    integer,
    loads,
    op,
    rebuild,
    substitute,
)
from irc.codegen.kernel import DISTANCE
from irc.graph.ir import Graph, Map, Node, Reduce, own_element, shape
from irc.graph.size import expression, polynomial
from irc.passes.simplify import add_all, addends, factors, times_all

LINEAR = ("add", "sub", "mul", "neg")
AXIS = "distance."


def of_distance(expr: Expr, rows: tuple[Axis, ...], columns: tuple[Axis, ...]) -> Expr | None:
    """The expression of DISTANCE, if it reads a row and a column through their distance alone."""
    return of_distances(expr, rows, columns, (DISTANCE,))


def of_distances(
    expr: Expr, rows: tuple[Axis, ...], columns: tuple[Axis, ...], distances: tuple[Index, ...]
) -> Expr | None:
    """The expression of these distances, one for each axis of both sides, if it reads rows and columns through them
    alone."""
    if not len(rows) == len(columns) == len(distances):
        return None
    at: dict[Expr, Expr] = {
        row.index: op("add", column.index, distance)
        for row, column, distance in zip(rows, columns, distances, strict=True)
    }
    moved = reduced(substitute(expr, at))
    return None if indices(moved) & {a.name for a in (*rows, *columns)} else moved


def reduced(expr: Expr) -> Expr:
    """The expression with its sums of integers in canonical form, in which a column that is added and subtracted again
    does not stand."""
    match expr:
        case Load(tensor, at, kind):
            return Load(tensor, tuple(map(reduced, at)), kind)
        case Op(name, (x, y)) if name in COMPARISON and x.kind is Kind.INT:
            return op(name, difference(x, y), integer(0))
        case Op(name) if name in LINEAR and expr.kind is Kind.INT:
            return _sum(expr)
        case Op(name, args):
            return op(name, *map(reduced, args))
    return expr


def _sum(expr: Expr) -> Expr:
    """Of a linear integer expression, whatever stands in it."""
    atoms: dict[Expr, Expr] = {}

    def atom(part: Expr) -> Expr | None:
        if isinstance(part, Load) or (isinstance(part, Op) and part.name not in LINEAR):
            return atoms.setdefault(reduced(part), Local(f"atom {len(atoms)}", Kind.INT))
        return None

    made = expression(polynomial(rebuild(expr, atom), {}))
    return substitute(made, {local: part for part, local in atoms.items()})


def difference(x: Expr, y: Expr) -> Expr:
    """x - y of integers, in canonical form."""
    return _sum(op("sub", x, y))


def distance_axis(row: Axis, column: Axis, margin: int = 0) -> tuple[Axis, Expr]:
    """An axis with a point for each distance that a pair may have, and `margin` more at both ends; and the point of
    distance 0."""
    last = op("sub", column.size, integer(1))
    distances = op("max", op("add", row.size, last), integer(0))
    return Axis(AXIS, op("add", distances, integer(2 * margin))), op("add", last, integer(margin))


def distance_tables(graph: Graph) -> frozenset[str]:
    """Tensors with an element for each distance."""
    return frozenset(n.name for n in graph if isinstance(n, Map | Reduce) and n.axes and n.axes[-1].name == AXIS)


def is_told(expr: Expr, node: Reduce) -> bool:
    """Whether the expression, in a sum of tile values, is one of a row and a column and told by their distance."""
    rows, columns = (tuple(a for a in (*node.axes, *node.over) if a.role == role) for role in ("row", "column"))
    of_both = all(indices(expr) & {a.name for a in side} for side in (rows, columns))
    return of_both and of_distance(expr, rows, columns) is not None


def is_chosen(expr: Expr, node: Reduce) -> bool:
    """Whether the expression, in a sum of tile values, reads an element of a table that row and column choose, or what
    each pair has for several points of the batch together."""
    rows, columns = ({a.name for a in (*node.axes, *node.over) if a.role == role} for role in ("row", "column"))
    if any(indices(index) & rows and indices(index) & columns for load in loads(expr) for index in load.indices):
        return True
    shared = {a.name for a in node.axes if not a.role} - indices(expr)
    return isinstance(expr, Load) and bool(shared and indices(expr) & rows and indices(expr) & columns)


def distributed(graph: Graph) -> Graph:
    """The graph in which sums of products with a sum that pairs choose in part, `q * (k + r)`, are sums of products."""
    nodes: list[Node] = []
    for node in graph:
        nodes += _terms(node) if isinstance(node, Reduce) and node.op == "sum" else (node,)
    return replace(graph, nodes=tuple(nodes))


def _terms(node: Reduce) -> tuple[Node, ...]:
    parts = factors(node.body)
    for at, part in enumerate(parts):
        terms = addends(part)
        if terms[1:] and any(is_told(term, node) or is_chosen(term, node) for term in terms):
            bodies = [times_all((*parts[:at], term, *parts[at + 1 :])) for term in terms]
            made = [replace(node, name=f"{node.name}.term{n}", body=b, groups=()) for n, b in enumerate(bodies)]
            total = add_all(map(own_element, made))
            return *made, Map(node.name, node.axes, total, groups=node.groups, span=node.span)
    return (node,)


def exists(expr: Expr, graph: Graph, distances: tuple[Index, ...] = (DISTANCE,)) -> Expr | None:
    """Where tables have what the expression reads of them at a distance; None for everywhere."""
    inner_first = tuple(reversed(loads(expr)))
    return all_of(inside(e.indices, shape(graph[e.tensor]), distance) for distance in distances for e in inner_first)


def inside(at: tuple[Expr, ...], dims: tuple[Expr, ...], distance: Index) -> Expr | None:
    """Whether the indices that read the distance lie in their dimensions; None where none does."""
    return all_of(
        op("and", op("le", integer(0), index), op("lt", index, size))
        for index, size in zip(at, dims, strict=True)
        if distance.name in indices(index)
    )


def there_are(axes: Iterable[Axis]) -> Expr | None:
    """Whether the axes have points; None where they always do."""
    return all_of(op("lt", integer(0), a.size) for a in axes if not isinstance(a.size, Const))


def all_of(conditions: Iterable[Expr | None]) -> Expr | None:
    found = [condition for condition in conditions if condition is not None]
    return reduce(partial(op, "and"), found) if found else None
