"""From logits to weights: the normalisers, one entry each, and what may follow them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from irc.codegen.expr import Expr, Kind, Local, number, op

WEIGHT = Local("weight", Kind.FLOAT)
"""Stands for the running weight in what is written below a normaliser."""


@dataclass(frozen=True, slots=True)
class Normaliser:
    """Weights from logits, over the allowed keys of a row; a row without one has no weights at all.

    `weight` reads the logit and, where there is one, the row's `statistic` (over the allowed keys). `divisor` reads
    the row's sum of these weights, and divides them: at once where something reads the weights one by one, else once
    a row, in the end.
    """

    weight: Callable[[Expr, Expr], Expr]
    statistic: Literal["logsumexp"] | None = None
    divisor: Callable[[Expr], Expr] | None = None


NORMALISERS = {
    "softmax": Normaliser(lambda logit, lse: op("share", op("sub", logit, lse)), "logsumexp"),
    # Ramapuram et al. 2024: no normalisation over the row; a bias such as -log(Sk) is the user's
    "sigmoid": Normaliser(lambda logit, _: op("sigmoid", logit)),
    # Wortsman et al. 2023
    "relu": Normaliser(lambda logit, _: op("relu", logit)),
    # Sun et al. 2023, retention: the score itself, divided by max(|sum|, 1)
    "normalize": Normaliser(lambda logit, _: logit, divisor=lambda total: op("max", op("abs", total), number(1.0))),
    # Katharopoulos et al. 2020, linear attention: the score itself
    "linear": Normaliser(lambda logit, _: logit),
}


def dropped(draw: Expr, rate: Expr) -> Expr:
    """The weight after dropout (Srivastava et al. 2014): 0 where the draw, uniform in [0, 1), is below the rate."""
    return op("where", op("lt", draw, rate), number(0.0), op("div", WEIGHT, op("sub", number(1.0), rate)))
