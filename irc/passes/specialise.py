"""Known sizes written into the graph: definitions (`E = H * D`) and the values fixed for one compilation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from irc.codegen.expr import Axis, Expr, Load, Size, integer, number, substitute
from irc.codegen.kernel import Arithmetic
from irc.graph.ir import Core, Fact, Graph, Input, Map, Node, Reduce, Scatter, Update, all_axes, is_tile
from irc.graph.size import size_names
from irc.passes.between import with_differences
from irc.passes.distances import distributed
from irc.passes.lookups import lookups
from irc.passes.rows import with_rows
from irc.passes.simplify import rewrite
from irc.passes.split import reads_tiles
from irc.passes.written import written_out, written_sizes


def specialise(graph: Graph, fixed: Mapping[str, int]) -> Graph:
    """The graph with every defined or fixed size replaced, wherever it stands. Sizes left open remain symbols."""
    values: dict[Expr, Expr] = {Size(name): integer(value) for name, value in fixed.items()}
    for name, definition in graph.sizes:
        if definition is not None and name not in fixed:
            values[Size(name)] = substitute(definition, values)

    def put(expr: Expr) -> Expr:
        return substitute(expr, values)

    def axes(items: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple(replace(a, size=put(a.size)) for a in items)

    def whole(node: Node) -> Node:
        node = rewrite(node, put)
        match node:
            case Input():
                return replace(node, shape=tuple(put(s) for s in node.shape))
            case Map():
                return replace(node, axes=axes(node.axes))
            case Reduce():
                return _of_nothing(replace(node, axes=axes(node.axes), over=axes(node.over)))
            case Scatter():
                updates = tuple(Update(axes(u.over), u.indices, u.body, u.where) for u in node.updates)
                return replace(node, shape=tuple(put(s) for s in node.shape), updates=updates)

    def access(pair: tuple[Load, tuple[Axis, ...]]) -> tuple[Load, tuple[Axis, ...]]:
        load, over = pair
        return Load(load.tensor, tuple(put(i) for i in load.indices), load.kind), axes(over)

    def fact(item: Fact) -> Fact:
        return replace(item, predicate=put(item.predicate), free=axes(item.free))

    def core(item: Core) -> Core:
        return replace(
            item,
            batch=axes(item.batch),
            rows=axes(item.rows),
            columns=axes(item.columns),
            support=None if item.support is None else put(item.support),
            score=put(item.score),
            position=tuple(put(e) for e in item.position),
        )

    return replace(
        graph,
        nodes=tuple(whole(n) for n in graph),
        facts=tuple(fact(f) for f in graph.facts),
        accesses=tuple(access(a) for a in graph.accesses),
        cores=tuple(core(c) for c in graph.cores),
        kept=tuple(whole(n) for n in graph.kept),
    )


def _of_nothing(node: Reduce) -> Map | Reduce:
    """A sum over nothing, or into nothing, as 0: no kernel has matrices without features."""
    if node.op == "sum" and any(a.size == integer(0) for a in all_axes(node)):
        return Map(node.name, node.axes, number(0.0), None, node.groups, node.span)
    return node


def feature_sizes(graph: Graph, arithmetic: Arithmetic) -> tuple[str, ...]:
    """Names of the open sizes that kernels need as constants: those of the features of their matrices, of sums that are
    written out, and of tables whose products are made first where they are short."""
    names = dict.fromkeys(written_sizes(graph))
    graph = with_rows(with_differences(written_out(graph, {}), arithmetic), host=True, forward=True)
    graph = distributed(graph)
    for found in lookups(graph):
        if not found.in_part:
            names.update(dict.fromkeys(size_names(found.sizes)))
    for node in graph:
        if isinstance(node, Reduce) and (is_tile(node) or reads_tiles(node, graph)):
            axes = node.over if is_tile(node) else node.axes
            tile_axes = {a.name for n in graph if is_tile(n) and isinstance(n, Map | Reduce) for a in n.axes}
            for axis in axes:
                if not axis.role and axis.name not in tile_axes:
                    names.update(dict.fromkeys(size_names((axis.size,))))
    defined = {name for name, definition in graph.sizes if definition is not None}
    return tuple(n for n in names if n not in defined)
