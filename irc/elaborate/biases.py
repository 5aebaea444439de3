"""What is made of a score, and most likely not meant: warnings, not errors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import product

import numpy as np

from irc.codegen.expr import Const, Expr, Index, Kind, Load, Op, children, indices, walk
from irc.elaborate.report import Report
from irc.grammar.diagnostic import Note
from irc.grammar.source import Span
from irc.grammar.syntax import Stage
from irc.graph.interpret import Grid, apply, evaluate

Biases = Sequence[tuple[Stage, Expr]]
LEAST = -1e4  # the least finite number of every element type lies below: one that becomes -inf in f16 is found here too


def warn_of_mask(stage: Stage, value: Expr, report: Report, score: Expr | None = None) -> None:
    """A large negative number is no mask: added, or in place of the `score`."""
    written = score is None and any(_constant(part) <= LEAST for part in walk(value))
    if written or _range(value, score)[0] <= LEAST:
        report.warn(
            "W001",
            f"a large negative {'bias' if score is None else 'score'} is no mask: its pairs keep a weight, "
            "and no proof counts them as blocked",
            stage.span,
            help="write `block p` (or `allow p`) for pairs that must not exist",
        )


def warn_of_scale(biases: Biases, span: Span, report: Report) -> None:
    """A scale acts on what stands above it."""
    if biases:
        report.warn(
            "W002",
            "this scales the bias above it as well",
            span,
            (Note("the bias", biases[0][0].span),),
            help="stages act in the order written: move `scale` up, or write `map score * …` to scale both",
        )


def warn_of_rows(biases: Biases, columns: Iterable[str], report: Report) -> None:
    """Softmax does not see what is the same for every key of a row."""
    for stage, value in biases:
        if not indices(value) & set(columns):
            keys = ", ".join(f"`{c}`" for c in columns)
            report.warn(
                "W003",
                f"this bias does not depend on {keys}, so softmax cancels it: it changes no output",
                stage.span,
                help="a learned sink is one more term of the denominator: `softmax j with sink[h]`",
            )


def warn_of_features(stage: Stage, value: Expr, feature: str, report: Report) -> None:
    """A dot product over an index that the output has as its feature is none."""
    for part in walk(value):
        if isinstance(part, Op) and part.name == "mul":
            ends = [e.indices[-1:] for e in part.args if isinstance(e, Load)]
            if ends == [(Index(feature),)] * 2:
                report.warn(
                    "W004",
                    f"nothing is summed over `{feature}`, an index of the output: each has scores of its own",
                    stage.span,
                    help=f"for a dot product, write another index than `{feature}` in `score`",
                )
                return


def _range(e: Expr, score: Expr | None) -> tuple[float, float]:
    """Least and greatest of what numbers and truths make of the expression: what a table holds counts as something
    between 0 and 1, and as 0 the score and all else."""
    match e:
        case _ if e == score:
            return 0.0, 0.0
        case Const(value, _):
            return float(value), float(value)
        case Load() | Op("lt" | "le" | "eq" | "ne" | "and" | "or" | "not", _, _):
            return 0.0, 1.0
        case Op("where", (_, a, b), _):
            ends = (*_range(a, score), *_range(b, score))
            return min(ends), max(ends)
        case Op("log", (x,), _) if not any(isinstance(part, Load) for part in _chosen(x)):
            low, high = (math.log(end) if end > 0 else -math.inf for end in _range(x, score))
            return low, high
        case Op("add" | "sub" | "neg" | "mul" | "div" | "min" | "max" | "clamp" | "float" as name, args, _):
            corners = product(*(_range(a, score) for a in args))
            with np.errstate(all="ignore"):
                found = [float(apply(name, [np.asarray(x, np.float64) for x in at])) for at in corners]
            known = [x for x in found if not math.isnan(x)] or [0.0]
            return min(known), max(known)
        case _:
            return 0.0, 0.0


def _chosen(e: Expr) -> Iterator[Expr]:
    """The parts of the expression, without conditions."""
    yield e
    for child in e.args[1:] if isinstance(e, Op) and e.name == "where" else children(e):
        yield from _chosen(child)


def _constant(e: Expr) -> float:
    """The number that an expression of numbers alone stands for; NaN for others."""
    if e.kind is Kind.BOOL or not all(isinstance(part, Const | Op) for part in walk(e)):
        return math.nan
    with np.errstate(all="ignore"):
        return float(evaluate(e, Grid((), {})))
