"""Walked ranges of many masks for every tile of small sizes, in both orders, against brute force."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from irc.codegen.expr import Axis, Expr, Index, Kind, Load, Local, Size, integer, op, walk
from irc.codegen.kernel import Side
from irc.graph.interpret import Grid, evaluate
from irc.graph.ir import Fact
from irc.mask.analyse import analyse
from irc.mask.bounds import MOST
from tests.mask.test_interval import GRIDS, KEYS, MASKS, c, document, i, j, r, segment, truth, u, v, visits, x, y

EXACT = {
    "causal", "strict", "aligned", "window", "run-time window", "aligned window", "symmetric window", "length",
    "block-causal", "block-diagonal", "blocks of a run-time size", "not causal", "diagonal", "antidiagonal", "prefix",
    "sink and window", "nothing", "scaled", "segments", "causal segments", "the third segment",
}  # fmt: skip
"""Masks whose ranges hold no position that a tile does not need, up to gaps between those that it needs."""


def check(
    mask: Expr, rows: tuple[Axis, ...], columns: tuple[Axis, ...], sizes: dict[str, int], walked: Side,
    facts: tuple[Fact, ...] = (),
) -> bool:  # fmt: skip
    """Assert that every supported pair lies in a range; answer whether no range goes beyond what is needed."""
    given = visits(mask, rows, columns, sizes, walked, facts)
    expected = truth(mask, rows, columns, sizes)
    if walked == "row":
        expected = expected.T
    outer = "row" if walked == "column" else "column"
    place = np.arange(expected.shape[1])
    exact = True
    for width, first in product((1, 2, 3, 5), range(len(expected))):
        last = min(first + width, len(expected)) - 1
        ends = {f"{outer} first": np.asarray([first]), f"{outer} last": np.asarray([last])}
        touched = given.touched(ends | {f"{walked} first": place, f"{walked} last": place})
        needed = expected[first : last + 1].any(axis=0)
        assert (touched | ~needed).all(), (sizes, first, last)
        [at] = np.nonzero(needed)
        exact = exact and not touched[place < (at.min() if len(at) else len(place))].any()
        exact = exact and not touched[place > (at.max() if len(at) else -1)].any()
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
    found = analyse(GRIDS["neighbourhood"], (y, x), (v, u), "column").spans
    assert found is not None
    [span] = found
    at = Grid((), {"Y": 64, "X": 32}, {}, (), {"row first": np.asarray(640), "row last": np.asarray(671)})
    assert (evaluate(span.first, at), evaluate(span.last, at)) == (19 * 32, 22 * 32 - 1)


@pytest.mark.parametrize("walked", ["row", "column"])
def test_ranges_read_the_tile_and_nothing_that_is_walked(walked: Side) -> None:
    for name, mask in MASKS.items():
        given = analyse(mask, (i,), (j,), walked)
        own = {s.name for s in given.summaries if s.side == walked}
        for span in given.spans or ():
            read = {e.name for end in (span.first, span.last) for e in walk(end) if isinstance(e, Local)}
            assert not any(n.startswith(walked) or n.rsplit("_", 1)[0] in own for n in read), name


@pytest.mark.parametrize("modulus", [op("max", c, integer(1)), document(c), document(i.index)])
def test_stretches_are_cut_by_what_is_the_same_for_all_pairs(modulus: Expr) -> None:
    for m, cut in ((integer(4), True), (modulus, False)):
        found = analyse(op("eq", op("mod", i.index, m), integer(0)), (i,), (j,), "column")
        assert bool(found.cuts) == cut


@pytest.mark.parametrize("walked", ["row", "column"])
def test_ranges_across_are_those_of_the_other_walk(walked: Side) -> None:
    other: Side = "row" if walked == "column" else "column"
    fact = Fact(document(Index("s")), (Axis("s", KEYS),), "nondecreasing document[s] over s", "s")
    for name, mask in MASKS.items():
        found, wanted = (analyse(mask, (i,), (j,), side, (fact,)) for side in (walked, other))
        assert found.across == (None if wanted.spans is None else (wanted.spans, wanted.searches)), name


@pytest.mark.parametrize("walked", ["row", "column"])
def test_sorted_documents_are_a_range(walked: Side) -> None:
    fact = Fact(document(Index("s")), (Axis("s", KEYS),), "nondecreasing document[s] over s", "s")
    for name in ("documents", "causal documents"):
        assert analyse(MASKS[name], (i,), (j,), walked).searches == ()
        assert len(analyse(MASKS[name], (i,), (j,), walked, (fact,)).searches) == 2
        for rows, columns in ((12, 12), (5, 17), (17, 5)):
            assert check(MASKS[name], (i,), (j,), {"I": rows, "J": columns}, walked, (fact,))


@pytest.mark.parametrize("walked", ["row", "column"])
def test_segments_are_a_range_without_a_pass_over_their_positions(walked: Side) -> None:
    """Where a segment begins and ends is read from its table."""
    for name in ("segments", "causal segments", "segments of two tables"):
        found = analyse(MASKS[name], (i,), (j,), walked)
        assert found.spans is not None and (found.summaries, found.searches) == ((), ())


@pytest.mark.parametrize("walked", ["row", "column"])
def test_offsets_of_segments_are_in_order(walked: Side) -> None:
    begins = Load("offset", (segment("offset", r),), Kind.INT)
    fact = Fact(Load("offset", (Index("n"),), Kind.INT), (Axis("n", Size("N")),), "nondecreasing offset[n] over n", "n")
    mask = op("and", op("le", c, r), op("le", begins, c))
    assert check(mask, (i,), (j,), {"I": 12, "J": 12}, walked, (fact,))
    assert check(mask, (i,), (j,), {"I": 12, "J": 12}, walked) == (walked == "column")


def test_many_alternatives_are_drawn_together() -> None:
    blocks = [
        op("and", op("le", op("add", r, integer(9 * n)), c), op("le", c, integer(20 * n))) for n in range(2 * MOST)
    ]
    mask = blocks[0]
    for block in blocks[1:]:
        mask = op("or", mask, block)
    found = analyse(mask, (i,), (j,), "column").spans
    assert found is not None and len(found) <= MOST
    check(mask, (i,), (j,), {"I": 20, "J": 90}, "column")


def test_a_divisor_that_is_not_positive_bounds_nothing() -> None:
    mask = op("le", op("floordiv", c, Size("K")), op("sub", r, Size("K")))
    divided = op("le", op("floordiv", c, op("sub", Size("K"), integer(4))), integer(-1))
    for k in (1, 2, 3):
        check(mask, (i,), (j,), {"I": 6, "J": 9, "K": k}, "column")
        check(divided, (i,), (j,), {"I": 6, "J": 9, "K": k}, "column")
