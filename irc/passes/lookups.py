"""Products with what a pair looks up, made before it is looked up, or once what it is multiplied with has been summed.

`sum(c) q[i,c] * A[f(i,j),c]`, a query against the vector of a distance (Shaw, Uszkoreit and Vaswani 2018; He et al.
2021), is a product of 64 numbers for each pair, wherever the pair points. `T[i,r] = sum(c) q[i,c] * A[r,c]` is a matrix
product, and `T[i,f(i,j)]` one number for each pair. T is no table of pairs: it is made where A is short beside its own
vectors, and of sizes that no tokens have; or where a pair chooses by some of its key's indices alone, as by the row of
a pixel (Li et al. 2022, MViTv2). Values that pairs choose, `sum(j) w[i,j] * A[f(i,j),c]`, are a matrix product too, of
the weights summed by entry, if A is as short.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

from irc.codegen.expr import Axis, Expr, Index, Kind, Load, indices, op
from irc.graph.ir import Graph, Map, Node, Reduce, is_tile, shape
from irc.graph.size import size_names
from irc.passes.distances import is_told
from irc.passes.simplify import factors
from irc.passes.values import summed, weights_and_values
from irc.runtime.sizes import evaluate, with_defined

LONGEST = 8  # vectors of a table for each number in one


@dataclass(frozen=True, slots=True)
class Lookup:
    """A sum of products with `table`, of which a pair chooses the entry in the dimensions `chosen`, of `sizes`: over
    `features` of `near`, which is of one side, or over keys, of values with these features, whose weight is `near`.
    `in_part`: by some of the other side's indices alone."""

    node: Reduce
    near: Expr
    table: Load
    chosen: tuple[int, ...]
    sizes: tuple[Expr, ...]
    features: tuple[Axis, ...]
    in_part: bool = False


def lookups(graph: Graph) -> Iterator[Lookup]:
    """Those whose tables are not as long as there are tokens; none that a distance tells: kernels have panels of
    distances."""
    tiles = [n for n in graph if isinstance(n, Map | Reduce) and is_tile(n)]
    tokens = size_names(a.size for node in tiles for a in node.axes if a.role)
    for node in graph:
        found = _values(node, graph) if isinstance(node, Reduce) and not is_tile(node) else None
        if found and not is_told(found.table, found.node) and not set(tokens) & set(size_names(found.sizes)):
            yield found
    for node in tiles:
        if isinstance(node, Reduce) and node.op == "sum" and node.where is None:
            parts = factors(node.body)
            for near, table in (parts, parts[::-1]) if len(parts) == 2 else ():
                found = _lookup(node, near, table, graph)
                if found and is_told(table, node):
                    break
                if found and (found.in_part or not set(tokens) & set(size_names(found.sizes))):
                    yield found
                    break


def _lookup(node: Reduce, near: Expr, table: Expr, graph: Graph) -> Lookup | None:
    if not isinstance(near, Load) or not isinstance(table, Load):
        return None
    rows, columns = ({a.name for a in node.axes if a.role == role} for role in ("row", "column"))
    over = {a.name for a in node.over}
    if (indices(near) & rows and indices(near) & columns) or not over <= indices(near):
        return None
    chosen = _chosen(table, rows, columns)
    others = [e for d, e in enumerate(table.indices) if d not in chosen]
    if not chosen or not over <= {name for e in others for name in indices(e)}:
        return None
    far = columns if indices(near) & rows else rows
    in_part = far - {name for d in chosen for name in indices(table.indices[d])}
    sizes = tuple(shape(graph[table.tensor])[d] for d in chosen)
    return Lookup(node, near, table, chosen, sizes, node.over, bool(in_part))


def _values(node: Reduce, graph: Graph) -> Lookup | None:
    """A sum over keys of weights times values that pairs choose."""
    found = weights_and_values(node, graph, lambda n: not is_tile(n))
    if found is None:
        return None
    weights, table = found
    rows, columns = ({a.name for a in node.axes + node.over if a.role == role} for role in ("row", "column"))
    chosen = _chosen(table, rows, columns)
    if not chosen:
        return None
    sizes = tuple(shape(graph[table.tensor])[d] for d in chosen)
    features = tuple(a for a in node.axes if a.index in table.indices and a.name not in indices(weights))
    return Lookup(node, weights, table, chosen, sizes, features)


def _chosen(table: Load, rows: set[str], columns: set[str]) -> tuple[int, ...]:
    """The dimensions in which rows and columns choose an entry, if the others are those of other indices."""
    chosen = tuple(d for d, e in enumerate(table.indices) if indices(e) & rows and indices(e) & columns)
    others = [e for d, e in enumerate(table.indices) if d not in chosen]
    return chosen if all(isinstance(e, Index) and e.name not in rows | columns for e in others) else ()


def products_first(graph: Graph, sizes: Mapping[str, int]) -> Graph:
    """The graph in which such products are matrix products, as far as their tables' sizes are known and short."""
    known = with_defined(graph.sizes, sizes)
    made: dict[str, tuple[Node, ...]] = {}
    for found in lookups(graph):
        if found.in_part or _is_short(found, known):
            made[found.node.name] = _first(found) if is_tile(found.node) else _last(found)
    return replace(graph, nodes=tuple(n for node in graph for n in made.get(node.name, (node,))))


def _is_short(found: Lookup, known: Mapping[str, int]) -> bool:
    over = tuple(a.size for a in found.features)
    if not set(size_names((*found.sizes, *over))) <= known.keys():
        return False
    entries, features = (prod(evaluate(s, known) for s in some) for some in (found.sizes, over))
    return entries <= LONGEST * features


def _first(found: Lookup) -> tuple[Node, ...]:
    """The matrix product, and the sum as what is looked up in it."""
    node, name = found.node, f"{found.node.name}.first"
    entries, whole, chosen = _entries(found, name)
    read = indices(found.near) | indices(whole)
    axes = tuple(replace(a, role="") for a in node.axes if a.name in read)
    product = Reduce(name, (*axes, *entries), node.over, "sum", op("mul", found.near, whole), span=node.span)
    looked_up = Load(name, (*(a.index for a in axes), *chosen), Kind.FLOAT)
    return product, Map(node.name, node.axes, looked_up, groups=node.groups, span=node.span)


def _last(found: Lookup) -> tuple[Node, ...]:
    """The weights summed by the entry that their pairs choose, and the matrix product of these sums and the table."""
    node, name = found.node, f"{found.node.name}.chosen"
    entries, whole, chosen = _entries(found, name)
    sums, own = summed(name, node, found.near, chosen, found.sizes)
    body = op("mul", Load(name, (*own, *(a.index for a in entries))), whole)
    return sums, Reduce(node.name, node.axes, entries, "sum", body, groups=node.groups, span=node.span)


def _entries(found: Lookup, name: str) -> tuple[tuple[Axis, ...], Load, tuple[Expr, ...]]:
    """Axes of the entries that may be chosen, the table read at these, and the indices that choose."""
    entries = tuple(Axis(f"{name}.{n}", size) for n, size in enumerate(found.sizes))
    at = dict(zip(found.chosen, entries, strict=True))
    places = tuple(at[d].index if d in at else e for d, e in enumerate(found.table.indices))
    return entries, replace(found.table, indices=places), tuple(found.table.indices[d] for d in found.chosen)
