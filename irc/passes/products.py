"""Sums that are matrix products: told as steps, and made of sums of what is computed, and of sums under a condition.

What an operand computes, as a gate or a normalisation, or reads at other places, as the token before, is a tensor of
its own, unless it would have an element for each pair of what is read. Numbers are multiplied afterwards.

A condition on indices of the result is asked of the finished product instead. One on indices that are summed is asked
of both operands, which are 0 elsewhere, whatever stood there. Either costs a pass over a matrix, and saves a sum made
term by term.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from itertools import chain

from irc.codegen.expr import Axis, Const, Expr, Index, Load, Op, indices, integer, loads, number, op, substitute, walk
from irc.graph.ir import Graph, Input, Map, Node, Reduce, Scatter, is_tile, own_element, product, shape
from irc.graph.size import equal
from irc.passes.differentiate import counted
from irc.passes.distances import all_of
from irc.passes.dots import is_gradient
from irc.passes.simplify import factors, times_all
from irc.passes.split import reads_tiles
from irc.runtime.plan import Operand, Product

SHORT = 8  # terms below which a sum is no matrix product: a rotation of pairs is one loop over what it reads


def matrix_product(node: Reduce, graph: Graph, pairs: bool = False) -> Product | None:
    """The sum as a matrix product, if it is one; `pairs` as there."""
    parts = factors(node.body)
    if node.op != "sum" or node.where is not None or len(parts) != 2:
        return None
    if all(isinstance(a.size, Const) and a.size.value < SHORT for a in node.over):
        return None
    left, right = parts
    if not isinstance(left, Load) or not isinstance(right, Load):
        return None
    axes = {a.name: a for a in node.axes + node.over}
    a, b = operand(left, axes, graph), operand(right, axes, graph)
    over, rows, columns = {x.name for x in node.over}, indices(left), indices(right)
    is_product = over <= rows & columns and rows | columns == axes.keys() and rows - columns and columns - rows
    if a is None or b is None or not is_product:
        return None
    absent = -1 if sums_chosen(left, graph) else int(sums_chosen(right, graph))
    return Product(node.name, node.axes, node.groups, a, b, pairs, absent)


def sums_chosen(load: Load, graph: Graph) -> bool:
    """Whether the tensor has a sum over the pairs that chose each of its elements, 0 where none did; or the forward run
    made such a one. An operand that was turned is chosen by its token's pairs."""
    kept = next((n for n in graph.kept if isinstance(n, Scatter) and n.name == load.tensor), None)
    source = kept or graph[load.tensor]
    chosen = isinstance(source, Scatter) and not _fills(source) and (kept is not None or reads_tiles(source, graph))
    return chosen or is_gradient(load.tensor)


def _fills(node: Scatter) -> bool:
    """Whether the node adds to each of its elements, as where each pair has one and none is blocked."""
    for update in node.updates:
        sizes = {a.index: a.size for a in update.over}
        found = [sizes.pop(index, None) for index in update.indices if isinstance(index, Index)]
        if (
            update.where is None
            and len(found) == len(node.shape)
            and all(own is not None and equal(own, size, {}) for own, size in zip(found, node.shape, strict=True))
        ):
            return True
    return False


def operand(load: Load, axes: Mapping[str, Axis], graph: Graph) -> Operand | None:
    """The load as the operand of a view or product: each dimension an index, a product of indices, or a number."""
    dims: list[tuple[Axis, ...] | int] = []
    for index in load.indices:
        match index:
            case Index(name):
                dims.append((axes[name],))
            case Op("flat", args, _) if all(isinstance(a, Index) for a in args[::2]):
                dims.append(tuple(axes[a.name] for a in args[::2] if isinstance(a, Index)))
            case _ if isinstance(value := getattr(index, "value", None), int):
                dims.append(int(value))
            case _:
                return None
    names = [a.name for d in dims if isinstance(d, tuple) for a in d]
    if len(names) != len(set(names)):
        return None
    for d, size in zip(dims, shape(graph[load.tensor]), strict=True):  # a prefix of an axis is no view of it
        if isinstance(d, tuple) and not equal(product(tuple(a.size for a in d)), size, {}):
            return None
    return Operand(load.tensor, tuple(dims))


def of_tensors(graph: Graph) -> Graph:
    """The graph with matrix products of tensors in place of sums that are products of what is computed."""
    nodes = chain.from_iterable(_of_tensors(n, graph) if isinstance(n, Reduce) else (n,) for n in graph)
    return replace(graph, nodes=tuple(nodes))


def _of_tensors(node: Reduce, graph: Graph) -> Iterable[Node]:
    """The node; or the operands that are computed, their product, and what is made of that."""
    if is_tile(node):
        return (_projected(node, graph),)
    if node.op != "sum" or reads_tiles(node, graph) or matrix_product(replace(node, where=None), graph):
        return (node,)
    asked = frozenset() if node.where is None else indices(node.where)
    if not {a.name for a in node.axes} <= indices(node.body) | asked:
        return _shared(node, indices(node.body) | asked, graph)
    if asked:  # elsewhere there may be nothing to read
        return (node,)
    parts = factors(node.body)
    for axis in node.over:
        if found := _first(node, tuple(p for p in parts if axis.name in indices(p))):
            first = tuple(_of_tensors(found[0], graph))
            return *first, *_of_tensors(found[1], replace(graph, nodes=(*graph, *first)))
    numbers = tuple(p for p in parts if not indices(p))
    groups = _operands(tuple(p for p in parts if indices(p)), {a.name for a in node.over})
    made = [_tensor(f"{node.name}.operand{n}", group, node, graph) for n, group in enumerate(groups, 1)]
    if not groups or None in made:
        return (node,)
    tensors = tuple(m for m in made if isinstance(m, Map))
    known = replace(graph, nodes=(*graph, *tensors))
    total = replace(node, body=op("mul", *(own_element(m) if isinstance(m, Map) else m for m in made if m)))
    if matrix_product(replace(total, where=None), known) is None:
        return (node,)
    if not numbers:
        return *tensors, total
    total = replace(total, name=f"{node.name}.product")
    scaled = op("mul", own_element(total), times_all(numbers))
    return *tensors, total, Map(node.name, node.axes, scaled, None, node.groups, node.span)


def _first(node: Reduce, some: tuple[Expr, ...]) -> tuple[Reduce, Reduce] | None:
    """Two sums, where the other factors do not read all that is summed, and read what these do not: first the sum of
    these, as of the tokens in a projection of their mean."""
    rest = tuple(p for p in factors(node.body) if p not in some)
    read, others = (frozenset[str]().union(*map(indices, group)) for group in (some, rest))
    over, left = (tuple(a for a in node.over if (a.name in others) == is_left) for is_left in (False, True))
    if not some or not over or not left or not others - read:
        return None
    axes = tuple(replace(a, role="") for a in node.axes + left if a.name in read)
    inner = Reduce(f"{node.name}.first", axes, over, "sum", times_all(some), None)
    return inner, replace(node, over=left, body=times_all((own_element(inner), *rest)))


def _shared(node: Reduce, read: Collection[str], graph: Graph) -> Iterable[Node]:
    """The sum once for all points of the axes that it does not read, as the gradient of what was summed over them."""
    once = replace(node, name=f"{node.name}.shared", axes=tuple(a for a in node.axes if a.name in read), groups=())
    copy = Map(node.name, node.axes, own_element(once), None, node.groups, node.span)
    return *_of_tensors(once, graph), copy


def _projected(node: Reduce, graph: Graph) -> Reduce:
    """A sum for each pair as a tensor, if a `param` projects what a tensor has for each, as a bias is projected."""
    plain = replace(node, axes=tuple(replace(a, role="") for a in node.axes))
    if reads_tiles(node, graph) or matrix_product(plain, graph) is None:
        return node
    sides = [{a.name for a in node.axes if a.role == role} for role in ("row", "column")]
    read = {sum(bool(side & indices(e)) for side in sides): e for e in factors(node.body)}
    given = [graph[e.tensor] if isinstance(e, Load) else None for _, e in sorted(read.items())]
    of_param = read.keys() == {0, 2} and isinstance(given[0], Input) and given[0].role == "param"
    of_values = read.keys() == {1, 2} and isinstance(given[1], Input)
    return plain if of_param or of_values else node


def _operands(parts: tuple[Expr, ...], over: Collection[str]) -> tuple[tuple[Expr, ...], ...]:
    """The factors of each operand, if they are those of a matrix product."""
    for seed in parts:
        right = tuple(p for p in parts if indices(p) <= indices(seed))
        left = tuple(p for p in parts if p not in right)
        a, b = frozenset[str]().union(*map(indices, left)), indices(seed)
        if a - b and b - a and a & b >= set(over):
            return left, right
    return ()


def _tensor(name: str, group: tuple[Expr, ...], node: Reduce, graph: Graph) -> Map | Load | None:
    """The product of the factors: a tensor that there is, or one to be made, of the indices of one that it reads."""
    body, axes = times_all(group), {a.name: replace(a, role="") for a in node.axes + node.over}
    if isinstance(body, Load) and operand(body, axes, graph) is not None:
        return body
    names = indices(body)
    for load in loads(body):
        dims = [_enumerated(index, axes, {a.name for a in node.over}) for index in load.indices]
        found = tuple(dict.fromkeys(a for dim in dims if dim is not None for a in dim))
        if None not in dims and {a.name for a in found} == names:
            return Map(name, found, body)
    return None


def _enumerated(index: Expr, axes: Mapping[str, Axis], over: Collection[str]) -> tuple[Axis, ...] | None:
    """The axes that the dimension enumerates, shifted or in another order as it may be, or looks up for each point of
    the result; None of pairs."""
    read = tuple(a for name, a in axes.items() if name in indices(index))
    if len(read) < 2 or (isinstance(index, Op) and index.name == "flat"):
        return read
    if isinstance(index, Load):
        return None if indices(index) & set(over) else read
    first: dict[Expr, Expr] = {a.index: integer(0) for a in read}
    below: Expr = integer(1)
    for axis in reversed(read):
        if not equal(
            substitute(index, first | {axis.index: integer(1)}), op("add", substitute(index, first), below), {}
        ):
            return None
        below = op("mul", axis.size, below)
    return read


def without_absent(graph: Graph) -> Graph:
    """The graph in which sums that are no matrix products leave out what these would: terms that no pair chose."""
    return replace(graph, nodes=tuple(_without_absent(n, graph) if isinstance(n, Reduce) else n for n in graph))


def _without_absent(node: Reduce, graph: Graph) -> Reduce:
    """The sum where no such factor is 0, if others are read. Of sums of tile values a condition is of pairs alone."""
    read = [f for f in factors(node.body) if loads(f)]
    tiles = [x for x in loads(node.body) if is_tile(graph[x.tensor])]
    pairs = {n for x in tiles for n in indices(x)} if tiles else {a.name for a in node.axes + node.over}
    chosen = [f for f in read if isinstance(f, Load) and sums_chosen(f, graph) and indices(f) <= pairs]
    if node.op != "sum" or not chosen or len(read) == len(chosen) or matrix_product(node, graph):
        return node
    return replace(node, where=all_of((node.where, *(op("ne", load, number(0.0)) for load in chosen))))


def unconditional(graph: Graph) -> Graph:
    """The graph with matrix products in place of sums that are such but for a condition."""
    kept: dict[tuple[Load, Expr], Map] = {}
    nodes = chain.from_iterable(_unconditional(n, graph, kept) if isinstance(n, Reduce) else (n,) for n in graph)
    return replace(graph, nodes=tuple(nodes))


def _unconditional(node: Reduce, graph: Graph, kept: dict[tuple[Load, Expr], Map]) -> Iterable[Node]:
    """The node, or what is computed instead; `kept`: operands where a condition holds, those that there are."""
    body, where = counted(node.body, node.where) if node.op == "sum" else (node.body, node.where)
    if where is None or reads_tiles(node, graph) or any(isinstance(e, Op) and e.name == "eq" for e in walk(where)):
        return (node,)  # an equality may leave few points
    plain = replace(node, body=body, where=None)
    whole = matrix_product(plain, graph)
    if whole is None:
        return (node,)
    if not indices(where) & {a.name for a in node.over}:
        plain = replace(plain, name=f"{node.name}.all")
        return plain, Map(node.name, node.axes, own_element(plain), where, node.groups, node.span)
    loads = [part for part in factors(body) if isinstance(part, Load)]
    if not all(indices(where) <= indices(load) for load in loads):
        return (node,)
    before = len(kept)
    parts = [_kept(load, read, where, graph, kept) for load, read in zip(loads, (whole.left, whole.right), strict=True)]
    return *list(kept.values())[before:], replace(plain, body=op("mul", *parts))


def _kept(load: Load, read: Operand, where: Expr, graph: Graph, kept: dict[tuple[Load, Expr], Map]) -> Load:
    """The operand where the condition holds, 0 elsewhere."""
    source = graph[load.tensor]
    if isinstance(source, Map) and source.where == where and load == own_element(source):
        return load
    if (load, where) not in kept:
        dims = [d for d in read.dims if isinstance(d, tuple)]
        axes, groups = tuple(chain.from_iterable(dims)), tuple(len(d) for d in dims)
        kept[load, where] = Map(f"{load.tensor}.kept.{len(kept)}", axes, load, where, groups)
    return own_element(kept[load, where])
