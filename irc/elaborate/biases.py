"""What is made of a score, and most likely not meant: warnings, not errors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from irc.codegen.expr import Const, Expr, Index, Kind, Load, Op, indices, walk
from irc.elaborate.report import Report
from irc.grammar.diagnostic import Note
from irc.grammar.source import Span
from irc.grammar.syntax import Stage
from irc.interpret import Grid, evaluate

Biases = Sequence[tuple[Stage, Expr]]
LEAST = -1e4  # the least finite number of every element type lies below: one that becomes -inf in f16 is found here too


def warn_of_mask(stage: Stage, value: Expr, report: Report) -> None:
    """A large negative number is no mask."""
    if any(_constant(part) <= LEAST for part in walk(value)):
        report.warn(
            "W001",
            "a large negative bias is no mask: its pairs keep a weight, and no proof counts them as blocked",
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
    for product in walk(value):
        if isinstance(product, Op) and product.name == "mul":
            ends = [e.indices[-1:] for e in product.args if isinstance(e, Load)]
            if ends == [(Index(feature),)] * 2:
                report.warn(
                    "W004",
                    f"nothing is summed over `{feature}`, an index of the output: each has scores of its own",
                    stage.span,
                    help=f"for a dot product, write another index than `{feature}` in `score`",
                )
                return


def _constant(e: Expr) -> float:
    """The number that an expression of numbers alone stands for; NaN for others."""
    if e.kind is Kind.BOOL or not all(isinstance(part, Const | Op) for part in walk(e)):
        return math.nan
    with np.errstate(all="ignore"):
        return float(evaluate(e, Grid((), {})))
