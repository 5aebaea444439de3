"""Sums over features that are dots, though not written as such: of products of what is of a query and of a key.

RoFormer's own form of a rotary embedding (Su, Lu and others 2021) turns pairs of features by the distance: `sum(p:
(q0 * k0 + q1 * k1) * cos((i - j) * w) + (q0 * k1 - q1 * k0) * sin((i - j) * w))` has a cosine and a sine for each pair
and feature. By the theorems of addition it is two dots, of queries and keys that are each turned by their own position.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from irc.codegen.expr import (
    Axis,
    Const,
    Expr,
    Index,
    Kind,
    Load,
    Op,
    indices,
    is_lookup,
    loads,
    number,
    op,
    substitute,
    walk,
)
from irc.graph.ir import Graph, Map, Node, Reduce, all_axes, is_tile, own_element, shape
from irc.passes.differentiate import active, gradient_name
from irc.passes.distances import is_told
from irc.passes.simplify import Growing, Product, add_all, as_product, factors, times_all
from irc.passes.split import reads_tiles

MOST = 64  # products of a sum, and
DOTS = 8  # dots that it may become
ROTATED, TURN = ".rotated", ".turn"  # operands, and their sines and cosines


def dotted(graph: Graph) -> Graph:
    """The graph in which such sums are sums of products of two sides."""
    grown, differentiated = Growing(), active(graph)
    for node in graph:
        made: Iterable[Node] = (node,)
        if isinstance(node, Reduce) and is_tile(node) and node.op == "sum" and node.where is None:
            made = _Sum(graph, node, differentiated, grown).as_dots()
        grown.nodes += made
    return replace(graph, nodes=tuple(grown.nodes))


def is_gradient(name: str) -> bool:
    """Whether a tensor is the gradient of an operand that was turned: 0 for a token that no pair has, of which all else
    may be anything."""
    return ROTATED in name and name.startswith(gradient_name(""))


@dataclass(frozen=True, slots=True)
class _Term:
    """A number times factors of rows, of columns, and of neither."""

    number: float = 1.0
    row: tuple[Expr, ...] = ()
    column: tuple[Expr, ...] = ()
    others: tuple[Expr, ...] = ()

    @property
    def sides(self) -> tuple[tuple[Expr, ...], tuple[Expr, ...]]:
        return self.row, self.column

    @property
    def is_whole(self) -> bool:
        return all(self.sides)

    def times(self, other: _Term) -> _Term:
        return _Term(
            self.number * other.number, self.row + other.row, self.column + other.column, self.others + other.others
        )

    def scaled(self, by: float) -> _Term:
        return replace(self, number=by * self.number)


_Terms = tuple[_Term, ...]
_Sides = dict[Product, tuple[float, Expr]]  # a sum of products of one side


class _Sum:
    """A sum over features for each pair."""

    def __init__(self, graph: Graph, node: Reduce, active: frozenset[str], grown: Growing) -> None:
        self.graph, self.node, self.active, self.grown = graph, node, active, grown
        self.rows, self.columns = ({a.name for a in node.axes if a.role == role} for role in ("row", "column"))
        self.turns = False  # whether some angle has been taken apart

    def as_dots(self) -> tuple[Node, ...]:
        """The dots and their sum, or the node as it is."""
        node = self.node
        if reads_tiles(node, self.graph) or any(a.role for a in node.over) or self._is_of_distances():
            return (node,)
        terms = self._terms(node.body)
        if terms is None or not all(term.is_whole for term in terms) or not (self.turns or terms[1:]):
            return (node,)
        if self.turns and self._is_masked() and any(map(self._meets_missing, (s for t in terms for s in t.sides))):
            return (node,)
        over = {a.name for a in node.over}
        products = _products(terms)
        read = [e for pair in products for e in pair]
        if len(products) > DOTS or not all(over <= indices(e) for e in read) or not all(map(self._is_plain, read)):
            return (node,)
        bodies = [op("mul", self._operand(row), self._operand(column)) for row, column in products]
        if not bodies[1:]:
            return (replace(node, body=bodies[0]),)
        dots = [replace(node, name=f"{node.name}.dot{n}", body=body, groups=()) for n, body in enumerate(bodies)]
        return *dots, Map(node.name, node.axes, add_all(map(own_element, dots)), groups=node.groups, span=node.span)

    def _is_of_both(self, expr: Expr) -> bool:
        read = indices(expr)
        return bool(read & self.rows and read & self.columns)

    def _is_of_distances(self) -> bool:
        """Whether it is of one side and of what a distance tells: kernels have panels of distances."""
        chosen = [p for p in factors(self.node.body) if self._is_of_both(p)]
        near = [p for p in factors(self.node.body) if p not in chosen]
        told = all(is_told(p, self.node) for p in chosen)
        return bool(chosen) and told and not (near and self._is_of_both(times_all(tuple(near))))

    # products of sides

    def _terms(self, expr: Expr) -> _Terms | None:
        """The terms of an expression, where products of sums are worth writing out: of sums of products of both sides,
        of which one is a sine or a cosine. (Those of differences, `(q - k) * (q - k)`, would cancel.)"""
        if not self._is_of_both(expr):
            return (self._of_one_side(expr),)
        match expr:
            case Op("add" | "sub" as name, (x, y)):
                first, second = self._terms(x), self._terms(y)
                if first is None or second is None or not all(term.is_whole for term in first + second):
                    return None
                return first + tuple(term.scaled(1.0 if name == "add" else -1.0) for term in second)
            case Op("neg", (x,)):
                found = self._terms(x)
                return found and tuple(term.scaled(-1.0) for term in found)
            case Op("mul", (x, y)):
                first, second = self._terms(x), self._terms(y)
                if first and second and first[1:] and second[1:] and not (self._is_turn(x) or self._is_turn(y)):
                    return None
                return self._times(first, second)
            case Op("div", (x, y)) if not self._is_of_both(y):
                return self._times(self._terms(x), self._terms(op("div", number(1.0), y)))
            case Op("sin" | "cos" as name, (angle,)):
                return self._turned(name, angle)
        return None

    def _of_one_side(self, expr: Expr) -> _Term:
        read = indices(expr)
        if isinstance(expr, Const):
            return _Term(float(expr.value))
        if read & self.columns:
            return _Term(column=(expr,))
        return _Term(row=(expr,)) if read & self.rows else _Term(others=(expr,))

    def _times(self, first: _Terms | None, second: _Terms | None) -> _Terms | None:
        if first is None or second is None or len(first) * len(second) > MOST:
            return None
        return tuple(x.times(y) for x in first for y in second)

    def _is_turn(self, expr: Expr) -> bool:
        """Whether it is a sine or cosine of both sides, perhaps times what is of one."""
        match expr:
            case Op("sin" | "cos", _):
                return self._is_of_both(expr)
            case Op("neg", (x,)) | Op("div", (x, _)):
                return self._is_turn(x)
            case Op("mul", (x, y)):
                return any(self._is_turn(a) and not self._is_of_both(b) for a, b in ((x, y), (y, x)))
        return False

    def _turned(self, name: str, angle: Expr) -> _Terms | None:
        """The sine or cosine of a sum of two sides' angles, by those of the angles; not of angles that have a gradient,
        a difference of two that are as large as positions are far from 0."""
        parts = self._addends(angle)
        if parts is None or any(load.tensor in self.active for load in loads(angle)):
            return None
        if self._is_masked() and any(map(self._may_be_missing, loads(angle))):
            return None
        rows = _summed([part for part in parts if not indices(part[1]) & self.columns])
        columns = _summed([part for part in parts if indices(part[1]) & self.columns])
        self.turns = True
        (first, row), (second, column) = map(_apart, (rows, columns))
        (sin_i, sin_j), (cos_i, cos_j) = ([self._table(op(f, e)) for e in (row, column)] for f in ("sin", "cos"))
        if name == "cos":
            return _Term(1.0, (cos_i,), (cos_j,)), _Term(-first * second, (sin_i,), (sin_j,))
        return _Term(first, (sin_i,), (cos_j,)), _Term(second, (cos_i,), (sin_j,))

    def _may_be_missing(self, load: Load) -> bool:
        """Whether it may be no number for a token without a pair, whose gradient 0 would be multiplied by its sine."""
        return load.kind is Kind.FLOAT and bool(indices(load) & (self.rows | self.columns))

    def _meets_missing(self, side: tuple[Expr, ...]) -> bool:
        """Whether the gradient of a factor is multiplied by another that may be missing, or divided by itself."""
        numbers = [e for e in side if any(map(self._may_be_missing, loads(e))) and not self._is_table(e)]
        return len(numbers) > 1 or not all(isinstance(e, Load) for e in numbers)

    def _is_table(self, expr: Expr) -> bool:
        return isinstance(expr, Load) and expr.tensor.startswith(f"{self.node.name}{TURN}")

    def _is_masked(self) -> bool:
        return any(
            isinstance(n, Map | Reduce) and n.where is not None and reads_tiles(n, self.graph) for n in self.graph
        )

    def _addends(self, expr: Expr) -> tuple[tuple[float, Expr], ...] | None:
        """What the expression adds, each of one side at most, with its sign."""
        if not self._is_of_both(expr):
            return ((1.0, expr),)
        match expr:
            case Op("add" | "sub" as name, (x, y)):
                first, second = self._addends(x), self._addends(y)
                if first is None or second is None:
                    return None
                return first + tuple((sign if name == "add" else -sign, e) for sign, e in second)
            case Op("neg", (x,)):
                found = self._addends(x)
                return found and tuple((-sign, e) for sign, e in found)
            case Op("float", (x,)):
                found = self._addends(x)
                return found and tuple((sign, op("float", e)) for sign, e in found)
            case Op("mul", (x, y)):
                whole, by = (x, y) if self._is_of_both(x) else (y, x)
                found = None if indices(by) & (self.rows | self.columns) else self._addends(whole)
                return found and tuple((sign, op("mul", e, by)) for sign, e in found)
            case Op("div", (x, y)) if not indices(y) & (self.rows | self.columns):
                found = self._addends(x)
                return found and tuple((sign, op("div", e, y)) for sign, e in found)
        return None

    # tensors

    def _table(self, value: Expr) -> Expr:
        """The value as a tensor of the indices that it reads, if these are fewer than an operand's: one for both sides,
        where they are of as many tokens."""
        axes = [a for a in all_axes(self.node) if a.name in indices(value)]
        if not axes or not self._is_plain(value):
            return value
        own = tuple(Axis(f"turn.{n}", a.size) for n, a in enumerate(axes))
        body = substitute(value, {a.index: b.index for a, b in zip(axes, own, strict=True)})
        table = Map("", own, body, span=self.node.span)
        return Load(self.grown.named(table, f"{self.node.name}{TURN}"), tuple(a.index for a in axes))

    def _is_plain(self, expr: Expr) -> bool:
        """Whether it reads tensors at its own tokens, and where no table says: what may be read for no pair too."""
        return all(self._is_plain_index(index) for load in loads(expr) for index in load.indices)

    def _is_plain_index(self, index: Expr) -> bool:
        if any(is_lookup(e) for e in walk(index)):
            return False
        parts = index.args[::2] if isinstance(index, Op) and index.name == "flat" else (index,)
        return not indices(index) & (self.rows | self.columns) or all(isinstance(e, Index) for e in parts)

    def _operand(self, value: Expr) -> Expr:
        """The value as a tensor, if it has been turned; read where heads of a group share it by the group."""
        if not self.turns:
            return value
        read: dict[Expr, Expr] = {}
        axes: list[Axis] = []
        for axis in all_axes(self.node):
            if axis.name in indices(value):
                index, size = self._shared(value, axis)
                read[index] = axis.index
                axes.append(Axis(axis.name, size))
        tensor = Map("", tuple(axes), substitute(value, read), span=self.node.span)
        return Load(self.grown.named(tensor, f"{self.node.name}{ROTATED}"), tuple(read))

    def _shared(self, value: Expr, axis: Axis) -> tuple[Expr, Expr]:
        """What all that is read tells the point of an axis by, and the number of these: `h // 4` of heads in groups."""
        own = axis.index, axis.size
        dims = ((load, n) for load in loads(value) for n, e in enumerate(load.indices) if axis.name in indices(e))
        places = {(load.indices[n], self._shape(load)[n]) for load, n in dims}
        (index, size), *others = places or {own}
        rest = substitute(value, {index: Const(0, Kind.INT)})
        return own if others or indices(index) != {axis.name} or axis.name in indices(rest) else (index, size)

    def _shape(self, load: Load) -> tuple[Expr, ...]:
        known = self.graph.by_name
        made = (n for n in self.grown.nodes if n.name == load.tensor)
        return shape(known[load.tensor] if load.tensor in known else next(made))


def _summed(parts: Sequence[tuple[float, Expr]]) -> Expr:
    """The sum of signed addends; a negation where all are."""
    if all(sign < 0 for sign, _ in parts):
        return op("neg", add_all(e for _, e in parts))
    (sign, total), *rest = parts
    total = total if sign > 0 else op("neg", total)
    for sign, e in rest:
        total = op("add" if sign > 0 else "sub", total, e)
    return total


def _apart(angle: Expr) -> tuple[float, Expr]:
    """The sign before an angle, and the rest."""
    return (-1.0, angle.args[0]) if isinstance(angle, Op) and angle.name == "neg" else (1.0, angle)


def _products(terms: _Terms) -> list[tuple[Expr, Expr]]:
    """The sum of the terms as one of few products: rows that stand with the same columns are added first."""
    by_row: dict[Product, tuple[Expr, _Sides]] = {}
    for term in terms:
        row, column = times_all(term.row + term.others), times_all(term.column)
        columns = by_row.setdefault(as_product(term.row + term.others), (row, {}))[1]
        key = as_product(term.column)
        before = columns.get(key, (0.0, column))[0]
        columns[key] = (before + term.number, column)
    groups: list[tuple[list[tuple[float, Expr]], _Sides]] = []
    for row, columns in by_row.values():
        found = {key: part for key, part in columns.items() if part[0]}
        for members, known in groups:
            ratio = _ratio(found, known)
            if ratio is not None:
                members.append((ratio, row))
                break
        else:
            if found:
                groups.append(([(1.0, row)], found))
    return [(_scaled(members), _scaled(known.values())) for members, known in groups]


def _ratio(some: _Sides, others: _Sides) -> float | None:
    """How many times the others the sum is, if it is a multiple."""
    if some.keys() != others.keys():
        return None
    ratios = {part[0] / others[key][0] for key, part in some.items()}
    return ratios.pop() if len(ratios) == 1 else None


def _scaled(parts: Iterable[tuple[float, Expr]]) -> Expr:
    """The sum of multiples; those that are added come first, so that none is negated."""
    total: Expr | None = None
    for factor, e in sorted(parts, key=lambda part: part[0] < 0):
        term = e if abs(factor) == 1 else op("mul", number(abs(factor)), e)
        if total is None:
            total = term if factor > 0 else op("neg", term)
        else:
            total = op("add" if factor > 0 else "sub", total, term)
    assert total is not None
    return total
