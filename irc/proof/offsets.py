"""What `segment` means, as ground sentences at the segments that are read and the entries of their tables.

Entry n of a table that does not decrease, from the second on, is at most a position if and only if n is at most the
segment of the position. Taken at the segment itself and at the next one, this tells which it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, product

from irc.codegen.expr import TRUE, Expr, Load, Op, integer, loads, offset, op, walk

ZERO, ONE = integer(0), integer(1)
MOST = 400  # pairs of a segment and an entry that are looked at


def meaning(exprs: Sequence[Expr]) -> tuple[Expr, ...]:
    """What holds of the segments that stand in some expressions, at the entries of tables that they read."""
    segments = tuple(dict.fromkeys(e for x in exprs for e in walk(x) if isinstance(e, Op) and e.name == "segment"))
    if not segments:
        return ()
    own = (e for s in segments for e in (entry(s, s), entry(s, op("add", s, ONE))))
    read = dict.fromkeys((*own, *(load for x in exprs for load in loads(x))))
    pairs = ((s, e) for s, e in product(segments, read) if e.tensor == entry(s, s).tensor)
    said = [within(s) for s in segments] + [compared(s, e) for s, e in islice(pairs, MOST)]
    return tuple(dict.fromkeys(e for e in said if e != TRUE))


def entry(segment: Op, n: Expr) -> Load:
    """Entry n of the segment's table."""
    row, *_ = segment.args
    assert isinstance(row, Load)
    return offset(row, n)


def within(segment: Op) -> Expr:
    """That it is the number of an offset."""
    _, count, _ = segment.args
    return op("and", op("le", ZERO, segment), op("le", segment, op("max", op("sub", count, ONE), ZERO)))


def compared(segment: Op, read: Load) -> Expr:
    """That an entry of the same table is at most the position if and only if its number is at most the segment."""
    _, count, position = segment.args
    *row, n = read.indices
    there = op("and", op("le", ONE, n), op("lt", n, count))
    for a, b in zip(entry(segment, n).indices, row, strict=False):
        there = op("and", there, TRUE if a == b else op("eq", a, b))
    return op("or", op("not", there), op("eq", op("le", read, position), op("le", n, segment)))
