"""What a loop nest computes outside of its inner loops: numbers that take long and that these do not change.

They are made of indices, sizes and scalars alone. So they may be computed where the nest would not, beside a branch
that is taken or before loops that are empty: no element of a tensor is read for them. (A segment reads its table's row,
wherever it stands.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from irc.codegen.expr import Axis, Const, Expr, Kind, Load, Local, Op, indices, rebuild, walk
from irc.codegen.kernel import Target
from irc.codegen.names import identifier
from irc.codegen.printer import in_double, print_scalar

CALLED = frozenset(("pow", "sin", "cos"))  # tens of nanoseconds each: the order of loops heeds them
LONG = CALLED | {"div", "exp", "share", "log", "sqrt", "rsqrt", "tanh", "sigmoid", "erf", "random", "segment"}
DIVIDING = frozenset(("floordiv", "mod"))  # long, and a lot of code, by a number that is not known


@dataclass(frozen=True, slots=True)
class Constant:
    """A named number, the same all through the loops inside the first `depth` ones."""

    depth: int
    type: str
    name: str
    text: str


def is_long(expr: Expr) -> bool:
    """Whether the expression is worth a name, and may be evaluated anywhere in a nest."""
    if not isinstance(expr, Op) or (expr.name in DIVIDING and isinstance(expr.args[1], Const)):
        return False
    return expr.name == "segment" or (expr.name in LONG | DIVIDING and is_free(expr))


def is_free(expr: Expr) -> bool:
    """Whether no element of a tensor is read, and no tile value."""
    return not any(isinstance(e, Local) or (isinstance(e, Load) and e.indices) for e in walk(expr))


def calls(expr: Expr) -> Iterator[Expr]:
    """The calls of long functions that may be evaluated anywhere."""
    return (e for e in walk(expr) if isinstance(e, Op) and e.name in CALLED and is_free(e))


class Outside:
    """The long numbers of a nest of loops over `axes`, as they are met in expressions. Those that are known inside of
    the outermost loops are named inside the first `shared` ones, which have nothing between them."""

    def __init__(self, axes: tuple[Axis, ...], shared: int) -> None:
        self.place = {axis.name: number for number, axis in enumerate(axes, 1)}
        self.shared = shared
        self.found: dict[tuple[Expr, bool], tuple[Local, Constant]] = {}

    def depth(self, expr: Expr) -> int:
        """How many of the loops an expression is in; one more than there are if it depends on others. Nothing is read
        where the shared loops are empty."""
        depth = max((self.place.get(name, len(self.place) + 1) for name in indices(expr)), default=0)
        return max(depth, self.shared) if depth or not is_free(expr) else 0

    def replaced(self, expr: Expr, inside: int, wide: bool = False) -> Expr:
        """The expression, evaluated in so many of the loops, with names for what is known in fewer; `wide`: as a part
        of what is computed in double."""

        def fn(part: Expr) -> Expr | None:
            if is_long(part) and (depth := self.depth(part)) < inside:
                return self._named(part, depth, wide)
            if isinstance(part, Op) and in_double(part) and not wide:
                return replace(part, args=tuple(self.replaced(e, inside, wide=True) for e in part.args))
            return None

        return rebuild(expr, fn)

    def condition(self, expr: Expr, inside: int) -> Expr:
        """A condition of the nest, evaluated in so many of the loops, by one name if it is known in fewer. It may read
        elements, which exist there."""
        depth = self.depth(expr)
        if not isinstance(expr, Op) or not 0 < depth < inside:
            return self.replaced(expr, inside)
        return self._named(expr, depth, wide=False)

    def target(self, target: Target, inside: int) -> Target:
        return Target(target.tensor, tuple(self.replaced(i, inside) for i in target.indices))

    def _named(self, expr: Expr, depth: int, wide: bool) -> Local:
        if (expr, wide) not in self.found:
            assert isinstance(expr, Op)
            args = tuple(self.replaced(e, depth, wide or in_double(expr)) for e in expr.args)
            # No name of a program has a dot.
            local = Local(f"known.{len(self.found)}", expr.kind, wide and expr.kind is Kind.FLOAT)
            type_ = {Kind.BOOL: "bool", Kind.INT: "int64_t", Kind.FLOAT: "double" if wide else "T"}[expr.kind]
            text = print_scalar(replace(expr, args=args))
            if local.wide:
                text = f"[&] {{ using T = double; return {text}; }}()"
            self.found[expr, wide] = local, Constant(depth, type_, identifier(local.name), text)
        return self.found[expr, wide][0]

    def constants(self, depth: int) -> tuple[Constant, ...]:
        """Those of a depth, in the order in which they need each other."""
        return tuple(constant for _, constant in self.found.values() if constant.depth == depth)
