"""Walked ranges of many masks for every tile of small sizes, in both orders, against brute force."""

from __future__ import annotations

from itertools import product
from typing import Literal

import pytest

from irc.codegen.expr import Axis, Expr, Local, Size, integer, op, walk
from irc.mask.bounds import MOST, spans
from tests.mask.test_interval import GRIDS, MASKS, c, i, j, r, u, v, value, x, y

Side = Literal["row", "column"]
EXACT = {
    "causal", "strict", "aligned", "window", "run-time window", "aligned window", "symmetric window", "length",
    "block-causal", "block-diagonal", "blocks of a run-time size", "not causal", "diagonal", "antidiagonal", "prefix",
    "sink and window", "nothing", "scaled",
}  # fmt: skip
"""Masks whose ranges hold no position that a tile does not need, up to gaps between those that it needs."""


def positions(axes: tuple[Axis, ...], sizes: dict[str, int]) -> list[dict[str, int]]:
    ranges = [range(value(axis.size, sizes)) for axis in axes]
    return [dict(zip([a.name for a in axes], point, strict=True)) for point in product(*ranges)]


def check(mask: Expr, rows: tuple[Axis, ...], columns: tuple[Axis, ...], sizes: dict[str, int], walked: Side) -> bool:
    """Assert that every supported pair lies in a range; answer whether no range goes beyond what is needed."""
    found = spans(mask, rows, columns, walked)
    row_points, column_points = positions(rows, sizes), positions(columns, sizes)
    truth = [[bool(value(mask, sizes | a | b)) for b in column_points] for a in row_points]
    if walked == "row":
        truth = [list(line) for line in zip(*truth, strict=True)] if truth else []
    outer = "row" if walked == "column" else "column"
    extent = len(column_points if walked == "column" else row_points)
    exact = True
    for width, first in product((1, 2, 3, 5), range(len(truth))):
        last = min(first + width, len(truth)) - 1
        corners = sizes | {f"{outer}_first": first, f"{outer}_last": last}
        needed = {at for line in truth[first : last + 1] for at, holds in enumerate(line) if holds}
        ends = (
            [(0, extent - 1)] if found is None else [(value(s.first, corners), value(s.last, corners)) for s in found]
        )
        touched = {at for low, high in ends for at in range(max(low, 0), min(high, extent - 1) + 1)}
        assert needed <= touched, (corners, needed - touched)
        hull = set(range(min(needed), max(needed) + 1)) if needed else set()
        exact = exact and touched <= hull
    return exact


@pytest.mark.parametrize("walked", ["row", "column"])
@pytest.mark.parametrize("name", MASKS)
def test_ranges_of_one_axis(name: str, walked: Side) -> None:
    shapes = ((9, 9), (5, 11), (11, 4), (1, 6), (6, 1))
    exact = [check(MASKS[name], (i,), (j,), {"I": rows, "J": columns}, walked) for rows, columns in shapes]
    assert all(exact) or name not in EXACT


@pytest.mark.parametrize("walked", ["row", "column"])
@pytest.mark.parametrize("name", GRIDS)
def test_ranges_of_two_axes(name: str, walked: Side) -> None:
    for shape in ((3, 4), (4, 3), (1, 5), (5, 1)):
        check(GRIDS[name], (y, x), (v, u), {"Y": shape[0], "X": shape[1]}, walked)


def test_rows_of_the_plane_are_a_range() -> None:
    found = spans(GRIDS["neighbourhood"], (y, x), (v, u), "column")
    assert found is not None
    [span] = found
    at = {"Y": 64, "X": 32, "row_first": 640, "row_last": 671}
    assert (value(span.first, at), value(span.last, at)) == (19 * 32, 22 * 32 - 1)


def test_ranges_read_the_tile_and_nothing_that_is_walked() -> None:
    for name, mask in MASKS.items():
        for span in spans(mask, (i,), (j,), "column") or ():
            corners = {e.name for end in (span.first, span.last) for e in walk(end) if isinstance(e, Local)}
            assert corners <= {"row_first", "row_last"}, name


def test_many_alternatives_are_drawn_together() -> None:
    blocks = [
        op("and", op("le", op("add", r, integer(9 * n)), c), op("le", c, integer(20 * n))) for n in range(2 * MOST)
    ]
    mask = blocks[0]
    for block in blocks[1:]:
        mask = op("or", mask, block)
    found = spans(mask, (i,), (j,), "column")
    assert found is not None and len(found) <= MOST
    check(mask, (i,), (j,), {"I": 20, "J": 90}, "column")


def test_a_divisor_that_is_not_positive_bounds_nothing() -> None:
    mask = op("le", op("floordiv", c, Size("K")), op("sub", r, Size("K")))
    divided = op("le", op("floordiv", c, op("sub", Size("K"), integer(4))), integer(-1))
    for k in (1, 2, 3):
        check(mask, (i,), (j,), {"I": 6, "J": 9, "K": k}, "column")
        check(divided, (i,), (j,), {"I": 6, "J": 9, "K": k}, "column")
