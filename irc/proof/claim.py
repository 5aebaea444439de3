"""Sentences about all sizes, and what was found of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from irc.codegen.expr import TRUE, Axis, Expr
from irc.grammar.source import Span

Array = np.ndarray[Any, Any]
Status = Literal["proved", "refuted", "unknown"]


@dataclass(frozen=True, slots=True)
class Claim:
    """For all sizes, scalars and tables that keep the program's facts, and every point of `free` at which `given`
    holds, `goal` holds; with `some`, there is a point of those axes at which it does.

    Expressions read sizes, the indices of `free` and `some`, scalars and elements of integer and boolean inputs.
    Every index lies within its axis, so a claim says nothing where an axis is empty. `about` is the sentence in words,
    `core` names the core whose pairs a counterexample shows, `span` is the statement that it speaks of, where that is
    no mask (an assignment that moves positions). `words` is the sentence with a hole for each of `said`: the place of
    an output, and the place that it reads; `supposed` what the claim says the property of, beyond what is assumed.
    """

    about: str
    free: tuple[Axis, ...]
    goal: Expr
    given: Expr = TRUE
    some: tuple[Axis, ...] = ()
    core: str | None = None
    span: Span | None = field(default=None, compare=False)
    words: str = field(default="", compare=False)
    said: tuple[Expr, ...] = field(default=(), compare=False)
    supposed: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Model:
    """One state of the program: a size, scalar or index to its value, an integer or boolean input to its entries."""

    sizes: dict[str, int]
    scalars: dict[str, int | float | bool]
    tables: dict[str, Array]
    indices: dict[str, int]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found of a claim.

    `model` refutes it: the smallest there is, the largest of its sizes first; a size is 0 only where it must be.
    `evidence` says how it was proved (a witness for `some`, in the text of the language), or up to which sizes nothing
    was found; `supposed` is what the proof supposes beyond the facts. `queries` are the SMT-LIB 2 texts that were
    decided, (name, text): each is unsatisfiable for a claim that is proved, satisfiable for one that is refuted. `read`
    are the sentences of which a proof showed that no state keeps them all.
    """

    status: Status
    evidence: str = ""
    supposed: tuple[str, ...] = ()
    model: Model | None = None
    queries: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    read: tuple[Expr, ...] = field(default=(), compare=False)
