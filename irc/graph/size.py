"""Sizes: integer polynomials over symbolic sizes, in a canonical form that decides equality.

An atom is a `Size`, or an operation that no polynomial expresses (`H // G`). A polynomial maps monomials, which are
sorted tuples of atoms, to integer coefficients.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

from irc.codegen.expr import Const, Expr, Kind, Op, Size, integer, op, walk

Monomial = tuple[Expr, ...]
Definitions = Mapping[str, Expr | None]


def size_names(exprs: Iterable[Expr]) -> tuple[str, ...]:
    """Of the sizes in expressions, each once, as they come."""
    return tuple(dict.fromkeys(e.name for expr in exprs for e in walk(expr) if isinstance(e, Size)))


@dataclass(frozen=True, slots=True)
class Polynomial:
    """The sum of coefficient * product of atoms; terms sorted, no zero coefficient."""

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: Polynomial) -> Polynomial:
        return _collect([*self.terms, *other.terms])

    def __sub__(self, other: Polynomial) -> Polynomial:
        return self + other * constant(-1)

    def __mul__(self, other: Polynomial) -> Polynomial:
        return _collect([(_sorted(m + n), a * b) for m, a in self.terms for n, b in other.terms])

    @property
    def value(self) -> int | None:
        """The number, where no atom is left."""
        if not self.terms:
            return 0
        return self.terms[0][1] if len(self.terms) == 1 and not self.terms[0][0] else None


def constant(value: int) -> Polynomial:
    return Polynomial((((), value),) if value else ())


def _sorted(monomial: Monomial) -> Monomial:
    return tuple(sorted(monomial, key=repr))


def _collect(terms: list[tuple[Monomial, int]]) -> Polynomial:
    total: dict[Monomial, int] = {}
    for monomial, coefficient in terms:
        total[monomial] = total.get(monomial, 0) + coefficient
    kept = [(m, c) for m, c in total.items() if c]
    return Polynomial(tuple(sorted(kept, key=lambda t: (-len(t[0]), repr(t[0])))))


def polynomial(expr: Expr, definitions: Definitions) -> Polynomial:
    """The canonical form, size definitions substituted, of an expression of sizes and integer operations."""
    match expr:
        case Const(value, kind) if kind is not Kind.FLOAT:
            return constant(int(value))
        case Size(name):
            meaning = definitions.get(name)
            return Polynomial((((expr,), 1),)) if meaning is None else polynomial(meaning, definitions)
        case Op("add", (a, b), _):
            return polynomial(a, definitions) + polynomial(b, definitions)
        case Op("sub", (a, b), _):
            return polynomial(a, definitions) - polynomial(b, definitions)
        case Op("mul", (a, b), _):
            return polynomial(a, definitions) * polynomial(b, definitions)
        case Op("neg", (a,), _):
            return constant(0) - polynomial(a, definitions)
        case Op("floordiv" | "mod" as name, (a, b), _):
            by = polynomial(b, definitions)
            whole, rest = split(polynomial(a, definitions), by)
            part = _opaque(name, rest, by)
            return whole + part if name == "floordiv" else part
        case Op(name, args, _) if not any(e.kind is Kind.FLOAT for e in (expr, *args)):
            return _opaque(name, *(polynomial(a, definitions) for a in args))
        case _:
            return Polynomial((((expr,), 1),))


def _opaque(name: str, *args: Polynomial) -> Polynomial:
    """An operation that stays one atom, unless its value is plain."""
    if name in ("floordiv", "mod") and not args[0].terms:
        return args[0]
    atom = op(name, *(expression(a) for a in args))
    return constant(int(atom.value)) if isinstance(atom, Const) else Polynomial((((atom,), 1),))


def split(dividend: Polynomial, divisor: Polynomial) -> tuple[Polynomial, Polynomial]:
    """(q, r) with dividend = q * divisor + r, every term that the divisor divides moved into q."""
    exact = divide(dividend, divisor)
    if exact is not None:
        return exact, constant(0)
    whole = constant(0)
    for monomial, coefficient in dividend.terms:
        quotient = divide(Polynomial(((monomial, coefficient),)), divisor)
        if quotient is None and not monomial and divisor.value:
            quotient = constant(coefficient // divisor.value)
        if quotient is not None:
            whole = whole + quotient
    return whole, dividend - whole * divisor


def divide(dividend: Polynomial, divisor: Polynomial) -> Polynomial | None:
    """The exact quotient by a single term, or of a polynomial by itself; None where there is none."""
    if dividend == divisor and divisor.terms:
        return constant(1)
    if len(divisor.terms) != 1:
        return None
    ((atoms, by),) = divisor.terms
    terms = []
    for monomial, coefficient in dividend.terms:
        left = list(monomial)
        for atom in atoms:
            if atom not in left:
                return None
            left.remove(atom)
        if coefficient % by:
            return None
        terms.append((tuple(left), coefficient // by))
    return _collect(terms)


def expression(p: Polynomial) -> Expr:
    """An expression of the polynomial's value, what is subtracted last."""
    total: Expr = integer(0)
    for monomial, coefficient in sorted(p.terms, key=lambda t: t[1] < 0):
        term: Expr = integer(abs(coefficient))
        for atom in monomial:
            term = op("mul", term, atom)
        total = op("sub" if coefficient < 0 else "add", total, term)
    return total


def equal(a: Expr, b: Expr, definitions: Definitions) -> bool:
    """Whether two size expressions agree for all sizes."""
    return a == b or polynomial(a, definitions) == polynomial(b, definitions)


def alike(a: Expr, b: Expr, definitions: Definitions) -> bool:
    """Whether two size expressions are one size: two names that are given the same number, each its own, are not."""
    named = isinstance(a, Size) and isinstance(b, Size) and a != b
    given = (definitions.get(x.name) for x in (a, b) if isinstance(x, Size))
    return equal(a, b, definitions) and not (named and all(isinstance(x, Const) for x in given))


def nonnegative(p: Polynomial, least: int = 1) -> bool:
    """Whether p >= 0 is plain for all sizes >= `least`: each size written as least + x, no coefficient is negative.

    Sufficient, not necessary. Quotients, remainders and powers of sizes count as any natural number; other atoms are
    unknown.
    """
    shifted: list[tuple[Monomial, int]] = []
    for monomial, coefficient in p.terms:
        sizes = [a for a in monomial if isinstance(a, Size)]
        others = tuple(a for a in monomial if not isinstance(a, Size))
        for count in range(len(sizes) + 1):
            for kept in combinations(range(len(sizes)), count):
                atoms = _sorted(tuple(sizes[k] for k in kept) + others)
                shifted.append((atoms, coefficient * least ** (len(sizes) - count)))
    return all(c >= 0 and all(isinstance(a, Size) or _natural(a) for a in m) for m, c in _collect(shifted).terms)


def _natural(atom: Expr) -> bool:
    """Whether a quotient, a remainder or a power is plainly 0 or more."""
    match atom:
        case Op("pow", (a, _), _):
            return nonnegative(polynomial(a, {}))
        case Op("floordiv", (a, b), _):
            return nonnegative(polynomial(a, {})) and nonnegative(polynomial(b, {}) - constant(1))
        case Op("mod", (_, b), _):
            return nonnegative(polynomial(b, {}) - constant(1))
        case _:
            return False


def evaluate(expr: Expr, values: Mapping[str, int], definitions: Definitions) -> int:
    """The number that a size expression has for given sizes. Raises KeyError naming a size that has no value."""
    match expr:
        case Const(value, _):
            return int(value)
        case Size(name):
            if name in values:
                return values[name]
            meaning = definitions.get(name)
            if meaning is None:
                raise KeyError(name)
            return evaluate(meaning, values, definitions)
        case Op(name, args, _):
            folded = op(name, *(integer(evaluate(a, values, definitions)) for a in args))
            if not isinstance(folded, Const):
                raise ZeroDivisionError(text(expr))
            return int(folded.value)
        case _:
            raise TypeError(f"no size: {expr}")


_INFIX = {
    "add": (" + ", 1),
    "sub": (" - ", 1),
    "mul": ("*", 2),
    "floordiv": (" // ", 2),
    "mod": (" % ", 2),
    "pow": (" ^ ", 3),
}


def text(expr: Expr, level: int = 0) -> str:
    """A size expression as a user would write it."""
    match expr:
        case Const(value, _):
            return str(value)
        case Size(name):
            return name
        case Op(name, (a, b), _) if name in _INFIX:
            sign, strength = _INFIX[name]
            written = text(a, strength) + sign + text(b, strength + 1)
            return f"({written})" if strength < level else written
        case Op("segment", (table, _, position), _):
            return f"segment({text(table)}, {text(position)})"
        case Op(name, args, _):
            return f"{name}({', '.join(text(a) for a in args)})"
        case _:
            return getattr(expr, "name", None) or str(getattr(expr, "tensor", "?"))
