"""The ways in which a mask nearly says what was meant: each undone, as a candidate for the right predicate."""

from __future__ import annotations

from collections.abc import Iterator

from irc.codegen.expr import (
    Const,
    Expr,
    Kind,
    Local,
    Op,
    conjuncts,
    indices,
    integer,
    is_lookup,
    loads,
    op,
    rebuild,
    substitute,
    walk,
)
from irc.graph.ir import Core
from irc.graph.printer import expression
from irc.graph.size import polynomial

OPPOSITE = {"lt": "le", "le": "lt"}


def repairs(predicate: Expr, core: Core) -> Iterator[tuple[str, Expr]]:
    """What was done to the predicate, and the predicate without it; the smallest changes first."""
    for part in conjuncts(predicate):
        for name, changed in _repairs(part, core):
            if changed != part:
                yield name, rebuild(predicate, {part: changed}.get)
    if len(conjuncts(predicate)) > 1:
        yield from ((name, new) for name, new in _repairs(predicate, core) if name in ("transposed", "complemented"))


def _repairs(part: Expr, core: Core) -> Iterator[tuple[str, Expr]]:
    for comparison in dict.fromkeys(e for e in walk(part) if isinstance(e, Op) and e.name in OPPOSITE):
        a, b = comparison.args
        swapped = op(OPPOSITE[comparison.name], a, b)
        moved = (op(comparison.name, a, shifted(b, -1)), op(comparison.name, a, shifted(b, 1)))
        for new in (*moved, swapped) if any(isinstance(e, Const) for e in walk(b)) else (swapped, *moved):
            yield "off by one", substitute(part, {comparison: new})
    yield "alignment negated", _with_offset_added(part, core)
    yield "alignment lost", aligned(part, core)
    yield "transposed", _transposed(part, core)
    yield "complemented", negated(part)


def shifted(expr: Expr, by: int) -> Expr:
    """The integer plus `by`, a constant at its end taken in."""
    match expr:
        case Op("add", (x, Const(value, Kind.INT)), _):
            return shifted(x, int(value) + by)
        case Op("sub", (x, Const(value, Kind.INT)), _):
            return shifted(x, by - int(value))
    return op("add", expr, integer(by)) if by >= 0 else op("sub", expr, integer(-by))


def aligned(part: Expr, core: Core) -> Expr:
    """Each comparison of a bare query index with a key made one of the query's position."""
    mapping: dict[Expr, Expr] = {}
    for row, position in zip(core.rows, core.position, strict=False):
        mapping |= {position: position, row.index: position}
    keys = {c.name for c in core.columns}

    def replace(e: Expr) -> Expr | None:
        compares = isinstance(e, Op) and e.name in ("lt", "le", "eq", "ne") and indices(e) & keys
        return rebuild(e, lambda x: x if is_lookup(x) else mapping.get(x)) if compares else None

    return rebuild(part, replace)


def _with_offset_added(part: Expr, core: Core) -> Expr:
    """`i - offset` made `i + offset`, which is the query's position."""
    wrong = {}
    for row, position in zip(core.rows, core.position, strict=False):
        if position != row.index:
            wrong[op("sub", op("add", row.index, row.index), position)] = position
    forms = [(polynomial(e, {}), position) for e, position in wrong.items()]

    def replace(e: Expr) -> Expr | None:
        if not (isinstance(e, Op) and e.name in ("add", "sub")):
            return e if is_lookup(e) else None
        form = polynomial(e, {})
        return next((position for other, position in forms if form == other), None)

    return rebuild(part, replace)


def _transposed(part: Expr, core: Core) -> Expr:
    """Query positions and keys exchanged, axis by axis; as it is where a table would be read beyond its end."""
    mapping: dict[Expr, Expr] = {}
    places = core.position or tuple(r.index for r in core.rows)
    for row, position, column in zip(core.rows, places, core.columns, strict=False):
        if row.size != column.size and {row.name, column.name} & {n for load in loads(part) for n in indices(load)}:
            return part
        mapping |= {position: column.index, row.index: column.index, column.index: position}
    return substitute(part, mapping)


def negated(predicate: Expr) -> Expr:
    """`not predicate`, without a `not` where comparisons can do."""
    match predicate:
        case Op("not", (x,), _):
            return x
        case Op("lt" | "le" as name, (a, b), _):
            return op(OPPOSITE[name], b, a)
        case Op("eq", args, _):
            return op("ne", *args)
        case Op("ne", args, _):
            return op("eq", *args)
        case Op("and", (a, b), _):
            return op("or", negated(a), negated(b))
        case Op("or", (a, b), _):
            return op("and", negated(a), negated(b))
        case _:
            return op("not", predicate)


def written(expr: Expr, core: Core) -> str:
    """The expression as one would write it in the core, `pos(i)` included."""
    names: dict[Expr, Expr] = {}
    for row, position in zip(core.rows, core.position, strict=False):
        if position != row.index:
            names[position] = Local(f"pos({row.name})", Kind.INT)
    return expression(substitute(_tidy(expr), names))


def _tidy(expr: Expr) -> Expr:
    """`a < b + 1` as `a <= b`, `a <= b - 1` as `a < b`, `not` of a comparison as the opposite one."""

    def replace(e: Expr) -> Expr | None:
        match e:
            case Op("not", (Op("lt" | "le" | "eq" | "ne") as inner,), _):
                return _tidy(negated(inner))
            case Op("lt", (a, Op("add", (b, Const(1, Kind.INT)), _)), _):
                return op("le", a, b)
            case Op("le", (a, Op("sub", (b, Const(1, Kind.INT)), _)), _):
                return op("lt", a, b)
            case Op("lt", (Op("sub", (a, Const(1, Kind.INT)), _), b), _):
                return op("le", a, b)
            case Op("le", (Op("add", (a, Const(1, Kind.INT)), _), b), _):
                return op("lt", a, b)
        return None

    return rebuild(expr, replace)
