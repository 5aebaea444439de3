"""What pairs compute of how far apart they are, tabulated: once a distance, before the kernel, in place of once a pair.

`T[h, bucket[j - i]]` (Raffel, Shazeer and others 2020) and `log(1 + c[h] * (i - j))` (Chi, Fan and others 2022) have no
more values than there are distances, 2 S - 1 for each head. In a table of these a vector of pairs reads a run, and the
gradients of what a value is computed with need what each distance has gathered from its pairs, no pair. A sum over
features that two axes or more tell by their distances, a network of both coordinates (Liu, Hu and others 2022), is a
table with an axis for each.
"""

from __future__ import annotations

from dataclasses import replace

from irc.codegen.expr import Axis, Expr, Index, Kind, Load, Op, indices, loads, op, rebuild, substitute, walk
from irc.codegen.kernel import DISTANCE, MARGIN
from irc.codegen.outside import DIVIDING, LONG
from irc.graph.ir import Graph, Map, Reduce, all_axes, is_tile, operands
from irc.passes.differentiate import active
from irc.passes.distances import all_of, difference, distance_axis, exists, of_distances, reduced, there_are
from irc.passes.simplify import Growing

Supports = frozenset[Expr | None]


def tabulated(graph: Graph, host: bool) -> Graph:
    """The graph in which tile values read tables of what a distance tells and a pair would take longer to make; `host`:
    kernels are the host's, whose vectors reach beyond the last row and column."""
    where_seen, grown, differentiated = seen(graph), Growing(), active(graph)
    for node in graph:
        if isinstance(node, Map | Reduce) and is_tile(node):
            where = where_seen[node.name] if node.where is None else frozenset({node.where})
            node = _Values(graph, node, where, host, differentiated, grown).read()
        grown.nodes.append(node)
    return replace(graph, nodes=tuple(grown.nodes))


def seen(graph: Graph) -> dict[str, Supports]:
    """Of each tile value, where it is seen: the supports of the sums that read it, through others too."""
    found: dict[str, Supports] = {node.name: frozenset() for node in graph}
    for _, name in graph.outputs:
        found[name] |= {None}
    for node in reversed(graph.nodes):
        where: Supports = found[node.name] if is_tile(node) else frozenset({None})
        if isinstance(node, Map | Reduce) and node.where is not None:
            where = frozenset({node.where})
        for name in operands(node):
            found[name] |= where
    return found


class _Values:
    """A node of tile values, seen where one of `seen` holds; `active` has a gradient."""

    def __init__(
        self, graph: Graph, node: Map | Reduce, seen: Supports, host: bool, active: frozenset[str], grown: Growing
    ) -> None:
        self.graph, self.node, self.host, self.active, self.grown = graph, node, host, active, grown
        self.rows, self.columns = (tuple(a for a in node.axes if a.role == role) for role in ("row", "column"))
        several = tuple(Index(f"{DISTANCE.name}.{n}") for n in range(len(self.rows)))
        self.distances = (DISTANCE,) if len(self.rows) == 1 else several
        support = next(iter(seen)) if len(seen) == 1 else None
        self.support = None if support is None else self._told(support)
        self.known = seen == {None} or self.support is not None

    def read(self) -> Map | Reduce:
        node = self.node
        if isinstance(node, Map):
            return replace(node, body=self._rebuilt(node.body, self.known))
        if node.op != "sum" or node.where is not None:
            return node
        value = self._value(node.body, self.known)
        if value is None:
            return replace(node, body=self._rebuilt(node.body, self.known, frozenset(a.name for a in node.over)))
        return Map(node.name, node.axes, self._read(*value, node.over), groups=node.groups, span=node.span)

    def _rebuilt(self, expr: Expr, known: bool, features: frozenset[str] = frozenset()) -> Expr:
        """The expression with tables for what is told. `known`: the distances that it is evaluated at are, which those
        of a branch are not, if its condition is of each pair. Of a sum over `features`, what reads some: a pair makes
        the rest once."""

        def place(part: Expr) -> Expr | None:
            told = part.kind is Kind.FLOAT and (not features or bool(features & indices(part)))
            value = self._value(part, known) if told else None
            if value is not None and self._takes_long(value[0], bool(features)):
                return self._read(*value, ())
            if isinstance(part, Op) and part.name == "where":
                condition, *branches = (self._rebuilt(e, known and not n, features) for n, e in enumerate(part.args))
                return op("where", condition, *branches)
            return None

        return rebuild(expr, place)

    def _told(self, expr: Expr) -> Expr | None:
        of_both = all(indices(expr) & {a.name for a in side} for side in (self.rows, self.columns))
        return of_distances(expr, self.rows, self.columns, self.distances) if of_both else None

    def _value(self, expr: Expr, known: bool) -> tuple[Expr, Expr | None] | None:
        """The value at a distance, and where there is one. A gradient of 0, of a distance that no pair has, is
        multiplied by nothing: where these distances are not known, there is no value that would be."""
        value = self._told(expr)
        if value is None:
            return None
        where = [self._between(), exists(value, self.graph, self.distances)]
        if not self._passes(value):
            if not known or not self._told_by(self.support) <= self._told_by(value):
                return None
            where += [there_are(self.node.axes), self.support]
        return value, all_of(where)

    def _told_by(self, expr: Expr | None) -> set[Index]:
        """The distances that the expression reads."""
        return set() if expr is None else {d for d in self.distances if d.name in indices(expr)}

    def _between(self) -> Expr | None:
        """Whether a distance is one of pairs, where tables have others."""
        if len(self.rows) != 1:
            return None
        (row,), (column,) = self.rows, self.columns
        return all_of((op("lt", DISTANCE, row.size), op("lt", op("neg", column.size), DISTANCE))) if self.host else None

    def _passes(self, value: Expr) -> bool:
        """Whether gradients reach what is read unchanged, or not at all."""
        match value:
            case Load():
                return True
            case Op("add" | "sub" | "neg" | "where" as name, args):
                return all(self._passes(arg) for arg in args if name != "where" or arg.kind is Kind.FLOAT)
        return not any(load.tensor in self.active for load in loads(value))

    def _read(self, value: Expr, where: Expr | None, over: tuple[Axis, ...]) -> Load:
        """The element of a pair in the table of the value, summed."""
        told, sides = self._told_by(value), zip(self.distances, self.rows, self.columns, strict=True)
        alone = len(self.rows) == 1  # vectors read a run of such a table
        tables, own, at = list[Axis](), list[Expr](), dict[Expr, Expr]()
        for number, (distance, row, column) in enumerate(sides):
            if distance in told:
                axis, last = distance_axis(row, column, MARGIN if self.host and alone else 0)
                axis = axis if alone else replace(axis, name=f"{axis.name}{number}")
                at[distance] = op("sub", axis.index, last)
                tables.append(axis)
                own.append(op("add", op("sub", row.index, column.index), last))
        body = reduced(substitute(value, at))
        where = None if where is None else reduced(substitute(where, at))
        read = indices(body) | (indices(where) if where is not None else frozenset())
        others = tuple(a for a in all_axes(self.node) if a.name in read and a not in over)
        axes, span = (*others, *tables), self.node.span
        table: Map | Reduce = Map("", axes, body, where, span=span)
        if over:
            table = Reduce("", axes, over, "sum", body, where, span=span)
        name = self.grown.named(table, f"{self.node.name}.distances")
        return Load(name, (*(a.index for a in others), *own))

    def _takes_long(self, value: Expr, of_features: bool) -> bool:
        """Whether a pair would take longer to make the value than to read it: on the host any that is looked up or
        long, on a device what is looked up and no run, since registers are what it has too few of. One of features is
        made on the host, where it is computed: a table's vectors are operands as they are."""
        far = [e for e in walk(value) if DISTANCE.name in indices(e)]
        made = [e for e in far if isinstance(e, Op) and e.name in LONG | DIVIDING]
        if of_features:
            return self.host and any(e.kind is Kind.FLOAT for e in made)
        if self.host:
            return bool(made) or any(isinstance(e, Load) for e in far)
        return any(isinstance(e, Load) and not _is_run(e) for e in far)


def _is_run(load: Load) -> bool:
    """Whether neighbours among distances are neighbours in memory."""
    *others, last = load.indices
    rest = difference(last, DISTANCE)
    return not any(DISTANCE.name in indices(e) for e in (*others, rest))
