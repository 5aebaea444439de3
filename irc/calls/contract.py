"""What a call must keep: the facts that the program assumes, and table accesses that could not be proved in bounds.

Both are checked against the actual arguments before any kernel runs. Accesses are checked by interval arithmetic over
the actual sizes, scalars and the least and greatest entry of each integer table: one linear pass, never too lenient.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf, isinf
from typing import Any

import numpy as np

from irc.codegen.expr import Axis, Const, Expr, Index, Kind, Load, Op, Size, indices, integer, loads, number, op, walk
from irc.codegen.fold import whole_power
from irc.error import InputError
from irc.graph.interpret import evaluate, grid
from irc.graph.intervals import through
from irc.graph.ir import Fact, Graph, Map, Reduce, all_axes, bodies, shape
from irc.graph.magnitudes import is_held, magnitude, may_wrap
from irc.graph.printer import expression
from irc.graph.size import expression as expression_of
from irc.graph.size import polynomial
from irc.proof.flow import reads
from irc.runtime.device import Device
from irc.runtime.sizes import evaluate as evaluate_size
from irc.runtime.sizes import show

Array = np.ndarray[Any, Any]
Interval = tuple[float, float]
EVERYTHING: Interval = (-np.inf, np.inf)
DO: dict[str, Callable[..., float]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": lambda x, y: 0.0 if 0 in (x, y) else x * y,  # nothing stays nothing, however often
    "floordiv": lambda x, y: x if isinf(x) else x // y,
    "neg": operator.neg,
    "abs": abs,
    "min": min,
    "max": max,
}


def tables(graph: Graph) -> set[str]:
    """The arguments whose entries are looked at."""
    read = {load.tensor for fact in graph.facts for load in loads(fact.predicate)}
    return read | {load.tensor for access, _ in graph.accesses for i in access.indices for load in loads(i)}


def entries_of(graph: Graph, values: Mapping[str, Array], device: Device) -> dict[str, Array]:
    """Those arguments where the host can read them."""
    return {name: device.entries(values[name]) for name in tables(graph) if name in values}


def check(graph: Graph, entries: Mapping[str, Array], sizes: Mapping[str, int]) -> None:
    """Raises InputError naming the assumption that an argument breaks, or the access that could leave its axis."""
    whole = {node.name for node in graph.inputs if node.kind is Kind.INT}
    entries = {name: array.astype(np.int64) if name in whole else array for name, array in entries.items()}
    check_facts(graph, entries, sizes)
    check_accesses(graph, entries, sizes)


def unknown(name: str, taker: str, known: Sequence[str]) -> InputError:
    """Of an argument that a program has not."""
    from irc.elaborate.report import similar  # brings difflib

    near = similar(name, known)
    return InputError(f"{name}: unknown; {taker} takes {', '.join(known)}" + (f"; {near}" if near else ""))


@dataclass(frozen=True, slots=True)
class Needed:
    """A size of what is read: 1 or more, unless one of the axes is empty or a condition of `where` fails everywhere."""

    load: Load
    dim: int
    size: Expr
    axes: tuple[Axis, ...]
    where: tuple[Expr, ...]

    @property
    def wrong(self) -> str:
        """In words, what is wrong else."""
        what = f"{self.load.tensor}: axis {self.dim}, of size {show(self.size)}, has no entries"
        return f"{what}, but the program reads {expression(self.load)}"


def needed(graph: Graph) -> Iterator[Needed]:
    """Sizes that an access needs. Its proof takes every size for at least 1, since nothing is read where an axis of the
    reader is empty; one of a table may be while its reader's are not."""
    for axes, parts in _readers(graph):
        sizes = {a.size for a in axes}
        for body, given in parts:
            for load, where in reads(body, given):
                for dim, size in enumerate(shape(graph[load.tensor])):
                    if size not in sizes:
                        yield Needed(load, dim, size, axes, where)


def _readers(graph: Graph) -> Iterator[tuple[tuple[Axis, ...], list[tuple[Expr, tuple[Expr, ...]]]]]:
    """Axes, and what is evaluated at their points, each with a condition outside of which its value is not used."""
    for node in graph:
        if isinstance(node, Map | Reduce):
            where = () if node.where is None else (node.where,)
            yield all_axes(node), [(e, where if e is node.body else ()) for e in bodies(node)]
    for fact in graph.facts:
        yield fact.free, [(fact.predicate, ())]


def check_sizes(graph: Graph, sizes: Mapping[str, int]) -> None:
    """Raises InputError where a tensor that is read has no entries."""
    for each in needed(graph):
        is_empty = evaluate_size(each.size, sizes) == 0 and all(evaluate_size(a.size, sizes) for a in each.axes)
        if is_empty and _may_together(each.where, each.axes, sizes):
            raise InputError(each.wrong)


def _may_together(conditions: tuple[Expr, ...], axes: tuple[Axis, ...], sizes: Mapping[str, int]) -> bool:
    """Whether they may hold at one point of the axes, as far as intervals tell: of each, and of the sum of any two
    comparisons, from which an index of both may cancel."""
    if not all(_may(condition, True, axes, sizes) for condition in conditions):
        return False
    excess = [polynomial(e, {}) for condition in conditions for e in _excess(condition, True)]
    sums = (expression_of(a + b) for a, b in combinations(excess, 2))
    return all(interval(e, axes, {}, sizes)[1] >= 0 for e in sums)


def _excess(condition: Expr, be: bool) -> Iterator[Expr]:
    """Integers that are 0 or more where the condition is so, or is not."""
    match condition:
        case Op("not", (a,), _):
            yield from _excess(a, not be)
        case Op("and" | "or" as name, (a, b), _) if (name == "and") is be:
            yield from _excess(a, be)
            yield from _excess(b, be)
        case Op("lt" | "le" | "eq" as name, (a, b), _) if a.kind is b.kind is Kind.INT and (be or name != "eq"):
            strict = integer(1 if (name == "lt") is be and name != "eq" else 0)
            yield op("sub", op("sub", b, a) if be else op("sub", a, b), strict)
            if name == "eq":
                yield op("sub", a, b)


def _may(condition: Expr, be: bool, axes: tuple[Axis, ...], sizes: Mapping[str, int]) -> bool:
    """Whether the condition may be so at some point of the axes, as far as intervals tell."""
    match condition:
        case Const(value, _):
            return bool(value) is be
        case Op("not", (a,), _):
            return _may(a, not be, axes, sizes)
        case Op("and" | "or" as name, (a, b), _):
            both = [_may(part, be, axes, sizes) for part in (a, b)]
            return all(both) if (name == "and") is be else any(both)
        case Op("lt" | "le" as name, (a, b), _):
            (low, high), (least, most) = (interval(part, axes, {}, sizes) for part in (a, b))
            if be:
                return low < most or (name == "le" and low == most)
            return high > least or (name == "lt" and high == least)
        case _:
            return True


def check_facts(graph: Graph, values: Mapping[str, Array], sizes: Mapping[str, int]) -> None:
    """Raises InputError naming the assumption that an argument breaks, and where."""
    for fact in graph.facts:
        try:
            check_fact(fact, values, sizes)
        except IndexError:  # a table read at an entry of another, or an empty one: which, and how far it reaches
            check_sizes(graph, sizes)
            check_accesses(graph, values, sizes)
            raise


def check_fact(fact: Fact, values: Mapping[str, Array], sizes: Mapping[str, int]) -> None:
    """Raises InputError where the arguments break the assumption, and IndexError where it reads beyond a table."""
    points = grid(fact.free, values, sizes)
    if 0 in points.shape:
        return
    if may_wrap(fact.predicate) and not is_held(_magnitude(fact, values, sizes)):
        raise InputError(f"the program assumes {fact.text}, for which numbers beyond 64 bits may be computed here")
    try:
        with np.errstate(divide="raise"):
            result = np.broadcast_to(evaluate(fact.predicate, points), points.shape)
    except FloatingPointError:
        divides = f"the program assumes {fact.text}, which divides by zero here{_given(fact, values, sizes)}"
        raise InputError(divides) from None
    if fact.nondecreasing is not None:
        along = next(k for k, a in enumerate(fact.free) if a.name == fact.nondecreasing)
        broken = np.argwhere(np.diff(result, axis=along) < 0)
    else:
        broken = np.argwhere(~np.asarray(result, bool))
    if len(broken):
        at = ", ".join(f"{a.name} = {i}" for a, i in zip(fact.free, broken[0], strict=True))
        raise InputError(
            f"the program assumes {fact.text}" + (f", which fails at {at}" if at else _given(fact, values, sizes))
        )


def _magnitude(fact: Fact, values: Mapping[str, Array], sizes: Mapping[str, int]) -> Expr:
    def most(part: Expr) -> Expr:
        if isinstance(part, Load) and values[part.tensor].size == 0:
            return number(0.0)
        return number(max(map(abs, interval(part, fact.free, values, sizes))))

    return magnitude(fact.predicate, most)


def _given(fact: Fact, values: Mapping[str, Array], sizes: Mapping[str, int]) -> str:
    known: dict[str, object] = {}
    for e in walk(fact.predicate):
        if isinstance(e, Size):
            known[e.name] = sizes[e.name]
        elif isinstance(e, Load) and not indices(e):
            known[expression(e)] = evaluate(e, grid((), values, sizes)).item()
    return ", but " + ", ".join(f"{name} = {value}" for name, value in known.items()) if known else ""


def check_accesses(graph: Graph, values: Mapping[str, Array], sizes: Mapping[str, int]) -> None:
    """Raises InputError where an index could leave its axis."""
    for load, axes in graph.accesses:
        if any(evaluate_size(a.size, sizes) == 0 for a in axes):
            continue
        for dim, index in enumerate(load.indices):
            extent = evaluate_size(shape(graph[load.tensor])[dim], sizes)
            low, high = interval(index, axes, values, sizes)
            if low < 0 or high >= extent:
                raise InputError(
                    f"{load.tensor}: axis {dim} has {extent} entries, but the program may read {_show(low, high)}; "
                    "clamp(index, 0, size - 1) makes it safe where such entries are blocked"
                )


def _show(low: float, high: float) -> str:
    """What may be read, by the bounds that are known."""
    match bool(np.isinf(low)), bool(np.isinf(high)):
        case True, True:
            return "anything: no bound of the index is known"
        case True, _:
            return f"below 0: the index is at most {int(high)}, and its least value is not known"
        case _, True:
            return f"any entry from {int(low)} on: the index's greatest value is not known"
    return f"{int(low)} to {int(high)}"


def interval(expr: Expr, axes: tuple[Axis, ...], values: Mapping[str, Array], sizes: Mapping[str, int]) -> Interval:
    """Least and greatest value of an integer expression over all points of the axes; too wide, never too narrow."""
    match expr:
        case Const(value, _):
            return float(value), float(value)
        case Size(name):
            return float(sizes[name]), float(sizes[name])
        case Index(name):
            size = next(evaluate_size(a.size, sizes) for a in axes if a.name == name)
            return 0.0, float(size - 1)
        case Load(tensor, _, _):
            table = values.get(tensor)
            if table is None or table.size == 0:
                return EVERYTHING
            return float(table.min()), float(table.max())
        case Op("segment", (Load(tensor, _, _), _, position), _) if tensor in values:
            return _segments(values[tensor], interval(position, axes, values, sizes))
        case Op(name, args, _):
            return _operate(name, [interval(a, axes, values, sizes) for a in args])
    return EVERYTHING


def _segments(table: Array, positions: Interval) -> Interval:
    """The least and the greatest segment of some positions, in all rows of the table."""
    if table.shape[-1] <= 1:  # no second entry that a position could have passed
        return 0.0, 0.0
    offsets = table[..., 1:].reshape(-1, table.shape[-1] - 1)
    if not len(offsets):
        return EVERYTHING
    low, high = ((offsets <= end).sum(axis=1) for end in positions)
    return float(low.min()), float(high.max())


def _operate(name: str, v: list[Interval]) -> Interval:
    match name, v:
        case "pow", [(a, b), (c, d)]:
            if a >= 1 and max(b, d) < inf:
                return float(whole_power(int(a), int(c))), float(whole_power(int(b), int(d)))
            return EVERYTHING
        case (("floordiv" | "mod"), [_, (c, _)]) if c <= 0:
            return EVERYTHING
        case "mod", [(a, b), (c, d)]:
            return (a, b) if a >= 0 and b < c else (0.0, d - 1)
        case "where", [_, *parts]:
            return through("where", parts, _do, 0.0) or EVERYTHING
    return through(name, v, _do, 0.0) or EVERYTHING


def _do(name: str, *ends: float) -> float:
    return DO[name](*ends)
