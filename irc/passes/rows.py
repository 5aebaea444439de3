"""Rows of cores whose queries share no keys, or that have no query index: what shares its keys.

Where `key = top[b, h // (H // G), i, r] * L + l` (native sparse attention, Yuan et al. 2025), no two queries i share
their keys, and a pair would look its own up. But the heads of a group do, and so do the queries of a block where
`top[b, h, i // M, r]` picks (video sparse attention, Zhang et al. 2025), or the heads of one token's q[b,h,c]. These
are the rows then, or a single one where nothing shares keys; what else keys are told by, i or its block, is of the
batch. Keys are gathered as those of a paged cache are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from irc.codegen.expr import Axis, Expr, Kind, Load, Op, flat, indices, integer, loads, op, rebuild
from irc.codegen.sharing import members
from irc.graph.ir import Core, Graph, Map, Reduce, all_axes, bodies, grouped, is_tile, operands, own_element
from irc.graph.size import divide, expression, polynomial
from irc.passes.distances import of_distance
from irc.passes.simplify import addends, factors, rewrite


def with_rows(graph: Graph, host: bool, forward: bool) -> Graph:
    """The graph whose cores have such rows. `host`: its kernels are the host's. Not of a `forward` run: without cores
    whose gradients go pair by pair, on a device where each query has keys of its own, on the host where it alone has
    them."""
    for core in graph.cores:
        nodes = _nodes(core, graph)
        split = _split(core, nodes, graph)
        if split is not None and (forward or not split.is_of_forward(core, host)):
            changed = split.of(nodes)
            graph = replace(graph, nodes=tuple(changed.get(n.name, n) for n in graph))
    return graph


RANK = {"": 0, "row": 1, "column": 2}


@dataclass(frozen=True, slots=True)
class _Split:
    """What becomes of a core's indices but its `columns`: `batch` and `rows` stay, but for their role; others have
    groups, of the batch, with members, which are rows. `alone`, of the batch, has one member, of a size of 1."""

    columns: tuple[Axis, ...]
    batch: frozenset[Axis]
    rows: frozenset[Axis]
    parts: dict[Axis, tuple[Axis, Axis]]
    alone: Axis | None

    def is_of_forward(self, core: Core, host: bool) -> bool:
        """Whether rows are worth it in a forward run alone."""
        return self.alone in core.rows if host else any(a in self.batch for a in core.rows)

    def of(self, nodes: list[Map | Reduce]) -> dict[str, Map | Reduce]:
        """The nodes with these indices, by name."""
        made = {node.name: self._with_axes(node) for node in nodes}
        changed: dict[Expr, Expr] = {own_element(n): own_element(made[n.name]) for n in nodes}
        for axis, (group, member) in self.parts.items():
            changed[Op("floordiv", (axis.index, member.size), axis.index.kind)] = group.index
            changed[Op("mod", (axis.index, member.size), axis.index.kind)] = member.index
            changed[axis.index] = _flat(group, member)

        def place(part: Expr) -> Expr | None:
            return changed.get(part) or self._of_row(part)

        for name, node in made.items():
            read = rewrite(node, lambda e: rebuild(e, place))
            assert isinstance(read, Map | Reduce)
            made[name] = read
        return made

    def _of_row(self, part: Expr) -> Expr | None:
        """What is read of a row that is alone, as an operand is: by its member too."""
        if self.alone is None or not isinstance(part, Load) or part.kind is not Kind.FLOAT:
            return None
        if self.alone.index not in part.indices or {a.name for a in self.columns} & indices(part):
            return None
        whole = _flat(self.alone, _one(self.alone))
        return replace(part, indices=tuple(whole if e == self.alone.index else e for e in part.indices))

    def _with_axes(self, node: Map | Reduce) -> Map | Reduce:
        """Values of pairs have a dimension for each part of an index; in memory it is one still."""
        dims = tuple(tuple(part for a in dim for part in self._parts(a)) for dim in grouped(node.axes, node.groups))
        axes = tuple(a for dim in dims for a in dim)
        if _is_of_pairs(node, self.columns):
            known = {a.name for a in node.axes if a.role == "row"}  # outside of further rows
            return replace(node, axes=tuple(sorted(axes, key=lambda a: (RANK[a.role], a.name not in known))), groups=())
        return replace(node, axes=axes, groups=() if len(axes) == len(dims) else tuple(map(len, dims)))

    def _parts(self, axis: Axis) -> tuple[Axis, ...]:
        if axis in self.parts:
            return self.parts[axis]
        role = "row" if axis in self.rows else "" if axis in self.batch else axis.role
        return (replace(axis, role=role), *([_one(axis)] if axis == self.alone else []))


def _flat(group: Axis, member: Axis) -> Expr:
    return flat(((group.index, group.size), (member.index, member.size)))


def _one(axis: Axis) -> Axis:
    return Axis(f"{axis.name}.one", integer(1), "row")


def _nodes(core: Core, graph: Graph) -> list[Map | Reduce]:
    """What is computed of the core's pairs, and what sums it."""
    columns = set(core.columns)
    known = {n.name: n for n in graph if isinstance(n, Map | Reduce) and columns <= set(all_axes(n))}
    found: dict[str, Map | Reduce] = {}
    queue = [load.tensor for e in (core.score, core.weight) for load in loads(e)]
    while queue:
        name = queue.pop()
        if name in known and name not in found:
            found[name] = known[name]
            queue += [*operands(known[name]), *(n.name for n in known.values() if name in operands(n))]
    return list(found.values())


def _is_of_pairs(node: Map | Reduce, columns: tuple[Axis, ...]) -> bool:
    """Whether the node is a value of pairs, not a sum over queries, as a core has whose keys are another's queries."""
    sums_rows = isinstance(node, Reduce) and any(a.role == "row" for a in node.over)
    return set(columns) <= set(node.axes) and (is_tile(node) or not sums_rows)


def _split(core: Core, nodes: list[Map | Reduce], graph: Graph) -> _Split | None:
    """None where queries share some keys, or a part of each, where keys are told by distances, or where heads are
    mixed."""
    pairs = {n.name: n for n in nodes if _is_of_pairs(n, core.columns)}
    axes = tuple(dict.fromkeys(a for n in pairs.values() for a in n.axes if a not in core.columns))
    columns = {a.name for a in core.columns}
    operands = [keys for node in nodes for keys in _keys(node, axes, columns)]
    keys = [key for operand in operands for key in operand]
    rows, names = tuple(a for a in axes if a.role == "row"), {a.name for a in axes}
    read = [load for node in nodes for e in bodies(node) for load in loads(e) if load.tensor in pairs]
    if not keys or any(load != own_element(pairs[load.tensor]) for load in read):
        return None
    if any(indices(a) & names != indices(b) & names for operand in operands for a, b in pairwise(operand)):
        return None
    if not rows and any(set(axes) & set(n.over) for n in nodes if isinstance(n, Reduce)):
        return None  # which no kernel sums, as sum(u: w[u] * max(sum(c: q[u,c] * k[j,u,c]), 0))
    if rows and not any({a.name for a in rows} & indices(key) for key in keys):
        return _of_queries(core, axes, keys)
    if rows and not all({a.name for a in rows} & indices(key) for key in keys):
        return _of_own_values(core, nodes, axes)
    if rows and any(of_distance(key, rows, core.columns) is not None for key in keys):
        return None
    batch, whole, parts = set[Axis](), set[Axis](), dict[Axis, tuple[Axis, Axis]]()
    for axis in axes:
        count = members(axis, keys)
        if count == axis.size:
            whole.add(axis)
        elif count is not None and (number := _quotient(axis.size, count, graph)) is not None:
            parts[axis] = Axis(f"{axis.name}.group", number), Axis(f"{axis.name}.member", count, "row")
        else:
            batch.add(axis)
    alone = axes[-1] if axes and not whole and not parts else None
    if alone and any(_of_both(node, axes, columns) for node in nodes):
        return None
    return _Split(core.columns, frozenset(batch), frozenset(whole), parts, alone)


def _of_queries(core: Core, axes: tuple[Axis, ...], keys: list[Expr]) -> _Split | None:
    """Where there are more columns than rows, what is of queries alone as further rows: in a video whose mask compares
    frames, q[b,f,s] beside k[b,g,t], a row of one frame would have its keys packed for each s. Where nothing tells
    which of several indices is that of the queries, as of tokens and heads that share all keys, each is. Elsewhere
    heads that share all keys are left, where others are as many as the keys of an index."""
    rows = [a for a in axes if a.role == "row"]
    ambiguous = len(rows) < len(core.columns) or not core.position
    free = [a for a in axes if not a.role and members(a, keys) == a.size] if ambiguous else []
    more = [a for a in free if a.size in {c.size for c in core.columns}] or free
    return _Split(core.columns, frozenset(), frozenset((*rows, *more)), {}, None) if more else None


def _of_own_values(core: Core, nodes: list[Map | Reduce], axes: tuple[Axis, ...]) -> _Split | None:
    """Where each query has values of its own, z[b,i,j,f], but no keys: heads that share these values."""
    columns, rows = {a.name for a in core.columns}, {a.name for a in axes if a.role == "row"}
    sums = [n for n in nodes if isinstance(n, Reduce) and columns & {a.name for a in n.over}]
    values = [key for node in sums for keys in _keys(node, axes, columns) for key in keys]
    heads = frozenset(a for a in axes if not a.role and not any(a.name in indices(v) for v in values))
    if not heads or not values or not all(rows & indices(v) for v in values):
        return None
    return _Split(core.columns, frozenset(axes) - heads, heads, {}, None)


def _operands(node: Map | Reduce, axes: tuple[Axis, ...], columns: set[str]) -> tuple[set[str], list[Expr]]:
    """The features of a dot or of a sum over columns, and the factors that are of these and of columns."""
    features = {a.name for a in all_axes(node) if a not in axes} - columns
    return features, [f for f in factors(node.body) if features & indices(f) and columns & indices(f)]


def _keys(node: Map | Reduce, axes: tuple[Axis, ...], columns: set[str]) -> list[tuple[Expr, ...]]:
    """What such factors add that is of columns."""
    _, found = _operands(node, axes, columns)
    return [tuple(part for part in addends(f) if columns & indices(part)) for f in found]


def _of_both(node: Map | Reduce, axes: tuple[Axis, ...], columns: set[str]) -> bool:
    """Whether a sum over features is no dot, but of something computed of a feature of both sides."""
    features, found = _operands(node, axes, columns)
    read = [indices(load) for f in found for load in loads(f)]
    return any(features & names and not columns & names for names in read)


def _quotient(whole: Expr, count: Expr, graph: Graph) -> Expr | None:
    """How many times the count it is, where that is a whole number: by its factors, or as is assumed."""
    definitions = dict(graph.sizes)
    exact = divide(polynomial(whole, definitions), polynomial(count, definitions))
    if exact is not None:
        return expression(exact)
    for fact in graph.facts:
        match fact.predicate:
            case Op("eq", (Op("mod", (known, part)), rest)) if known == whole and rest == integer(0):
                if part == count:
                    return op("floordiv", whole, count)
                if count == op("floordiv", whole, part):
                    return part
    return None
