"""Verdicts of many masks on every rectangle of small sizes, against brute force."""

from __future__ import annotations

import math
from functools import cache
from itertools import product

import numpy as np
import pytest

from irc.codegen.expr import Axis, Expr, Index, Kind, Load, Local, Size, flat, integer, op
from irc.codegen.kernel import Side
from irc.graph.interpret import evaluate, grid
from irc.graph.ir import Fact
from irc.mask.analyse import analyse
from irc.mask.visits import Visits

QUERIES, KEYS = Size("I"), Size("J")
i, j = Axis("i", QUERIES, "row"), Axis("j", KEYS, "column")
y, x = Axis("y", Size("Y"), "row"), Axis("x", Size("X"), "row")
v, u = Axis("v", Size("Y"), "column"), Axis("u", Size("X"), "column")
r, c = i.index, j.index
w = Load("w", (Index("h"),), Kind.INT)
ROW_AT = flat(((y.index, y.size), (x.index, x.size)))
COLUMN_AT = flat(((v.index, v.size), (u.index, u.size)))

SPAN = np.arange(64)
TABLES = {
    "w": np.asarray([3]),
    "document": SPAN * 5 // 7,
    "shuffled": SPAN * 5 % 11,
    "allowed": (SPAN[:, None] * 7 + SPAN * 3) % 5 < 2,
    "block": (SPAN[:, None] * 7 + SPAN * 3) % 3 < 1,
    "prefix": np.asarray([4]),
    "real": SPAN % 5 < 3,
    "start": SPAN * 7 // 5,
    "offset": np.asarray([0, 2, 2, 5, 9, 10]),
    "other": np.asarray([1, 3, 4, 4, 7]),  # begins late, ends early
    "none": np.zeros(0, np.int64),
}


def le(a: Expr, b: Expr) -> Expr:
    return op("le", a, b)


def lt(a: Expr, b: Expr) -> Expr:
    return op("lt", a, b)


def both(*parts: Expr) -> Expr:
    total = parts[0]
    for part in parts[1:]:
        total = op("and", total, part)
    return total


def either(*parts: Expr) -> Expr:
    total = parts[0]
    for part in parts[1:]:
        total = op("or", total, part)
    return total


def less(a: Expr | int, b: Expr | int) -> Expr:
    return op("sub", *(integer(e) if isinstance(e, int) else e for e in (a, b)))


def every(e: Expr, n: int | Expr) -> Expr:
    return op("floordiv", e, n if not isinstance(n, int) else integer(n))


def rest(e: Expr, n: int | Expr) -> Expr:
    return op("mod", e, n if not isinstance(n, int) else integer(n))


def document(e: Expr) -> Expr:
    return Load("document", (e,), Kind.INT)


def shuffled(e: Expr) -> Expr:
    return Load("shuffled", (e,), Kind.INT)


def start(e: Expr) -> Expr:
    return Load("start", (e,), Kind.INT)


def segment(table: str, e: Expr) -> Expr:
    return op("segment", Load(table, (integer(0),), Kind.INT), integer(len(TABLES[table])), e)


def of(table: str, n: Expr) -> Expr:
    return Load(table, (op("clamp", n, integer(0), integer(len(TABLES[table]) - 1)),), Kind.INT)


CAUSAL = le(c, r)
ALIGNED = op("add", r, less(KEYS, QUERIES))
DISTANCE = less(r, c)
WINDOW = both(CAUSAL, lt(less(r, 3), c))
near_y = op("abs", less(y.index, v.index))
near_x = op("abs", less(x.index, u.index))

MASKS: dict[str, Expr] = {
    "causal": CAUSAL,
    "strict": lt(c, r),
    "aligned": le(c, ALIGNED),
    "window": WINDOW,
    "run-time window": both(CAUSAL, lt(less(r, w), c)),
    "aligned window": both(le(c, ALIGNED), lt(less(ALIGNED, w), c)),
    "symmetric window": le(op("abs", DISTANCE), integer(2)),
    "dilated": op("eq", rest(DISTANCE, 2), integer(0)),
    "dilated causal": both(CAUSAL, op("eq", rest(DISTANCE, 3), integer(0))),
    "divided by the other side": either(CAUSAL, op("eq", rest(r, op("max", c, integer(1))), integer(0))),
    "dilated by a scalar": op("eq", rest(DISTANCE, w), integer(1)),
    "prefix": either(CAUSAL, lt(c, Load("prefix", (Index("h"),), Kind.INT))),
    "length": lt(c, w),
    "block-causal": le(every(c, 4), every(r, 4)),
    "block-diagonal": op("eq", every(c, 3), every(r, 3)),
    "blocks of a run-time size": op("eq", every(c, w), every(r, w)),
    "block diffusion": either(op("eq", every(r, 4), every(c, 4)), lt(every(c, 4), every(r, 4))),
    "sink and window": both(CAUSAL, either(lt(less(r, 3), c), lt(c, integer(2)))),
    "global rows and columns": either(lt(r, integer(2)), lt(c, integer(2)), WINDOW),
    "global by period": either(op("eq", rest(c, 4), integer(0)), WINDOW),
    "not causal": op("not", CAUSAL),
    "not window": op("not", WINDOW),
    "not dilated": op("not", op("eq", rest(DISTANCE, 2), integer(0))),
    "off the diagonal": op("ne", r, c),
    "diagonal": op("eq", r, c),
    "antidiagonal": le(op("add", r, c), QUERIES),
    "documents": op("eq", document(r), document(c)),
    "causal documents": both(CAUSAL, op("eq", document(r), document(c))),
    "documents in any order": op("eq", shuffled(r), shuffled(c)),
    "order by a table": le(shuffled(c), shuffled(r)),
    "places": le(less(c, start(c)), less(r, start(r))),
    "real keys": Load("real", (c,), Kind.BOOL),
    "causal real keys": both(CAUSAL, Load("real", (c,), Kind.BOOL)),
    "unreal rows": op("not", Load("real", (r,), Kind.BOOL)),
    "blocks by a table": Load("block", (every(r, 3), every(c, 3)), Kind.BOOL),
    "keys by a table": le(op("add", Load("document", (op("add", every(r, 2), c),), Kind.INT), c), r),
    "table": Load("allowed", (r, c), Kind.BOOL),
    "not table, causal": both(CAUSAL, op("not", Load("allowed", (r, c), Kind.BOOL))),
    "bucket of documents": le(rest(document(c), 4), integer(3)),
    "where by side": op("where", lt(r, integer(4)), le(c, r), lt(c, integer(4))),
    "where inside": le(c, op("where", lt(r, integer(4)), integer(3), r)),
    "where of a document": le(op("where", lt(r, integer(2)), integer(0), document(c)), integer(9)),
    "clamped": le(c, op("clamp", r, integer(2), integer(6))),
    "min and max": le(op("max", less(r, 2), integer(0)), op("min", c, integer(5))),
    "products": le(op("mul", r, c), integer(20)),
    "product with a scalar": le(op("mul", less(w, 5), c), op("neg", r)),
    "scaled": le(op("mul", integer(2), c), op("add", r, integer(3))),
    "equal truths": op("eq", lt(r, integer(4)), lt(c, integer(4))),
    "segments": op("eq", segment("offset", r), segment("offset", c)),
    "causal segments": both(CAUSAL, op("eq", segment("offset", c), segment("offset", r))),
    "segments of two tables": op("eq", segment("offset", r), segment("other", c)),
    "earlier segments": lt(segment("other", c), less(segment("offset", r), 1)),
    "later segments": le(op("add", segment("other", r), integer(2)), segment("offset", c)),
    "other segments": op("ne", segment("offset", r), segment("offset", c)),
    "segments of shifted positions": op("eq", segment("offset", less(r, 3)), segment("offset", op("add", c, r))),
    "segments of blocks": le(segment("offset", every(c, 2)), segment("other", op("mul", integer(2), r))),
    "segments of a descending position": le(segment("offset", less(9, c)), segment("offset", r)),
    "segment of a distance": op("eq", segment("offset", DISTANCE), integer(2)),
    "segments of no table": le(segment("none", c), less(segment("none", r), c)),
    "the third segment": op("eq", segment("offset", c), integer(2)),
    "from the start of the segment": both(CAUSAL, le(of("offset", segment("offset", r)), c)),
    "to the end of the segment": lt(c, of("offset", op("add", segment("offset", r), integer(1)))),
    "rows of the segment": le(of("offset", segment("offset", c)), r),
    "window in the segment": both(
        op("eq", segment("offset", r), segment("offset", c)),
        lt(less(less(r, of("offset", segment("offset", r))), 2), less(c, of("offset", segment("offset", c)))),
        CAUSAL,
    ),
    "last aligned in the segment": both(
        op("eq", segment("offset", r), segment("other", c)),
        le(
            less(c, of("other", op("add", segment("other", c), integer(1)))),
            less(r, of("offset", op("add", segment("offset", r), integer(1)))),
        ),
    ),
    "nothing": lt(c, less(c, 1)),
    "everything": le(c, op("add", c, integer(1))),
    "cross windows": op("eq", every(rest(r, 6), 2), every(rest(c, 6), 2)),
}

GRIDS: dict[str, Expr] = {
    "neighbourhood": both(le(near_y, integer(1)), le(near_x, integer(1))),
    "diamond": le(op("add", near_y, near_x), integer(2)),
    "tiles": both(op("eq", every(y.index, 2), every(v.index, 2)), op("eq", every(x.index, 2), every(u.index, 2))),
    "raster causal": le(COLUMN_AT, ROW_AT),
    "twice raster causal": le(op("mul", integer(2), COLUMN_AT), op("mul", integer(2), ROW_AT)),
    "rows of the grid": le(v.index, y.index),
    "columns of the grid": op("eq", x.index, u.index),
    "far": op("not", le(op("max", near_y, near_x), integer(1))),
}

EXACT = {
    "causal", "strict", "aligned", "run-time window", "symmetric window", "length", "block-causal", "not causal",
    "off the diagonal", "prefix", "nothing", "everything", "scaled",
    "real keys", "unreal rows", "order by a table", "places", "dilated",
    "segments", "earlier segments", "later segments", "other segments", "segments of blocks", "segment of a distance",
    "from the start of the segment", "to the end of the segment",
}  # fmt: skip


@cache
def rectangles(extent: int) -> list[tuple[int, int]]:
    return [(first, first + width - 1) for width in (1, 2, 3, 4, 8) for first in range(0, extent - width + 1)]


def corners(row: tuple[int, int], column: tuple[int, int]) -> dict[str, np.ndarray]:
    ends = {"row first": row[0], "row last": row[1], "column first": column[0], "column last": column[1]}
    return {name: np.asarray(at) for name, at in ends.items()}


def visits(
    mask: Expr, rows: tuple[Axis, ...], columns: tuple[Axis, ...], sizes: dict[str, int], walked: Side = "column",
    facts: tuple[Fact, ...] = (),
) -> Visits:  # fmt: skip
    """The analysis on the tables above, its summaries exact on every stretch."""
    given = analyse(mask, rows, columns, walked, facts)
    one: dict[Side, int] = {"row": 1, "column": 1}
    return Visits(given, {"row": rows, "column": columns}, walked, sizes, TABLES, {"h": 0}, one, one)


def truth(mask: Expr, rows: tuple[Axis, ...], columns: tuple[Axis, ...], sizes: dict[str, int]) -> np.ndarray:
    """The mask over flattened positions."""
    points = grid((*rows, *columns, Axis("h", integer(1))), TABLES, sizes)
    count = math.prod(points.shape[: len(rows)])
    return np.broadcast_to(evaluate(mask, points), points.shape).reshape(count, -1)


def check(mask: Expr, rows: tuple[Axis, ...], columns: tuple[Axis, ...], sizes: dict[str, int]) -> bool:
    """Assert soundness; answer whether the verdict was exact throughout."""
    given = visits(mask, rows, columns, sizes)
    expected = truth(mask, rows, columns, sizes)
    exact = True
    row, column = (np.asarray(rectangles(extent)).reshape(-1, 2) for extent in expected.shape)
    at = {"row first": row[:, :1], "row last": row[:, 1:], "column first": column[:, 0], "column last": column[:, 1]}
    may, must = given.may(at), given.must(at)
    for (r, (a, b)), (c, (d, e)) in product(enumerate(row), enumerate(column)):
        inside = expected[a : b + 1, d : e + 1]
        assert may[r, c] or not inside.any(), (sizes, a, b, d, e)
        assert inside.all() or not must[r, c], (sizes, a, b, d, e)
        exact = exact and may[r, c] == inside.any() and must[r, c] == inside.all()
    return exact


@pytest.mark.parametrize("name", MASKS)
def test_sides_of_one_axis(name: str) -> None:
    exact = [check(MASKS[name], (i,), (j,), {"I": rows, "J": columns}) for rows, columns in ((9, 9), (5, 11), (11, 4))]
    assert all(exact) or name not in EXACT


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (1, 5), (5, 1)])
def test_sides_of_two_axes(name: str, shape: tuple[int, int]) -> None:
    exact = check(GRIDS[name], (y, x), (v, u), {"Y": shape[0], "X": shape[1]})
    assert exact or "raster" not in name


def test_sides_of_three_axes() -> None:
    rows = (Axis("a", Size("A"), "row"), Axis("b", Size("B"), "row"), Axis("d", Size("D"), "row"))
    middle = both(le(Index("b"), integer(1)), le(c, op("add", Index("a"), Index("d"))))
    check(middle, rows, (j,), {"A": 2, "B": 3, "D": 2, "J": 6})


def test_every_common_mask_skips_far_tiles() -> None:
    for name in ("causal", "window", "block-causal", "symmetric window", "prefix", "sink and window"):
        far = corners((32, 63), (256, 319))
        assert not visits(MASKS[name], (i,), (j,), {"I": 512, "J": 512}).may(far), name


def test_two_sizes_that_cancel_leave_no_size() -> None:
    given = analyse(le(op("add", c, QUERIES), op("add", r, QUERIES)), (i,), (j,), "column").verdict
    assert given.may == le(Local("column first", Kind.INT), Local("row last", Kind.INT))
    assert given.must == le(Local("column last", Kind.INT), Local("row first", Kind.INT))


def test_a_vector_is_summarised_once() -> None:
    given = analyse(MASKS["causal documents"], (i,), (j,), "column")
    assert [(s.side, s.value) for s in given.summaries] == [("row", document(r)), ("column", document(c))]


def test_a_sum_with_a_table_is_one_vector() -> None:
    place, other = less(r, start(r)), less(c, start(c))
    given = analyse(lt(less(place, 3), other), (i,), (j,), "column")
    assert [(s.side, s.value) for s in given.summaries] == [("row", place), ("column", other)]


def test_equal_entries_cancel_what_is_read_with_them() -> None:
    """Where two tokens belong to one document, its start plays no part in their distance."""
    place, other = less(r, start(document(r))), less(c, start(document(c)))
    mask = both(op("eq", document(r), document(c)), lt(less(place, 3), other), le(other, place))
    far = corners((40, 43), (32, 35))
    assert not visits(mask, (i,), (j,), {"I": 48, "J": 48}).may(far)
    assert check(mask, (i,), (j,), {"I": 12, "J": 12}) is not None
