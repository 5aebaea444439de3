"""Which keys to try where a row must have one: guesses read off the claim, the likeliest first.

A guess is a value of each `some` axis in terms of the row: the query's own position, the ends of the axis, and where a
comparison of the predicate turns over (`len[b] - 1` of `j < len[b]`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations, product

from irc.codegen.expr import Axis, Expr, Index, Load, Op, integer, loads, offset, op, walk
from irc.graph.ir import Core
from irc.graph.size import Polynomial, constant, expression, polynomial
from irc.proof.claim import Claim
from irc.proof.smt import unfolded

MOST = 60  # guesses tried
Witness = dict[Expr, Expr]


def witnesses(claim: Claim, core: Core | None) -> tuple[Witness, ...]:
    """Values of the `some` axes, the likeliest first."""
    lists = [list(dict.fromkeys(_guesses(axis, claim, core, number))) for number, axis in enumerate(claim.some)]
    ranked = sorted(product(*(enumerate(guesses) for guesses in lists)), key=_rank)
    names = [a.index for a in claim.some]
    return tuple(dict(zip(names, (e for _, e in point), strict=True)) for point in ranked[:MOST])


def _rank(point: tuple[tuple[int, Expr], ...]) -> tuple[int, int]:
    """Like guesses for like axes come first."""
    ranks = [r for r, _ in point]
    return max(ranks), sum(ranks)


def _guesses(axis: Axis, claim: Claim, core: Core | None, number: int) -> Iterator[Expr]:
    first, last = integer(0), op("sub", axis.size, integer(1))
    if core is not None and len(core.position) == len(claim.some):
        yield core.position[number]
    positions = core.position if core is not None else ()
    own = [a.index for a in claim.free if a.size == axis.size]
    if core is not None and len(core.rows) == len(claim.some):
        own = [a for a in own if a == core.rows[number].index] or own
    yield from own
    yield from positions
    yield first
    yield last
    bounds = [b for b in dict.fromkeys(_turns(claim.goal, axis.index)) if b not in (first, last, *own, *positions)]
    for bound in bounds:
        yield bound
    for bound in bounds:
        yield op("max", integer(0), bound)
        yield op("min", last, bound)
        yield op("max", integer(0), op("min", last, bound))
    for at in (*own, *positions):
        for bound in bounds:
            yield op("max", at, bound)
            yield op("min", at, bound)
    for first_bound, second in permutations(bounds, 2):
        yield op("max", first_bound, second)
        yield op("min", first_bound, second)
    yield from (a.index for a in claim.free if a.index not in own)


def _turns(goal: Expr, name: Index) -> Iterator[Expr]:
    """Values of the index at which a part of the predicate turns over, or meets another part."""
    for part in walk(goal):
        match part:
            case Op("lt", (a, b), _):
                yield from _zeros(op("sub", a, b), name, step=1)
            case Op("le" | "eq", (a, b), _):
                yield from _zeros(op("sub", a, b), name)
            case Op("abs", (a,), _):
                yield from _zeros(a, name)
            case Load(tensor, at, _):
                for other in loads(goal):
                    if other.tensor == tensor and other != part:
                        for x, y in zip(at, other.indices, strict=True):
                            yield from _zeros(op("sub", x, y), name)


def _zeros(difference: Expr, name: Index, step: int = 0) -> Iterator[Expr]:
    """Where an integer expression, linear in the index or in a quotient, remainder or segment of it, is 0; with `step`,
    -1."""
    if difference.kind.value != "int":
        return
    p = polynomial(unfolded(difference), {})
    holding = [(m, c) for m, c in p.terms if any(name in walk(a) for a in m)]
    if len(holding) != 1 or len(holding[0][0]) != 1 or abs(holding[0][1]) != 1:
        return
    ((atom,), sign) = holding[0]
    rest = Polynomial(tuple(t for t in p.terms if t != holding[0])) + constant(step)
    value = expression(rest * constant(-sign))
    match atom:
        case Index():
            yield value
        case Op("floordiv", (inner, by), _) if name not in walk(by):
            yield from _zeros(op("sub", inner, op("mul", value, by)), name)
        case Op("mod", (inner, by), _) if name not in walk(by):
            yield from _zeros(op("sub", inner, value), name)
        case Op("abs", (inner,), _):
            yield from _zeros(inner, name)
        case Op("segment", (Load() as row, _, inner), _) if name not in walk(row):  # the first of its positions
            yield from _zeros(op("sub", inner, offset(row, value)), name)


def named(claim: Claim, core: Core | None, witness: Witness) -> str:
    """The witness in the text of the language."""
    from irc.graph.printer import expression as printed

    positions: dict[Expr, Sequence[str]] = {}
    if core is not None:
        positions = {p: [r.name] for p, r in zip(core.position, core.rows, strict=False) if not isinstance(p, Index)}
    parts = []
    for axis in claim.some:
        value = witness[axis.index]
        written = f"pos({positions[value][0]})" if value in positions else printed(value)
        parts.append(f"{axis.name} = {written}")
    return ", ".join(parts)
