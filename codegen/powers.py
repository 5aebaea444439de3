"""Tile values with less work for every pair of a query and a key, in single precision: factors that do not depend on
the pair are multiplied with each other first, once; what two products have in common is multiplied with their sum;
and exponentials are powers of two, exp(x) = 2^(x log2(e)), the factor folded into those. Each changes a value by
roundings alone.

What an argument holds for a pair or a key, or adds to a score, may be any number: the least of all floats, by which
masks that are added block, has no multiple. Where a score reads such, and in double precision, logits are `natural`,
the scores themselves, and what multiplies by log2(e) is their difference from a maximum or a logsumexp.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

from irc.codegen.expr import Const, Expr, Load, Local, Op, indices, number, op, rebuild, walk
from irc.codegen.kernel import (
    Accumulate,
    ColumnSums,
    InnerSum,
    OnlineSoftmax,
    RowSums,
    TileKernel,
    TileOp,
    TileProduct,
    TileReduce,
    Value,
)

LOG2_E = number(math.log2(math.e))
LARGE = 1e38  # of numbers whose multiples and sums may be infinite


@dataclass(frozen=True, slots=True)
class Powers:
    """The body with its exponentials as powers of two, without values that nothing reads any more; and the logit of the
    running softmax, times log2(e) unless `natural`."""

    body: tuple[TileOp, ...]
    logit: Expr | None
    natural: bool


def in_powers_of_two(kernel: TileKernel) -> Powers:
    """The kernel's body, its exponentials rewritten where it computes in single precision."""
    read = Counter(name for step in kernel.body for name in _reads(step))
    values = {
        step.name: step.value
        for step in kernel.body
        if isinstance(step, Value) and not step.masked and read[step.name] == 1
    }
    body = kernel.body
    given = _given(kernel)
    if kernel.arithmetic == "f32":
        body = tuple(replace(s, value=_lighter(s.value, values, given)) if isinstance(s, Value) else s for s in body)
    softmax = next((s for s in body if isinstance(s, OnlineSoftmax)), None)
    natural = softmax is not None and (kernel.arithmetic != "f32" or _is_given(softmax.score, given))
    logit = None
    if softmax is not None:
        logit = _lighter(softmax.score, values, given) if natural else _scaled(softmax.score, values, given)
    return Powers(_live(body, logit, softmax), logit, natural)


def _given(kernel: TileKernel) -> frozenset[str]:
    """Values that hold what an argument has for a pair or a key, or that a score adds, or a number as large."""
    keys = {a.name for a in (*kernel.rows, *kernel.columns) if a.role == "column"}
    found: set[str] = set()
    for step in kernel.body:
        if isinstance(step, Value):
            added = _addends(step.value)
            for e in walk(step.value):
                match e:
                    case Load() if e in added or indices(e) & keys:
                        found.add(step.name)
                    case Const(value) if abs(value) > LARGE:
                        found.add(step.name)
                    case Local(name) if name in found:
                        found.add(step.name)
    return frozenset(found)


def _addends(expr: Expr) -> tuple[Expr, ...]:
    match expr:
        case Op("add" | "sub", (a, b)):
            return (*_addends(a), *_addends(b))
        case _:
            return (expr,)


def _is_given(expr: Expr, given: frozenset[str]) -> bool:
    return any(isinstance(e, Local) and e.name in given for e in walk(expr))


def _lighter(expr: Expr, values: dict[str, Expr], given: frozenset[str]) -> Expr:
    def place(part: Expr) -> Expr | None:
        if not isinstance(part, Op) or not _of_the_pair(part):
            return None
        if part.name in ("exp", "share"):
            if _is_given(part, given):
                exponent = op("mul", _lighter(part.args[0], values, given), LOG2_E)
            else:
                exponent = _scaled(part.args[0], values, given)
            return op("exp2", exponent if part.name == "exp" else op("min", exponent, number(0.0)))
        if part.name in ("add", "sub") and not _is_given(part, given):
            x, y = (_lighter(e, values, given) for e in part.args)
            return _of_one_factor(part.name, x, y)
        if part.name in ("mul", "div"):
            moving, fixed = _factors(part, values)
            if fixed is not None and (moving, fixed) != (part.args[0], part.args[-1]):
                return op("mul", _lighter(moving, values, given), fixed)
        return None

    return rebuild(expr, place)


def _of_one_factor(name: str, x: Expr, y: Expr) -> Expr:
    """x + y or x - y: a w + b w is (a + b) w, as a logit's gradient is where the weight and the logsumexp have one."""
    match x, y:
        case Op("mul", first), Op("mul", second):
            for shared in first:
                if isinstance(shared, Local) and shared in second:
                    a, b = (next((e for e in each if e != shared), shared) for each in (first, second))
                    return op("mul", op(name, a, b), shared)
    return op(name, x, y)


def _factors(expr: Expr, values: dict[str, Expr]) -> tuple[Expr, Expr | None]:
    """The expression as a product of what depends on the pair and what does not, None for 1."""
    match expr:
        case Local(name) if name in values:
            return _factors(values[name], values)
        case Op("mul", (x, y)) if _of_the_pair(x) != _of_the_pair(y):
            moving, fixed = _factors(x if _of_the_pair(x) else y, values)
            other = y if _of_the_pair(x) else x
            return moving, other if fixed is None else _product(fixed, other)
        case Op("div", (x, y)) if not _of_the_pair(y):
            moving, fixed = _factors(x, values)
            return moving, op("div", fixed if fixed is not None else number(1.0), y)
        case _:
            return expr, None


def _product(x: Expr, y: Expr) -> Expr:
    if isinstance(x, Const) and isinstance(y, Const):
        return number(float(x.value) * float(y.value))
    return op("mul", x, y)


def _of_the_pair(expr: Expr) -> bool:
    return any(isinstance(e, Local) for e in walk(expr))


def _scaled(expr: Expr, values: dict[str, Expr], given: frozenset[str]) -> Expr:
    """The expression times log2(e), which joins a constant or what does not depend on the pair, if there is such."""
    match expr:
        case Local(name) if name in values:
            return _scaled(values[name], values, given)
        case Op("add" | "sub" as name, (x, y)) if _of_the_pair(x) or _of_the_pair(y):
            return op(name, _scaled(x, values, given), _scaled(y, values, given))
        case Op("mul", (x, y)) if not _of_the_pair(expr):
            few, many = sorted((x, y), key=lambda e: len(indices(e)))
            return op("mul", _product(few, LOG2_E), many)
        case _:
            moving, fixed = _factors(expr, values)
            return op("mul", _lighter(moving, values, given), LOG2_E if fixed is None else _product(fixed, LOG2_E))


def _reads(step: TileOp) -> tuple[str, ...]:
    """Tile values that a step reads, once for each time."""
    match step:
        case Value() | InnerSum() | RowSums() | ColumnSums() | Accumulate() | OnlineSoftmax():
            read = step.score if isinstance(step, OnlineSoftmax) else step.value
            return tuple(e.name for e in walk(read) if isinstance(e, Local))
        case _:
            return (step.tile,) if isinstance(step, TileProduct | TileReduce) else ()


def _live(body: tuple[TileOp, ...], logit: Expr | None, softmax: OnlineSoftmax | None) -> tuple[TileOp, ...]:
    """The steps that something reads."""
    natural = softmax is not None and softmax.max is not None  # the largest score is stored as it was written
    wanted = {e.name for e in walk(logit) if isinstance(e, Local)} if logit is not None else set()
    kept: list[TileOp] = []
    for step in reversed(body):
        if isinstance(step, Value | InnerSum) and step.name not in wanted:
            continue
        if not isinstance(step, OnlineSoftmax) or natural:
            wanted |= set(_reads(step))
        kept.append(step)
    return tuple(reversed(kept))
