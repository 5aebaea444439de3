"""Symbolic sizes at run time: evaluation of size expressions, and inference of sizes from the shapes of a call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod

from irc.codegen.expr import Const, Expr, Op, Size, walk
from irc.codegen.fold import whole_power
from irc.runtime.errors import InputError


def evaluate(expr: Expr, sizes: Mapping[str, int]) -> int:
    """The value of an integer expression over sizes; of `where` and `and`, what decides goes first.
    Raises InputError for an unknown size or a division by 0."""
    match expr:
        case Const(value, _):
            return int(value)
        case Size(name):
            if name not in sizes:
                raise InputError(f"size {name} is not known: give it a value, or a tensor whose shape tells it")
            return sizes[name]
        case Op("where", (condition, x, y)):
            return evaluate(x if evaluate(condition, sizes) else y, sizes)
        case Op("and", (x, y)):
            return int(bool(evaluate(x, sizes)) and bool(evaluate(y, sizes)))
        case Op(name, args, _):
            values = [evaluate(a, sizes) for a in args]
            if name in ("floordiv", "mod") and values[1] == 0:
                raise InputError(f"{show(expr)}: division by a size that is 0")
            return _apply(name, values)
    raise TypeError(f"not an expression over sizes: {expr}")


def with_defined(declared: Iterable[tuple[str, Expr | None]], sizes: Mapping[str, int]) -> dict[str, int]:
    """The sizes that are known, and those of the declared ones that these define."""
    known = dict(sizes)
    for name, definition in declared:
        if definition is not None and all(e.name in known for e in walk(definition) if isinstance(e, Size)):
            known[name] = evaluate(definition, known)
    return known


def _apply(name: str, v: list[int]) -> int:
    match name:
        case "add":
            return v[0] + v[1]
        case "sub":
            return v[0] - v[1]
        case "mul":
            return v[0] * v[1]
        case "pow":
            return whole_power(v[0], v[1])
        case "neg":
            return -v[0]
        case "floordiv":
            return v[0] // v[1]
        case "mod":
            return v[0] % v[1]
        case "min":
            return min(v)
        case "max":
            return max(v)
        case "abs":
            return abs(v[0])
        case "clamp":
            return min(max(v[0], v[1]), v[2])
        case "lt":
            return int(v[0] < v[1])
        case "le":
            return int(v[0] <= v[1])
        case "eq":
            return int(v[0] == v[1])
        case "ne":
            return int(v[0] != v[1])
        case "or":
            return int(bool(v[0]) or bool(v[1]))
        case "not":
            return int(not v[0])
        case "flat":
            position = 0
            for index, size in zip(v[::2], v[1::2], strict=True):
                position = position * size + index
            return position
    raise TypeError(f"{name} has no value over sizes")


SIGNS = {"add": "+", "sub": "-", "mul": "*", "floordiv": "//", "mod": "%", "pow": "^"}


def show(expr: Expr) -> str:
    """A size expression as a user wrote it, near enough for a message."""
    match expr:
        case Const(value, _):
            return str(value)
        case Size(name):
            return name
        case Op(name, (a, b), _) if name in SIGNS:
            return f"({show(a)} {SIGNS[name]} {show(b)})"
        case Op(name, args, _):
            return f"{name}({', '.join(show(a) for a in args)})"
    return str(expr)


def unknown(expr: Expr, sizes: Mapping[str, int]) -> tuple[str, ...]:
    """Names of the sizes in the expression that have no value yet, one for each occurrence."""
    return tuple(e.name for e in walk(expr) if isinstance(e, Size) and e.name not in sizes)


def open_term(expr: Expr, total: int, known: Mapping[str, int]) -> tuple[Expr, int]:
    """The term of a sum or difference that holds what is not known, and what it comes to if the whole is `total`."""
    match expr:
        case Op("add", (a, b), _) if not unknown(b, known):
            return open_term(a, total - evaluate(b, known), known)
        case Op("add", (a, b), _) if not unknown(a, known):
            return open_term(b, total - evaluate(a, known), known)
        case Op("sub", (a, b), _) if not unknown(b, known):
            return open_term(a, total + evaluate(b, known), known)
        case Op("sub", (a, b), _) if not unknown(a, known):
            return open_term(b, evaluate(a, known) - total, known)
        case _:
            return expr, total


def infer(
    declared: Sequence[tuple[str, Sequence[Expr]]],
    shapes: Mapping[str, tuple[int, ...]],
    definitions: Sequence[tuple[str, Expr | None]],
    fixed: Mapping[str, int],
) -> dict[str, int]:
    """The value of every size of a call. Raises InputError: tensor, axis, what came, what was expected.

    declared: each tensor with its shape; shapes: what came; definitions: each size, with its expression when it has
    one; fixed: sizes known since compilation.
    """
    return _Inference(declared, shapes, definitions, fixed).solve()


def untold(
    declared: Sequence[tuple[str, Sequence[Expr]]],
    shapes: Mapping[str, tuple[int, ...]],
    definitions: Sequence[tuple[str, Expr | None]],
    fixed: Mapping[str, int],
) -> tuple[str, ...]:
    """The sizes that do not follow from a call's shapes; arguments as of `infer`."""
    inference = _Inference(declared, shapes, definitions, fixed)
    inference.settle()
    return tuple(name for name in inference.names if name not in inference.known)


class _Inference:
    def __init__(
        self,
        declared: Sequence[tuple[str, Sequence[Expr]]],
        shapes: Mapping[str, tuple[int, ...]],
        definitions: Sequence[tuple[str, Expr | None]],
        fixed: Mapping[str, int],
    ) -> None:
        self.known = dict(fixed)
        self.origin = {name: "as compiled" for name in fixed}
        self.defined = [(name, expr) for name, expr in definitions if expr is not None]
        self.names = [name for name, _ in definitions]
        self.dims: list[tuple[str, int, Expr, int]] = []
        for tensor, shape in declared:
            if tensor not in shapes:
                raise InputError(f"{tensor}: missing")
            got = tuple(shapes[tensor])
            if len(got) != len(shape):
                wanted = ", ".join(show(e) for e in shape)
                raise InputError(f"{tensor}: expected {len(shape)} axes [{wanted}], got {len(got)} {list(got)}")
            self.dims.extend((tensor, axis, e, n) for axis, (e, n) in enumerate(zip(shape, got, strict=True)))

    def settle(self) -> None:
        # Bare names first: they say most plainly where a value came from, which is what a conflict shows.
        while self._bare() or self._products() or self._definitions():
            pass

    def solve(self) -> dict[str, int]:
        self.settle()
        for tensor, axis, expr, got in self.dims:
            if not unknown(expr, self.known) and evaluate(expr, self.known) != got:
                raise InputError(f"{tensor} axis {axis}: expected {self._expected(expr)}, got {got}")
        for name, expr in self.defined:
            if name in self.known and not unknown(expr, self.known) and evaluate(expr, self.known) != self.known[name]:
                came = f"{self.known[name]} ({self.origin[name]})"
                raise InputError(f"size {name}: expected {self._expected(expr)}, got {came}")
        mentioned = [s.name for _, _, expr, _ in self.dims for s in walk(expr) if isinstance(s, Size)]
        for name in (*self.names, *mentioned):
            if name not in self.known:
                given = f"give it a value when compiling: sizes={{{name!r}: …}}, or --size {name}=…"
                raise InputError(f"size {name} does not follow from the shapes of the arguments: {given}")
        return self.known

    def _bare(self) -> bool:
        for tensor, axis, expr, got in self.dims:
            if isinstance(expr, Size) and expr.name not in self.known:
                self._learn(expr.name, got, f"from {tensor} axis {axis}")
                return True
        return False

    def _products(self) -> bool:
        for tensor, axis, expr, got in self.dims:
            if len(unknown(expr, self.known)) == 1 and self._divide(expr, got, f"{tensor} axis {axis}"):
                return True
        return False

    def _definitions(self) -> bool:
        for name, expr in self.defined:
            missing = unknown(expr, self.known)
            if name not in self.known and not missing:
                self._learn(name, evaluate(expr, self.known), f"= {show(expr)}")
                return True
            if name in self.known and len(missing) == 1 and self._divide(expr, self.known[name], f"size {name}"):
                return True
        return False

    def _divide(self, expr: Expr, total: int, place: str) -> bool:
        """Learn the one unknown factor of a product, which may be a term of a sum."""
        term, left = open_term(expr, total, self.known)
        factors = _factors(term)
        missing = [f for f in factors if isinstance(f, Size) and f.name not in self.known]
        if len(missing) != 1:
            return False
        rest = prod(evaluate(f, self.known) for f in factors if f is not missing[0])
        if rest == 0:
            return False
        if left % rest or left // rest < 0:
            wanted = f"a multiple of {rest}" if term is expr else f"for some size {missing[0].name}"
            raise InputError(f"{place}: expected {show(expr)}, {wanted}{self._facts(expr)}, got {total}")
        self._learn(missing[0].name, left // rest, f"from {place}")
        return True

    def _learn(self, name: str, value: int, origin: str) -> None:
        self.known[name] = value
        self.origin[name] = origin

    def _expected(self, expr: Expr) -> str:
        value = evaluate(expr, self.known)
        if isinstance(expr, Const):
            return str(value)
        if isinstance(expr, Size):
            return f"{expr.name} = {value} ({self.origin[expr.name]})"
        return f"{show(expr)} = {value}{self._facts(expr)}"

    def _facts(self, expr: Expr) -> str:
        names = dict.fromkeys(e.name for e in walk(expr) if isinstance(e, Size) and e.name in self.known)
        facts = ", ".join(f"{n} = {self.known[n]} {self.origin[n]}" for n in names)
        return f" ({facts})" if facts else ""


def _factors(expr: Expr) -> list[Expr]:
    match expr:
        case Op("mul", args, _):
            return [f for a in args for f in _factors(a)]
        case _:
            return [expr]
