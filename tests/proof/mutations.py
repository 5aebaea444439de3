"""Mutants of a mask: what a hand that slips writes instead. Tables are read at their own entries, so none is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from irc.codegen.expr import TRUE, Const, Expr, Kind, Load, Op, children, integer, op, rebuild
from irc.graph.ir import Core
from irc.proof.flow import all_of, conjuncts

COUNT = 10
Mutant = tuple[str, Expr]


def mutants(core: Core, seed: int = 0) -> tuple[Mutant, ...]:
    """Ten mutants of the core's mask, each with its name; where one change gives fewer, some have two."""
    mask = core.support if core.support is not None else TRUE
    once = list(_distinct(_changed(mask, core), mask))
    rng = np.random.default_rng(seed)
    order = [once[k] for k in rng.permutation(len(once))]
    if len(order) < COUNT:
        twice = ((f"{a}, {b}", m) for a, one in order for b, m in _changed(one, core))
        order += [m for m in _distinct(twice, mask) if m[1] not in {e for _, e in order}]
    return tuple(order[:COUNT])


def _distinct(found: Iterator[Mutant], mask: Expr) -> Iterator[Mutant]:
    seen = {mask}
    for name, mutant in found:
        if mutant not in seen:
            seen.add(mutant)
            yield name, mutant


def _changed(mask: Expr, core: Core) -> Iterator[Mutant]:
    yield "complemented", op("not", mask)
    yield "transposed", _transposed(mask, core)
    row, column = core.rows[-1].index if core.rows else None, core.columns[-1].index
    for name, index in (("key", column), ("query", row)):
        if index is not None:
            yield f"{name} one later", _put(mask, index, op("add", index, integer(1)))
            yield f"{name} one earlier", _put(mask, index, op("sub", index, integer(1)))
    if row is not None and len(core.rows) == len(core.columns):
        yield "alignment shifted", _put(mask, row, op("add", row, op("sub", core.columns[-1].size, integer(1))))
        yield "alignment negated", _put(mask, row, op("sub", core.rows[-1].size, op("add", row, integer(1))))
        for place, axis in zip(core.position, core.rows, strict=False):
            if place != axis.index:
                yield "alignment lost", _put(mask, place, axis.index)
    parts = conjuncts(mask)
    for k in range(len(parts)):
        yield f"without part {k}", all_of(parts[:k] + parts[k + 1 :])
    for kind, change in (("boundary", _boundary), ("and for or", _other_logic), ("negated", _negated)):
        for k, e in enumerate(_places(mask, change)):
            new = change(e)
            assert new is not None
            yield f"{kind} {k}", _put(mask, e, new)
    for k, e in enumerate(_places(mask, _width)):
        yield f"width {k} one more", _put(mask, e, op("add", e, integer(1)))
        yield f"width {k} one less", _put(mask, e, op("sub", e, integer(1)))


def _outside(e: Expr) -> Iterator[Expr]:
    """The expression and what is below it, index expressions of tables left out."""
    yield e
    if not isinstance(e, Load):
        for child in e.args[2:] if isinstance(e, Op) and e.name == "segment" else children(e):
            yield from _outside(child)


def _places(mask: Expr, change: Callable[[Expr], Expr | None]) -> list[Expr]:
    return [e for e in dict.fromkeys(_outside(mask)) if change(e) is not None]


def _put(mask: Expr, old: Expr, new: Expr) -> Expr:
    def put(e: Expr) -> Expr | None:
        match e:
            case _ if e == old:
                return new
            case Load():
                return e
            case Op("segment", (row, count, position), _):
                return op("segment", row, count, _put(position, old, new))
        return None

    return rebuild(mask, put)


def _transposed(mask: Expr, core: Core) -> Expr:
    pairs = list(zip(core.rows, core.columns, strict=False))
    swapped: dict[Expr, Expr] = {a.index: b.index for a, b in pairs} | {b.index: a.index for a, b in pairs}
    alike = all(a.size == b.size for a, b in pairs)
    return rebuild(mask, lambda e: e if isinstance(e, Load) and not alike else swapped.get(e))


def _boundary(e: Expr) -> Expr | None:
    match e:
        case Op("lt", (a, b), _):
            return op("le", a, b)
        case Op("le", (a, b), _):
            return op("lt", a, b)
        case Op("eq", (a, b), _) if a.kind is Kind.INT:
            return op("le", a, b)
        case _:
            return None


def _other_logic(e: Expr) -> Expr | None:
    match e:
        case Op("and", (a, b), _):
            return op("or", a, b)
        case Op("or", (a, b), _):
            return op("and", a, b)
        case _:
            return None


def _negated(e: Expr) -> Expr | None:
    """A comparison turned round."""
    match e:
        case Op("lt" | "le" as name, (a, b), _):
            return op(name, b, a)
        case Op("eq", (a, b), _):
            return op("ne", a, b)
        case Load() if e.kind is Kind.BOOL:
            return op("not", e)
        case _:
            return None


def _width(e: Expr) -> Expr | None:
    """A number that says how far: a scalar, an entry of a table, a plain constant."""
    is_far = isinstance(e, Load) or (isinstance(e, Const) and e.value)
    return e if is_far and e.kind is Kind.INT else None
