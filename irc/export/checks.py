"""What an entry for C checks first: what `contract.py` and `runtime/sizes.py` check of a call on arrays."""

from __future__ import annotations

from collections.abc import Mapping

from irc.calls.contract import needed
from irc.codegen.expr import (
    Axis,
    Const,
    Expr,
    Index,
    Kind,
    Load,
    Local,
    Op,
    Size,
    integer,
    loads,
    number,
    op,
    substitute,
    walk,
)
from irc.codegen.library import Check
from irc.graph.intervals import through
from irc.graph.ir import Fact, Graph, shape
from irc.graph.magnitudes import MOST, magnitude, may_wrap
from irc.runtime.sizes import show

LARGEST = integer(2**31 - 1)
ZERO = integer(0)
Interval = tuple[Expr, Expr] | None  # None: anything


def size_checks(graph: Graph, known: Graph, fixed: Mapping[str, int]) -> tuple[Check, ...]:
    """What must hold of the sizes alone. `known` is the graph with the fixed sizes written in."""
    checks = []
    values: dict[Expr, Expr] = {Size(name): integer(value) for name, value in fixed.items()}
    for name, definition in graph.sizes:
        if definition is None and name not in fixed:
            text = f"size {name} is not between 0 and {show(LARGEST)}"
            checks.append(Check((), op("and", op("le", ZERO, Size(name)), op("le", Size(name), LARGEST)), text))
        elif definition is not None and name in fixed:
            text = f"size {name} is not {show(definition)}: the library is for {name} = {fixed[name]}"
            checks.append(Check((), op("eq", substitute(definition, values), integer(fixed[name])), text))
        elif definition is not None:
            values[Size(name)] = substitute(definition, values)
    for node in known.inputs:
        checks.append(Check((), _countable(node.shape), f"{node.name}: 2^40 elements or more"))
        for axis, size in enumerate(node.shape):
            if any(isinstance(e, Op) and e.name not in ("add", "mul") for e in walk(size)):
                checks.append(Check((), op("le", ZERO, size), f"{node.name} axis {axis}: {show(size)} is negative"))
    checks += [check for fact in known.facts if not loads(fact.predicate) for check in _fact(fact)]
    for each in needed(known):
        if not isinstance(each.size, Const) and not each.where:
            checks.append(Check((), _unless_empty(op("lt", ZERO, each.size), each.axes), each.wrong))
    return tuple(checks)


def input_checks(known: Graph) -> tuple[Check, ...]:
    """What must hold of scalars and tables: facts, and accesses that could not be proved."""
    facts = tuple(check for fact in known.facts if loads(fact.predicate) for check in _fact(fact))
    return facts + tuple(_access(load, axes, known) for load, axes in known.accesses)


def _countable(shape: tuple[Expr, ...]) -> Expr:
    """Whether there are so few elements that no integer of an entry overflows; in floating point, which does not."""
    total: Expr = number(1.0)
    for size in shape:
        total = op("mul", total, op("float", size))
    return op("lt", total, number(2.0**40))


def _fact(fact: Fact) -> tuple[Check, ...]:
    """That the fact holds, and where 64 bits might not hold what it computes, that they do."""
    wraps = may_wrap(fact.predicate)
    return (*((_in_64_bits(fact),) if wraps else ()), _holds(fact))


def _in_64_bits(fact: Fact) -> Check:
    def most(part: Expr) -> Expr:
        found = _interval(part, fact.free)
        if found is None or (isinstance(part, Load) and not part.indices):
            found = part, part
        return op("float", op("max", op("abs", found[0]), op("abs", found[1])))

    held = op("le", magnitude(fact.predicate, most), MOST)
    text = f"the program assumes {fact.text}, for which numbers beyond 64 bits may be computed"
    return Check((), _unless_empty(held, fact.free), text)


def _holds(fact: Fact) -> Check:
    predicate, along = fact.predicate, fact.nondecreasing
    if along is not None:
        index = Index(along)
        before = substitute(predicate, {index: op("sub", index, integer(1))})
        predicate = op("or", op("lt", index, integer(1)), op("le", before, predicate))
    for e in walk(fact.predicate):  # nothing is a multiple of 0
        if isinstance(e, Op) and e.name in ("floordiv", "mod") and not isinstance(e.args[1], Const):
            predicate = op("and", op("ne", e.args[1], ZERO), predicate)
    return Check(fact.free, predicate, f"the program assumes {fact.text}")


def _access(load: Load, axes: tuple[Axis, ...], graph: Graph) -> Check:
    """The index of every dimension inside the tensor, or no point at which it is read."""
    inside: Expr = Const(True, Kind.BOOL)
    for index, size in zip(load.indices, shape(graph[load.tensor]), strict=True):
        found = _interval(index, axes)
        if found is None:
            inside = Const(False, Kind.BOOL)
        else:
            inside = op("and", inside, op("and", op("le", ZERO, found[0]), op("lt", found[1], size)))
    return Check((), _unless_empty(inside, axes), f"{load.tensor}: an index may leave its axis")


def _unless_empty(holds: Expr, axes: tuple[Axis, ...]) -> Expr:
    """That it holds, or that there is no point of the axes."""
    for axis in axes:
        holds = op("or", op("eq", axis.size, ZERO), holds)
    return holds


def _interval(expr: Expr, axes: tuple[Axis, ...]) -> Interval:
    """Least and greatest value of an integer expression over all points of the axes; see `contract.interval`."""
    match expr:
        case Const() | Size():
            return expr, expr
        case Index(name):
            return ZERO, op("sub", next(a.size for a in axes if a.name == name), integer(1))
        case Load(tensor, _, Kind.INT):
            return Local(f"{tensor}.least", Kind.INT), Local(f"{tensor}.greatest", Kind.INT)
        case Op("segment", (Load(_, row, _) as first, count, position), _):
            found, last = _interval(position, axes), op("max", op("sub", count, integer(1)), ZERO)
            if found is None or len(row) > 1:  # the table may have other rows
                return ZERO, last
            return op("segment", first, count, found[0]), op("segment", first, count, found[1])
        case Op(name, args, Kind.INT):
            parts = [_interval(a, axes) for a in args if a.kind is Kind.INT]
            known = [p for p in parts if p is not None]
            return _operate(name, known) if len(known) == len(parts) else None
    return None


def _operate(name: str, v: list[tuple[Expr, Expr]]) -> Interval:
    match name, v:  # a divisor is at least 1: a fact says so where it is not plain
        case "pow", [(Const(base, _), _), (c, d)] if base >= 1:
            return op("pow", integer(int(base)), c), op("pow", integer(int(base)), d)
        case "mod", [(a, b), (c, d)]:
            plain = op("and", op("le", ZERO, a), op("lt", b, c))
            return op("where", plain, a, ZERO), op("where", plain, b, op("sub", d, integer(1)))
    return through(name, v, op, ZERO)
