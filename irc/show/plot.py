"""What a core looks like over (query, key), for chosen sizes: its mask and bias, or its scores or weights.

The graph's own predicate and nodes are evaluated, not a rendering of them: what is drawn is what the kernels compute
with. draw.py makes characters or an image of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from irc.calls.contract import check_fact
from irc.codegen.expr import TRUE, Axis, Expr, Kind, Load, Size, indices, loads, number, rebuild, substitute
from irc.codegen.kernel import Side
from irc.error import InputError
from irc.graph.interpret import DTYPES, Grid, evaluate, interpret, size_value
from irc.graph.ir import Core, Graph, Input, Map, Reduce, is_tile, own_element, position
from irc.mask.analyse import analyse
from irc.mask.visits import EMPTY, FULL, PARTIAL, Visits
from irc.runtime.sizes import open_term

Shown = Literal["pairs", "scores", "weights", "map"]
MOST_PAIRS = 1 << 24  # that are looked at for one picture
FEATURES = 8  # of a sum over features whose size nobody gave, where scores are computed


@dataclass(frozen=True, slots=True)
class Tiles:
    """What kernels find in each tile of `shape` rows and columns: [row tiles, column tiles], EMPTY, PARTIAL or FULL."""

    shape: tuple[int, int]
    states: NDArray[np.int8]

    @property
    def summary(self) -> str:
        count = [int((self.states == state).sum()) for state in (EMPTY, PARTIAL, FULL)]
        return "tiles of {} × {}: {} empty, {} partial, {} full".format(*self.shape, *count)


@dataclass(frozen=True, slots=True)
class Numbers:
    """A number a pair, [rows, columns], and what it is. Where `against` stands it is drawn as a curve over that."""

    name: str
    values: NDArray[np.float64]
    against: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """One core at one point of its batch axes: `where` names the point, `note` says something of the whole.

    `numbers` is what a pair is coloured by, None where there is nothing but the mask, or where a bias needs a tensor
    (`lacking`) that was not given.
    """

    shown: Shown
    name: str
    note: str
    where: str
    rows: str
    columns: str
    allowed: NDArray[np.bool_]
    numbers: Numbers | None
    lacking: tuple[str, ...] = ()
    tiles: Tiles | None = None

    @property
    def title(self) -> str:
        return f"{self.name}: {self.note}" + (f" at {self.where}" if self.where else "")


def pictures(
    graph: Graph,
    sizes: Mapping[str, int],
    values: Mapping[str, Any],
    at: Mapping[str, int],
    shown: Shown = "pairs",
    tile: tuple[int, int] | None = None,
    each: str | None = None,
) -> Iterator[Picture]:
    """Every core of the program; where `each` is an index of a core's batch, that core at each of its values.

    `sizes` must determine all axes of the cores; `values` holds the scalars and tensors that the mask reads, and all
    inputs where scores or weights are shown (missing ones raise `InputError`); `at` the point of the batch axes, 0
    where it says nothing. With `tile`, rows and columns, what kernels find in tiles of that shape of the mask.
    """
    try:
        yield from _pictures(graph, sizes, values, at, shown, tile, each)
    except IndexError as error:  # of the interpreter, where an argument breaks an assumption
        raise InputError(str(error)) from error


def broken(graph: Graph, sizes: Mapping[str, int], values: Mapping[str, Any]) -> Iterator[str]:
    """In words, what the program assumes of the sizes and of the given tensors alone and is not so."""
    arrays = _arrays(graph, values)
    for fact in graph.facts:
        if not _missing(fact.predicate, arrays):
            try:
                check_fact(fact, arrays, sizes)
            except (InputError, IndexError) as error:
                yield str(error)


def _arrays(graph: Graph, values: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    return {n.name: np.asarray(values[n.name], DTYPES[n.kind]) for n in graph.inputs if n.name in values}


def _pictures(
    graph: Graph,
    sizes: Mapping[str, int],
    values: Mapping[str, Any],
    at: Mapping[str, int],
    shown: Shown,
    tile: tuple[int, int] | None,
    each: str | None,
) -> Iterator[Picture]:
    for core in graph.cores:
        _check_pairs(core, sizes, whole=shown != "pairs")
    arrays = _arrays(graph, values)
    if shown != "pairs":
        arrays = interpret(graph, arrays, sizes)
    if tile is not None:
        shown = "pairs"
    for name in at if each is None else (each, *at):
        if not any(a.name == name for core in graph.cores for a in core.batch):
            raise InputError(f"'{name}' is no index beside query and key in '{graph.name}'")
    for core in graph.cores:
        axis = next((a for a in core.batch if a.name == each), None)
        for point in range(size_value(axis.size, sizes)) if axis is not None else (None,):
            there = at if axis is None or point is None else {**at, axis.name: point}
            rows = core.rows if tile is not None else core.rows or core.batch[-1:]
            yield _View(graph, core, rows, sizes, arrays, there).picture(shown, tile, axis)


def _check_pairs(core: Core, sizes: Mapping[str, int], whole: bool) -> None:
    """Raises InputError where there are more pairs than are drawn; where all are computed, those of the whole batch."""
    axes = (*(core.batch if whole else ()), *core.rows, *core.columns)
    extents = {a.name: size_value(a.size, sizes) for a in axes}
    pairs = math.prod(extents.values())
    if pairs > MOST_PAIRS:
        along = ", ".join(f"{name} {extent}" for name, extent in extents.items())
        raise InputError(
            f"{core.name}: {pairs} pairs are too many to draw ({along}), at most {MOST_PAIRS}: give smaller sizes"
        )


@dataclass(frozen=True, slots=True)
class _View:
    """A core at one point of its batch axes. One without query indices is drawn over its last batch index, `rows`."""

    graph: Graph
    core: Core
    rows: tuple[Axis, ...]
    sizes: Mapping[str, int]
    values: Mapping[str, NDArray[Any]]
    at: Mapping[str, int]

    @property
    def batch(self) -> tuple[Axis, ...]:
        return tuple(a for a in self.core.batch if a not in self.rows)

    def picture(self, shown: Shown, tile: tuple[int, int] | None, each: Axis | None) -> Picture:
        core, graph = self.core, self.graph
        support = inlined(graph, core.support if core.support is not None else TRUE)
        missing = _missing(support, self.values)
        if missing:
            raise InputError(f"the mask of '{graph.name}' reads {_names(missing)}: give it with --set or --inputs")
        allowed = self.over(support, TRUE).astype(np.bool_)
        lacking: tuple[str, ...] = ()
        told = frozenset((each.name,) if each is not None else ())
        match shown:
            case "pairs":
                score = inlined(graph, core.score)
                lacking = _missing(score, self.values)
                numbers = None if lacking else Numbers("score where q·k = 0", self.over(score, support))
                if numbers is not None and (not allowed.any() or np.ptp(numbers.values[allowed]) == 0):
                    numbers = None  # one number everywhere: the softmax does not see it
                told |= indices(support) if numbers is None else indices(support) | indices(score)
                note = f"{allowed.sum()} of {allowed.size} pairs allowed"
            case "scores":
                numbers, note = self.numbers("score", core.score, support), "scores"
            case "weights":
                numbers = self.numbers("weight", core.weight, support)
                note = _sums(np.where(allowed, numbers.values, 0.0).sum(axis=1))
            case "map":
                numbers = self._map(support)
                note = f"from score to {numbers.name}"
        where = ", ".join(f"{a.name} = {self.at.get(a.name, 0)}" for a in self.batch if a.name in told)
        name = graph.name if len(graph.cores) == 1 or shown == "pairs" else core.name
        rows, columns = _label(self.rows), _label(core.columns)
        tiles = None if tile is None else self._tiles(support, tile)
        return Picture(shown, name, note, where, rows, columns, allowed, numbers, lacking, tiles)

    def over(self, expr: Expr, active: Expr) -> NDArray[Any]:
        """The expression at every pair, [rows, columns]; nobody is interested in pairs where `active` does not hold."""
        axes = (*self.batch, *self.rows, *self.core.columns)
        ranges = tuple(self._range(axis) for axis in axes)
        grid = Grid(tuple(a.name for a in axes), self.sizes, self.values, ranges)
        with np.errstate(all="ignore"):
            only = grid.only(np.broadcast_to(evaluate(active, grid), grid.shape))
            found = np.broadcast_to(evaluate(expr, only), grid.shape)
        return found.reshape([self._extent(self.rows), self._extent(self.core.columns)])

    def numbers(self, name: str, expr: Expr, support: Expr) -> Numbers:
        return Numbers(name, self.over(expr, support).astype(np.float64))

    def _map(self, support: Expr) -> Numbers:
        """What comes of the score as it was first written: the logit under a softmax, else the weight."""
        products = [
            n for n in self.graph if isinstance(n, Reduce) and is_tile(n) and n.name == f"{self.core.name}.score"
        ]
        if not products:
            raise InputError(f"'{self.core.name}' has no score of one product, over which a map could be drawn")
        of_row = any(isinstance(n, Reduce) and n.op == "logsumexp" and n.span == self.core.span for n in self.graph)
        name, expr = ("logit", self.core.score) if of_row else ("weight", self.core.weight)
        against = self.numbers("q·k", own_element(products[0]), support).values
        return Numbers(name, self.numbers(name, expr, support).values, against)

    def _tiles(self, support: Expr, tile: tuple[int, int]) -> Tiles:
        given = analyse(support, self.core.rows, self.core.columns, "column", self.graph.facts)
        sides: dict[Side, int] = {"row": tile[0], "column": tile[1]}
        place = {a.name: self._range(a).start for a in self.core.batch}
        both: dict[Side, tuple[Axis, ...]] = {"row": self.core.rows, "column": self.core.columns}
        return Tiles(tile, Visits(given, both, "column", self.sizes, self.values, place, sides, sides).states())

    def _extent(self, axes: tuple[Axis, ...]) -> int:
        return int(np.prod([size_value(a.size, self.sizes) for a in axes], dtype=np.int64))

    def _range(self, axis: Axis) -> range:
        size = size_value(axis.size, self.sizes)
        if axis not in self.batch:
            return range(size)
        point = self.at.get(axis.name, 0)
        if not 0 <= point < size:
            raise InputError(f"index '{axis.name}' runs from 0 to {size - 1}, not to {point}")
        return range(point, point + 1)


def _sums(totals: NDArray[np.float64]) -> str:
    """What the rows of weights come to."""
    if not totals.size:
        return "weights of no rows"
    least, most = (f"{t:.2g}" for t in (totals.min(), totals.max()))
    return f"weights; a row sums to {least}" + (f" … {most}" if least != most else "")


def inlined(graph: Graph, expr: Expr) -> Expr:
    """The expression in terms of arguments alone: tile values replaced by their definition, dot products by 0."""

    def replace(e: Expr) -> Expr | None:
        if not isinstance(e, Load):
            return None
        node = graph.by_name.get(e.tensor)
        if isinstance(node, Reduce) and is_tile(node):
            return number(0.0)
        if isinstance(node, Map) and position(node.axes, node.groups) == tuple(a.index for a in node.axes):
            body = substitute(node.body, dict(zip((a.index for a in node.axes), e.indices, strict=True)))
            return inlined(graph, body)
        return None

    return rebuild(expr, replace)


def _missing(expr: Expr, values: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(load.tensor for load in loads(expr) if load.tensor not in values))


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _label(axes: tuple[Axis, ...]) -> str:
    return axes[0].name if len(axes) == 1 else f"({' '.join(a.name for a in axes)})" if axes else "(one)"


def _check(argument: Input, value: NDArray[Any]) -> None:
    if value.ndim != len(argument.shape):
        raise InputError(f"'{argument.name}' has {len(argument.shape)} dimensions, and what is given has {value.ndim}")
    if value.dtype.kind not in {Kind.INT: "iu", Kind.BOOL: "biu", Kind.FLOAT: "fiu"}[argument.kind]:
        raise InputError(f"'{argument.name}' is of type {argument.kind.value}, and what is given is {value.dtype}")


def sizes_for(
    graph: Graph, given: Mapping[str, int], values: Mapping[str, Any], shown: Shown = "pairs"
) -> dict[str, int]:
    """Every size: as given, else as the given tensors or the definition have it, else 32 along queries and keys and 1
    along the rest, which is enough to draw a mask; scores are summed over 8 features."""
    sizes = dict(given)
    unknown = sorted(set(given) - {name for name, _ in graph.sizes})
    if unknown:
        raise InputError(f"{_names(tuple(unknown))} is no size of '{graph.name}'")
    for name, value in given.items():
        if value < 0:
            raise InputError(f"size {name}: expected a natural number, got {value}")
    for argument in graph.inputs:
        if argument.name in values:
            _check(argument, np.asarray(values[argument.name]))
        extents = np.shape(values[argument.name]) if argument.name in values else ()
        for whole, dim in zip(extents, argument.shape, strict=True) if extents else ():
            term, extent = open_term(dim, whole, sizes)
            if isinstance(term, Size) and sizes.setdefault(term.name, extent) != extent:
                raise InputError(
                    f"'{argument.name}' has {extent} along {term.name}, which is {sizes[term.name]} elsewhere"
                )
    long, summed = set[str](), set[str]()
    for node in graph:
        if not isinstance(node, Map | Reduce):
            continue
        over = node.over if isinstance(node, Reduce) else ()
        long |= {getattr(axis.size, "name", "") for axis in (*node.axes, *over) if axis.role}
        if is_tile(node) and shown != "pairs":
            summed |= {getattr(axis.size, "name", "") for axis in over}
    for name, definition in graph.sizes:
        if name not in sizes:
            default = 32 if name in long else FEATURES if name in summed else 1
            sizes[name] = default if definition is None else size_value(definition, sizes)
    return sizes
