"""Which tiles a kernel visits, by the expressions that it evaluates: for pictures, and for tests against the mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irc.codegen.expr import Axis, Expr, Index, integer, substitute
from irc.codegen.kernel import Search, Side, Summary
from irc.graph.interpret import Grid, evaluate, size_value
from irc.mask.analyse import Analysis

Integers = NDArray[np.int64]
Truths = NDArray[np.bool_]
Corners = dict[str, Integers]
EMPTY, PARTIAL, FULL = 0, 1, 2


@dataclass(frozen=True)
class Visits:
    """One mask at one point of the batch axes, cut into tiles. `tile` and `unit` give for each side the positions of a
    tile and of the shortest stretch that is summarised."""

    analysis: Analysis
    axes: Mapping[Side, tuple[Axis, ...]]
    walked: Side
    sizes: Mapping[str, int]
    values: Mapping[str, NDArray[Any]]
    point: Mapping[str, int]
    tile: Mapping[Side, int]
    unit: Mapping[Side, int]

    def states(self) -> NDArray[np.int8]:
        """[row tiles, column tiles]: EMPTY, PARTIAL or FULL; what no span touches is EMPTY."""
        corners: Corners = {}
        places: dict[Side, tuple[int, int]] = {"row": (-1, 1), "column": (1, -1)}
        for side, place in places.items():
            first = np.arange(0, self.extent[side], self.tile[side], dtype=np.int64).reshape(place)
            corners[f"{side} first"] = first
            corners[f"{side} last"] = np.minimum(first + self.tile[side], self.extent[side]) - 1
        may = self.touched(corners) & self.may(corners)
        return np.where(may, np.where(self.must(corners), FULL, PARTIAL), EMPTY).astype(np.int8)

    def touched(self, corners: Corners) -> Truths:
        """Which rectangles the spans of their outer side touch."""
        shape = np.broadcast_shapes(*(c.shape for c in corners.values()))
        if self.analysis.spans is None:
            return np.ones(shape, np.bool_)
        outer: Side = "column" if self.walked == "row" else "row"
        local = {n: c for n, c in corners.items() if n.startswith(outer)}
        local |= self.summarised(local, (outer,))
        for search in self.analysis.searches:
            local[search.name] = self.found(search, local)
        first, last = corners[f"{self.walked} first"], corners[f"{self.walked} last"]
        answer = np.zeros(shape, np.bool_)
        for span in self.analysis.spans:
            low, high = self.value(span.first, local), self.value(span.last, local)
            answer |= (low <= high) & (low <= last) & (high >= first)
        return answer

    def may(self, corners: Corners) -> Truths:
        """The verdict's `may`, over the parts of each rectangle."""
        return self.over_parts(self.analysis.verdict.may, corners, every=False)

    def must(self, corners: Corners) -> Truths:
        return self.over_parts(self.analysis.verdict.must, corners, every=True)

    def over_parts(self, verdict: Expr, corners: Corners, every: bool) -> Truths:
        answer = np.full(np.broadcast_shapes(*(c.shape for c in corners.values())), every)
        columns = self.parts("column", corners)
        for row_first, row_last in self.parts("row", corners):
            for column_first, column_last in columns:
                exists = (row_first <= row_last) & (column_first <= column_last)
                part = {"row first": row_first, "row last": row_last}
                part |= {"column first": column_first, "column last": column_last}
                holds = self.value(verdict, part | self.summarised(part, ("row", "column"))).astype(np.bool_)
                answer = np.where(exists, answer & holds if every else answer | holds, answer)
        return answer

    def parts(self, side: Side, corners: Corners) -> list[tuple[Integers, Integers]]:
        """The parts of each stretch, as `Parts` in ranges.h makes them; first > last where one is missing."""
        first, last = corners[f"{side} first"], corners[f"{side} last"]
        found = []
        for cut in self.analysis.cuts:
            every = int(self.value(cut.every, {})) if cut.side == side else 0
            if every <= 0:
                continue
            end = np.minimum(first - first % every + every - 1, last)
            head = (first % every != 0) | (end == last)
            found.append((first, np.where(head, end, first - 1)))
            first = np.where(head, end + 1, first)
            start = last - last % every
            tail = (first <= last) & (last % every != every - 1)
            found.append((np.where(tail, start, last + 1), last))
            last = np.where(tail, start - 1, last)
        return [*found, (first, last)]

    # what the expressions read

    @cached_property
    def extent(self) -> dict[Side, int]:
        return {s: int(np.prod([size_value(a.size, self.sizes) for a in axes])) for s, axes in self.axes.items()}

    @cached_property
    def vectors(self) -> dict[str, Integers]:
        return {s.name: self.vector(s) for s in self.analysis.summaries}

    def vector(self, summary: Summary) -> Integers:
        axes = self.axes[summary.side]
        ranges = tuple(range(size_value(a.size, self.sizes)) for a in axes)
        grid = Grid(tuple(a.name for a in axes), self.sizes, self.values, ranges)
        return np.broadcast_to(evaluate(self.placed(summary.value), grid), grid.shape).reshape(-1).astype(np.int64)

    def value(self, expr: Expr, local: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        return evaluate(self.placed(expr), Grid((), self.sizes, self.values, (), local))

    def placed(self, expr: Expr) -> Expr:
        """The expression at this point of the batch."""
        return substitute(expr, {Index(name): integer(at) for name, at in self.point.items()})

    def summarised(self, corners: Corners, sides: tuple[Side, ...]) -> Corners:
        """Least and greatest values on the stretches, as `Summary` in ranges.h answers them."""
        answer: Corners = {}
        for summary in self.analysis.summaries:
            if summary.side not in sides:
                continue
            first, last = np.broadcast_arrays(corners[f"{summary.side} first"], corners[f"{summary.side} last"])
            low, high = np.zeros(first.shape, np.int64), np.zeros(first.shape, np.int64)
            for at in np.ndindex(first.shape):
                if first[at] <= last[at]:
                    inside = self.vectors[summary.name][self.stretch(summary.side, int(first[at]), int(last[at]))]
                    low[at], high[at] = inside.min(), inside.max()
            answer |= {f"{summary.name} low": low, f"{summary.name} high": high}
        return answer

    def stretch(self, side: Side, first: int, last: int) -> slice:
        """The units around a stretch, or where those are many the tiles."""
        unit, tile = self.unit[side], self.tile[side]
        step = unit if last // unit - first // unit < 4 else tile
        return slice(first // step * step, (last // step + 1) * step)

    def found(self, search: Search, local: Corners) -> Integers:
        vector = self.vectors[search.summary]
        unit = self.unit[self.walked]
        bounds = self.value(search.value, local)
        if search.up_to:
            return np.asarray(-(-np.searchsorted(vector, bounds, "right") // unit) * unit - 1)
        return np.asarray(np.searchsorted(vector, bounds, "left") // unit * unit)
