"""Keys that a table picks for queries: rows of such a core are what reads the same keys.

Where `key = top[b, h // (H // G), i, r] * L + l` (native sparse attention, Yuan et al. 2025), no two queries i share
their keys, and a pair would look its own up. But the heads of a group do, and so do the queries of a block where
`top[b, h, i // M, r]` picks (video sparse attention, Zhang et al. 2025). These are the rows then, and what else keys
are picked by, i or its block, is of the batch. Keys are gathered as those of a paged cache are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from irc.codegen.expr import Axis, Expr, Load, Op, flat, indices, integer, loads, op, substitute, walk
from irc.codegen.sharing import members
from irc.ir import Core, Graph, Map, Reduce, bodies, grouped, operands, own_element
from irc.simplify import factors, rewrite
from irc.size import divide, expression, polynomial


def picked(graph: Graph, host: bool) -> Graph:
    """The graph whose cores of picked keys have such rows. `host`: its kernels are the host's; a device's add gradients
    up pair by pair where each query picks its own."""
    for core in graph.cores:
        nodes = _nodes(core, graph)
        split = _split(core, nodes, graph)
        if split is not None and (host or not any(a in split.batch for a in core.rows)):
            changed = split.of(nodes)
            graph = replace(graph, nodes=tuple(changed.get(n.name, n) for n in graph))
    return graph


@dataclass(frozen=True, slots=True)
class _Split:
    """What becomes of a core's indices but its `columns`: `batch` and `rows` stay, but for their role; others have
    groups, of the batch, with members, which are rows."""

    columns: tuple[Axis, ...]
    batch: frozenset[Axis]
    rows: frozenset[Axis]
    parts: dict[Axis, tuple[Axis, Axis]]

    def of(self, nodes: list[Map | Reduce]) -> dict[str, Map | Reduce]:
        """The nodes with these indices, by name."""
        made = {node.name: self._with_axes(node) for node in nodes}
        changed: dict[Expr, Expr] = {own_element(n): own_element(made[n.name]) for n in nodes if self.is_of_pairs(n)}
        for axis, (group, member) in self.parts.items():
            changed[Op("floordiv", (axis.index, member.size), axis.index.kind)] = group.index
            changed[Op("mod", (axis.index, member.size), axis.index.kind)] = member.index
            changed[axis.index] = flat(((group.index, group.size), (member.index, member.size)))
        for name, node in made.items():
            read = rewrite(node, lambda e: substitute(e, changed))
            assert isinstance(read, Map | Reduce)
            made[name] = read
        return made

    def is_of_pairs(self, node: Map | Reduce) -> bool:
        return set(self.columns) <= set(node.axes)

    def _with_axes(self, node: Map | Reduce) -> Map | Reduce:
        """Values of pairs have a dimension for each part of an index; in memory it is one still."""
        dims = tuple(tuple(part for a in dim for part in self._parts(a)) for dim in grouped(node.axes, node.groups))
        axes = tuple(a for dim in dims for a in dim)
        groups = () if self.is_of_pairs(node) or len(axes) == len(dims) else tuple(map(len, dims))
        return replace(node, axes=axes, groups=groups)

    def _parts(self, axis: Axis) -> tuple[Axis, ...]:
        if axis in self.batch or axis in self.rows:
            return (replace(axis, role="row" if axis in self.rows else ""),)
        return self.parts.get(axis, (axis,))


def _nodes(core: Core, graph: Graph) -> list[Map | Reduce]:
    """What is computed of the core's pairs, and what sums it."""
    columns = set(core.columns)
    known = {n.name: n for n in graph if isinstance(n, Map | Reduce) and columns <= set(_axes(n))}
    found: dict[str, Map | Reduce] = {}
    queue = [load.tensor for e in (core.score, core.weight) for load in loads(e)]
    while queue:
        name = queue.pop()
        if name in known and name not in found:
            found[name] = known[name]
            queue += [*operands(known[name]), *(n.name for n in known.values() if name in operands(n))]
    return list(found.values())


def _axes(node: Map | Reduce) -> tuple[Axis, ...]:
    return node.axes + (node.over if isinstance(node, Reduce) else ())


def _split(core: Core, nodes: list[Map | Reduce], graph: Graph) -> _Split | None:
    """None where keys are not picked, or some are the same for all queries, or heads are mixed."""
    columns = {a.name for a in core.columns}
    pairs = {n.name: n for n in nodes if set(core.columns) <= set(n.axes)}
    axes = tuple(dict.fromkeys(a for n in pairs.values() for a in n.axes if a not in core.columns))
    keys = [key for node in nodes for key in _keys(node, axes, columns)]
    rows = {a.name for a in axes if a.role == "row"}
    if not keys or not all(_looks_up(key, columns) and (not rows or rows & indices(key)) for key in keys):
        return None
    read = [load for node in nodes for e in bodies(node) for load in loads(e) if load.tensor in pairs]
    if any(load != own_element(pairs[load.tensor]) for load in read):
        return None
    batch, whole, parts = set[Axis](), set[Axis](), dict[Axis, tuple[Axis, Axis]]()
    for axis in axes:
        count = members(axis, keys)
        if count == axis.size:
            whole.add(axis)
        elif count is not None and (number := _quotient(axis.size, count, graph)) is not None:
            parts[axis] = _parts(axis, number, count)
        else:
            batch.add(axis)
    if axes and not whole and not parts:  # none share their keys: one row
        last = axes[-1]
        batch.discard(last)
        parts[last] = _parts(last, last.size, integer(1))
    return _Split(core.columns, frozenset(batch), frozenset(whole), parts)


def _keys(node: Map | Reduce, axes: tuple[Axis, ...], columns: set[str]) -> list[Expr]:
    """The factors that are of columns and features, in a dot or in a sum over columns."""
    features = {a.name for a in _axes(node) if a not in axes} - columns
    return [f for f in factors(node.body) if features & indices(f) and columns & indices(f)]


def _looks_up(key: Expr, columns: set[str]) -> bool:
    """Whether a table says where the element lies, by a column."""
    inner = [load for e in walk(key) if isinstance(e, Load) for at in e.indices for load in loads(at)]
    return any(columns & indices(load) for load in inner)


def _parts(axis: Axis, number: Expr, count: Expr) -> tuple[Axis, Axis]:
    return Axis(f"{axis.name}.group", number), Axis(f"{axis.name}.member", count, "row")


def _quotient(size: Expr, count: Expr, graph: Graph) -> Expr | None:
    """How many times the count the size is, where that is a whole number: by its factors, or as is assumed."""
    definitions = dict(graph.sizes)
    exact = divide(polynomial(size, definitions), polynomial(count, definitions))
    if exact is not None:
        return expression(exact)
    for fact in graph.facts:
        match fact.predicate:
            case Op("eq", (Op("mod", (whole, part)), rest)) if whole == size and rest == integer(0):
                if part == count:
                    return op("floordiv", size, count)
                if count == op("floordiv", size, part):
                    return part
    return None
