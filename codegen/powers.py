"""Exponentials as powers of two: exp(x) = 2^(x log2(e)), the factor folded into constants and into what is hoisted.

Vectors know 2^x; exp would take one more multiplication for every pair of a query and a key. In single precision alone:
the rounding of x log2(e) is that of x.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

from irc.codegen.expr import Const, Expr, Local, Op, indices, number, op, rebuild, walk
from irc.codegen.kernel import (
    ColumnProduct,
    ColumnReduce,
    InnerSum,
    OnlineSoftmax,
    RowProduct,
    RowReduce,
    TileKernel,
    TileOp,
    Value,
)

LOG2_E = number(math.log2(math.e))


@dataclass(frozen=True, slots=True)
class Powers:
    """The body with its exponentials as powers of two, without values that nothing reads any more; and the logit of the
    running softmax times log2(e)."""

    body: tuple[TileOp, ...]
    logit: Expr | None


def in_powers_of_two(kernel: TileKernel) -> Powers:
    """The kernel's body, its exponentials rewritten where it computes in single precision."""
    read = Counter(name for step in kernel.body for name in _reads(step))
    values = {
        step.name: step.value
        for step in kernel.body
        if isinstance(step, Value) and not step.masked and read[step.name] == 1
    }
    body = kernel.body
    if kernel.arithmetic == "f32":
        body = tuple(replace(s, value=_exponentials(s.value, values)) if isinstance(s, Value) else s for s in body)
    softmax = next((s for s in body if isinstance(s, OnlineSoftmax)), None)
    logit = _scaled(softmax.score, values) if softmax else None
    return Powers(_live(body, logit, softmax), logit)


def _exponentials(expr: Expr, values: dict[str, Expr]) -> Expr:
    """exp of what depends on the pair, as exp2."""

    def place(part: Expr) -> Expr | None:
        if isinstance(part, Op) and part.name == "exp" and _of_the_pair(part):
            return op("exp2", _exponentials(_scaled(part.args[0], values), values))
        return None

    return rebuild(expr, place)


def _of_the_pair(expr: Expr) -> bool:
    return any(isinstance(e, Local) for e in walk(expr))


def _scaled(expr: Expr, values: dict[str, Expr]) -> Expr:
    """The expression times log2(e), where it costs nothing: in a constant, or in what does not depend on the pair."""
    match expr:
        case Local(name) if name in values:
            return _scaled(values[name], values)
        case Op("add" | "sub" as name, (x, y)) if _of_the_pair(x) or _of_the_pair(y):
            return op(name, _scaled(x, values), _scaled(y, values))
        case Op("mul", (x, y)) if _reach(y) <= _reach(x):
            return op("mul", x, _times(y) if not _of_the_pair(y) else _scaled(y, values))
        case Op("mul", (x, y)):
            return op("mul", _times(x) if not _of_the_pair(x) else _scaled(x, values), y)
        case _:
            return _times(expr)


def _reach(expr: Expr) -> tuple[bool, int]:
    """How much an expression depends on: on the pair's values, on how many indices."""
    return _of_the_pair(expr), len(indices(expr))


def _times(expr: Expr) -> Expr:
    return number(float(expr.value) * LOG2_E.value) if isinstance(expr, Const) else op("mul", expr, LOG2_E)


def _reads(step: TileOp) -> tuple[str, ...]:
    """Tile values that a step reads, once for each time."""
    match step:
        case Value(value=value) | InnerSum(value=value):
            exprs = (value,)
        case OnlineSoftmax(score=score):
            exprs = (score,)
        case RowProduct(tile=tile) | ColumnProduct(tile=tile) | RowReduce(tile=tile) | ColumnReduce(tile=tile):
            return (tile,)
        case _:
            exprs = ()
    return tuple(e.name for expr in exprs for e in walk(expr) if isinstance(e, Local))


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
