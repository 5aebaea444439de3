"""Verdicts of many masks on every rectangle of small sizes, against brute force."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product

import pytest

from irc.codegen.expr import Axis, Const, Expr, Index, Kind, Load, Local, Op, Size, flat, integer, op
from irc.mask.interval import verdict

QUERIES, KEYS = Size("I"), Size("J")
i, j = Axis("i", QUERIES, "row"), Axis("j", KEYS, "column")
y, x = Axis("y", Size("Y"), "row"), Axis("x", Size("X"), "row")
v, u = Axis("v", Size("Y"), "column"), Axis("u", Size("X"), "column")
r, c = i.index, j.index
w = Load("w", (Index("h"),), Kind.INT)
ROW_AT = flat(((y.index, y.size), (x.index, x.size)))
COLUMN_AT = flat(((v.index, v.size), (u.index, u.size)))

_OPS: dict[str, Callable[..., int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
    "min": min,
    "max": max,
    "abs": abs,
    "clamp": lambda a, low, high: min(max(a, low), high),
    "floordiv": lambda a, b: a // b if b else 0,
    "mod": lambda a, b: a % b if b else 0,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
    "not": lambda a: not a,
    "where": lambda condition, a, b: a if condition else b,
}
TABLES: dict[str, Callable[..., int]] = {
    "w": lambda: 3,
    "document": lambda at: (at * 5) // 7,
    "allowed": lambda a, b: (a * 7 + b * 3) % 5 < 2,
    "prefix": lambda: 4,
}


def value(expr: Expr, at: dict[str, int]) -> int:
    match expr:
        case Const(number, _):
            return int(number)
        case Index(name) | Size(name) | Local(name, _):
            return at[name]
        case Load(tensor, indices, _):
            return TABLES[tensor](*[value(e, at) for e in indices if e != Index("h")])
        case Op("flat", parts, _):
            total = 0
            for index, size in zip(parts[::2], parts[1::2], strict=True):
                total = total * value(size, at) + value(index, at)
            return total
        case Op(name, args, _):
            return _OPS[name](*[value(e, at) for e in args])


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


def less(a: Expr, b: Expr | int) -> Expr:
    return op("sub", a, b if not isinstance(b, int) else integer(b))


def every(e: Expr, n: int | Expr) -> Expr:
    return op("floordiv", e, n if not isinstance(n, int) else integer(n))


def rest(e: Expr, n: int | Expr) -> Expr:
    return op("mod", e, n if not isinstance(n, int) else integer(n))


def document(e: Expr) -> Expr:
    return Load("document", (e,), Kind.INT)


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
}  # fmt: skip


@cache
def rectangles(extent: int) -> list[tuple[int, int]]:
    return [(first, first + width - 1) for width in (1, 2, 3, 4, 8) for first in range(0, extent - width + 1)]


def check(mask: Expr, rows: tuple[Axis, ...], columns: tuple[Axis, ...], sizes: dict[str, int]) -> bool:
    """Assert soundness; answer whether the verdict was exact throughout."""
    given = verdict(mask, rows, columns)

    def positions(axes: tuple[Axis, ...]) -> list[dict[str, int]]:
        ranges = [range(value(axis.size, sizes)) for axis in axes]
        return [dict(zip([a.name for a in axes], point, strict=True)) for point in product(*ranges)]

    row_points, column_points = positions(rows), positions(columns)
    truth = [[bool(value(mask, sizes | a | b)) for b in column_points] for a in row_points]
    exact = True
    for row_first, row_last in rectangles(len(row_points)):
        for column_first, column_last in rectangles(len(column_points)):
            corners = {"row_first": row_first, "row_last": row_last}
            corners |= {"column_first": column_first, "column_last": column_last}
            may, must = bool(value(given.may, sizes | corners)), bool(value(given.must, sizes | corners))
            inside = [p for line in truth[row_first : row_last + 1] for p in line[column_first : column_last + 1]]
            assert may or not any(inside), (sizes, corners)
            assert all(inside) or not must, (sizes, corners)
            exact = exact and may == any(inside) and must == all(inside)
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


def test_every_common_mask_skips_and_fills_something() -> None:
    for name in ("causal", "window", "block-causal", "symmetric window", "prefix", "sink and window"):
        given = verdict(MASKS[name], (i,), (j,))
        corners = {"row_first": 32, "row_last": 63, "I": 512, "J": 512}
        far = corners | {"column_first": 256, "column_last": 319}
        assert not value(given.may, far), name


def test_two_sizes_that_cancel_leave_no_size() -> None:
    given = verdict(le(op("add", c, QUERIES), op("add", r, QUERIES)), (i,), (j,))
    assert given.may == le(Local("column_first", Kind.INT), Local("row_last", Kind.INT))
    assert given.must == le(Local("column_last", Kind.INT), Local("row_first", Kind.INT))
