"""Typed operations: integers stay integers, mixed with floats they convert, booleans are no numbers."""

from __future__ import annotations

from irc.codegen.expr import Const, Expr, Index, Kind, Load, Op, op, walk
from irc.codegen.fold import FAR, whole_power
from irc.elaborate.report import Report
from irc.grammar.source import Span

FUNCTIONS = {  # name: number of arguments, least and most
    "exp": (1, 1),
    "log": (1, 1),
    "sqrt": (1, 1),
    "rsqrt": (1, 1),
    "sin": (1, 1),
    "cos": (1, 1),
    "tanh": (1, 1),
    "sigmoid": (1, 1),
    "erf": (1, 1),
    "relu": (1, 1),
    "floor": (1, 1),
    "abs": (1, 1),
    "min": (2, 8),
    "max": (2, 8),
    "clamp": (3, 3),
    "where": (3, 3),
    "float": (1, 1),
    "pos": (1, 1),
    "segment": (2, 2),
}


POWER_HELP = (
    "a power of integers is an integer where its exponent is never negative: assume that of the exponent, or write "
    "`max(…, 0)`"
)
FLOOR_HELP = "`floor(…)` makes an integer of a float"
QUOTIENT_HELP = "write `//` for the quotient of integers, rounded down"


def to_float(e: Expr) -> Expr:
    if isinstance(e, Op) and e.name == "pow" and e.kind is Kind.INT:
        return op("pow", *(op("float", a) for a in e.args))  # as far as floats reach
    return op("float", e) if e.kind is Kind.INT else e


def number(e: Expr, span: Span, report: Report) -> Expr:
    """The expression, if it is no boolean."""
    if e.kind is Kind.BOOL:
        report.fail("E301", "a boolean stands where a number is needed", span, help="choose with `where(p, a, b)`")
    return e


def floating(e: Expr, span: Span, report: Report) -> Expr:
    return to_float(number(e, span, report))


def boolean(e: Expr, span: Span, report: Report, what: str = "a condition") -> Expr:
    if e.kind is not Kind.BOOL:
        message = f"{what} must be boolean, and this is {article(e.kind)}"
        report.fail("E302", message, span, help="compare, as in `x > 0`")
    return e


def whole(e: Expr, span: Span, report: Report, what: str) -> Expr:
    if e.kind is not Kind.INT:
        of_power = any(isinstance(part, Op) and part.name == "pow" and part.kind is Kind.FLOAT for part in walk(e))
        help = POWER_HELP if of_power else QUOTIENT_HELP if _is_quotient(e) else FLOOR_HELP
        message = f"{what} must be an integer, and this is {article(e.kind)}"
        report.fail("E303", message, span, help=help if e.kind is Kind.FLOAT else None)
    return e


def _is_quotient(e: Expr) -> bool:
    """Whether it is a float for no other reason than that integers are divided."""
    names = {part.name if isinstance(part, Op) else "" for part in walk(e) if part.kind is Kind.FLOAT}
    return "div" in names and names <= {"div", "float", "add", "sub", "mul", "neg"}


def article(kind: Kind) -> str:
    return {Kind.BOOL: "a boolean", Kind.INT: "an integer", Kind.FLOAT: "a float"}[kind]


def unify(args: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """All integers, or all floats."""
    return args if all(a.kind is Kind.INT for a in args) else tuple(to_float(a) for a in args)


def static(e: Expr) -> bool:
    """Whether an expression holds sizes and literals only."""
    return not any(isinstance(part, Index | Load) for part in walk(e))


def power(base: Expr, exponent: Expr, natural: bool) -> Expr:
    """base ^ exponent: a product for a small literal exponent, else `pow`, of integers where both are and the exponent
    is known to be `natural`."""
    if isinstance(exponent, Const) and exponent.kind is Kind.INT and 1 <= exponent.value <= 4:
        result = base
        for _ in range(int(exponent.value) - 1):
            result = op("mul", result, base)
        return result
    if natural and base.kind is exponent.kind is Kind.INT and not _is_far(base, exponent):
        return op("pow", base, exponent)
    return op("pow", to_float(base), to_float(exponent))


def _is_far(base: Expr, exponent: Expr) -> bool:
    """Whether it is a number that integers do not reach."""
    if not isinstance(base, Const) or not isinstance(exponent, Const):
        return False
    return abs(whole_power(int(base.value), int(exponent.value))) == 1 << FAR


def compare(sign: str, a: Expr, b: Expr) -> Expr:
    if a.kind is not Kind.BOOL:
        a, b = unify((a, b))
    match sign:
        case "<":
            return op("lt", a, b)
        case "<=":
            return op("le", a, b)
        case ">":
            return op("lt", b, a)
        case ">=":
            return op("le", b, a)
        case "==":
            return op("eq", a, b)
        case _:
            return op("ne", a, b)


def call(name: str, args: tuple[Expr, ...]) -> Expr:
    """A function of numbers (not `where`, not `pos`), converting as it asks."""
    match name:
        case "min" | "max":
            args = unify(args)
            result = args[0]
            for other in args[1:]:
                result = op(name, result, other)
            return result
        case "abs":
            return op("abs", args[0])
        case "clamp":
            return op("clamp", *unify(args))
        case "float":
            return to_float(args[0])
        case "floor" if args[0].kind is Kind.INT:
            return args[0]
        case _:
            return op(name, *(to_float(a) for a in args))
