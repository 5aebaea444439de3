"""An innermost loop in stretches, in each of which a condition of its body says the same.

A condition in a loop, as at the borders of a convolution, keeps the compiler from vectors. What it says of the
innermost index is where it begins to hold and where it ends; so the loop is three, none of which asks. What does not
depend on the index is made before each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from irc.codegen.expr import (
    Axis,
    Expr,
    Kind,
    Load,
    Local,
    Op,
    children,
    conjuncts,
    indices,
    integer,
    joined,
    op,
    rebuild,
    substitute,
    walk,
)
from irc.codegen.kernel import Target
from irc.codegen.names import identifier
from irc.codegen.outside import is_free
from irc.codegen.printer import in_double
from irc.codegen.slopes import slope

MOST = 3  # conditions by which a loop is divided
BRANCHES = frozenset(("where", "and", "or", "floor"))  # of which the compiler makes jumps


@dataclass(frozen=True, slots=True)
class Named:
    """A number with a name, printed."""

    type: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """A loop from one place up to another, what is the same all through it, its body, and where that is stored."""

    first: str
    bound: str
    constants: tuple[Named, ...]
    body: str
    target: str


@dataclass(frozen=True, slots=True)
class _Held:
    """Where a condition holds along an axis: from the greatest of `lows` to below all `highs`, if `others` hold."""

    lows: tuple[Expr, ...]
    highs: tuple[Expr, ...]
    others: tuple[Expr, ...]


@dataclass
class Stretches:
    """Of one loop along an axis, between `cuts`; none where nothing is gained. `target`: where the loop stores;
    `printed` prints an expression, `lvalue` such a place; where the body is `nothing` there is nothing to be done."""

    axis: Axis
    target: Target
    nothing: Expr | None
    printed: Callable[[Expr], str]
    lvalue: Callable[[Target], str]
    cuts: list[Named] = field(default_factory=list)
    loops: list[Stretch] = field(default_factory=list)
    constants: int = 0

    def divide(self, body: Expr, where: Expr | None, elsewhere: Expr, first: str, last: str) -> None:
        """The loop over the body where `where` holds, over `elsewhere` where it does not."""
        if where is None:
            self._add(body, first, last)
        elif (held := _held(where, self.axis)) is not None:
            self._add_around(held, body, elsewhere, first, last)
        if not self.cuts and not any(_branches(e) for e in _same((body, *self.target.indices), self.axis)):
            self.loops.clear()

    def _add(self, body: Expr, first: str, last: str) -> None:
        if body == self.nothing:
            return
        found = _asked(body, self.axis) if len(self.cuts) < 2 * MOST else None
        if found is None:
            self.loops.append(self._stretch(body, first, last))
            return
        condition, held = found
        self._add_around(held, _chosen(body, condition, 1), _chosen(body, condition, 2), first, last)

    def _add_around(self, held: _Held, inside: Expr, outside: Expr, first: str, last: str) -> None:
        begin, end = first, last
        if held.lows:
            begin = self._cut(_between(self._joined("max", held.lows), first, last))
            self._add(outside, first, begin)
        if held.highs:
            end = _between(self._joined("min", held.highs), begin, last)
        if held.others:  # what is read for a condition exists where there are points
            asked = " && ".join((f"{first} < {last}", *(f"({self.printed(part)})" for part in held.others)))
            end = f"{asked} ? {end} : {begin}"
        if end != last:
            end = self._cut(end)
            self._add(outside, end, last)
        self._add(inside, begin, end)

    def _cut(self, text: str) -> str:
        name = identifier(f"cut.{len(self.cuts)}")  # no name of a program has a dot
        self.cuts.append(Named("int64_t", name, text))
        return name

    def _joined(self, name: str, parts: tuple[Expr, ...]) -> str:
        return self.printed(joined(name, parts))

    def _stretch(self, body: Expr, first: str, last: str) -> Stretch:
        names: dict[Expr, Expr] = {}
        constants: list[Named] = []
        for part in _same((body, *self.target.indices), self.axis):
            local = Local(f"same.{self.constants}", part.kind)
            type_ = {Kind.BOOL: "bool", Kind.INT: "int64_t", Kind.FLOAT: "T"}[part.kind]
            constants.append(Named(type_, identifier(local.name), self.printed(part)))
            names[part] = local
            self.constants += 1
        at = replace(self.target, indices=tuple(substitute(index, names) for index in self.target.indices))
        return Stretch(first, last, tuple(constants), self.printed(substitute(body, names)), self.lvalue(at))


def _between(text: str, first: str, last: str) -> str:
    return f"std::clamp<int64_t>({text}, {first}, {last})"


def _asked(body: Expr, axis: Axis) -> tuple[Expr, _Held] | None:
    """A condition that every evaluation of the body asks, if it holds for one stretch of the axis."""
    return next(((c, held) for c in _conditions(body, axis) if (held := _held(c, axis)) is not None), None)


def _conditions(expr: Expr, axis: Axis) -> Iterator[Expr]:
    if axis.name not in indices(expr):
        return
    if isinstance(expr, Op) and expr.name == "where":
        yield expr.args[0]
    else:
        for part in children(expr):
            yield from _conditions(part, axis)


def _chosen(body: Expr, condition: Expr, branch: int) -> Expr:
    """The body where the condition holds (branch 1), or where it does not (2)."""

    def choose(part: Expr) -> Expr | None:
        if isinstance(part, Op) and part.name == "where" and part.args[0] == condition:
            return rebuild(part.args[branch], choose)
        return None

    return rebuild(body, choose)


def _same(exprs: Iterable[Expr], axis: Axis) -> tuple[Expr, ...]:
    """What every evaluation of the expressions reads and is the same all along the axis, each part as a whole, but sums
    and products of indices; none of what is computed in double, or is a table's place."""
    found: dict[Expr, None] = {}

    def look(part: Expr) -> None:
        if axis.name not in indices(part):
            if isinstance(part, Load | Op) and (part.kind is not Kind.INT or not is_free(part)):
                found[part] = None
        elif not isinstance(part, Op) or not (part.name in ("where", "and", "or", "segment") or in_double(part)):
            for child in children(part):
                look(child)

    for expr in exprs:
        look(expr)
    return tuple(found)


def _branches(part: Expr) -> bool:
    return any(isinstance(e, Op) and e.name in BRANCHES for e in walk(part))


def _held(condition: Expr, axis: Axis) -> _Held | None:
    """Where it holds, if that is one stretch, told by comparisons of integers that read no tensor."""
    lows: list[Expr] = []
    highs: list[Expr] = []
    others: list[Expr] = []
    start: dict[Expr, Expr] = {axis.index: integer(0)}
    for part in conjuncts(condition):
        if axis.name not in indices(part):
            others.append(part)
            continue
        match part:
            case Op("le" | "lt" | "eq" as sign, (left, right)) if left.kind is Kind.INT and is_free(part):
                by = slope(op("sub", right, left), axis.name)
            case _:
                return None
        if by not in (1, -1):
            return None
        left, right = substitute(left, start), substitute(right, start)
        place = op("sub", left, right) if by == 1 else op("sub", right, left)  # where both sides are equal
        after = op("add", place, integer(1))
        match sign, by:
            case "eq", _:
                lows.append(place)
                highs.append(after)
            case _, 1:
                lows.append(place if sign == "le" else after)
            case _:
                highs.append(after if sign == "le" else place)
    return _Held(tuple(lows), tuple(highs), tuple(others))
