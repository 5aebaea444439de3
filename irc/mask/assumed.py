"""What a program assumes of its integers, as numbers: the least and the greatest value of a scalar or of a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from irc.codegen.expr import Const, Expr, Index, Kind, Load, Op, Size
from irc.codegen.narrow import FITS, MOST
from irc.graph.ir import Fact


def bounds(facts: Iterable[Fact]) -> tuple[tuple[str, int, int], ...]:
    """(name, least, greatest) of the scalars and tables of which a fact says more than that they have 32 bits. A size,
    and a product of sizes, is a number of tokens."""
    found: dict[str, tuple[int, int]] = {}
    for fact in facts:
        if fact.nondecreasing is None:
            for name, least, most in _told(fact.predicate):
                low, high = found.get(name, FITS)
                found[name] = max(low, least), min(high, most)
    return tuple((name, low, high) for name, (low, high) in found.items() if low <= high)


def _told(predicate: Expr) -> Iterator[tuple[str, int, int]]:
    match predicate:
        case Op("and", (x, y), _):
            yield from _told(x)
            yield from _told(y)
        case Op("lt" | "le" as name, (x, y), _) if x.kind is Kind.INT:
            apart = 1 if name == "lt" else 0
            if (high := _end(y, MOST)) is not None and (multiple := _multiple(x)):
                yield multiple[1].tensor, FITS[0], (high - apart) // multiple[0]
            if (low := _end(x, 0)) is not None and (multiple := _multiple(y)):
                yield multiple[1].tensor, -((-low - apart) // multiple[0]), FITS[1]


def _end(e: Expr, size: int) -> int | None:
    """The value of a number, and `size` for sizes."""
    match e:
        case Const(value, _):
            return int(value)
        case Size():
            return size
        case Op("mul", (x, y), _) if _is_count(x) and _is_count(y):
            return size
        case _:
            return None


def _is_count(e: Expr) -> bool:
    return isinstance(e, Size) or (isinstance(e, Op) and e.name == "mul" and all(map(_is_count, e.args)))


def _multiple(e: Expr) -> tuple[int, Load] | None:
    """A whole table, or a scalar, and how often it is taken."""
    match e:
        case Load(_, at, Kind.INT) if all(isinstance(index, Index) for index in at) and len(set(at)) == len(at):
            return 1, e
        case Op("mul", (Const(factor), x), _) | Op("mul", (x, Const(factor)), _) if factor > 0:
            inner = _multiple(x)
            return None if inner is None else (int(factor) * inner[0], inner[1])
        case _:
            return None
