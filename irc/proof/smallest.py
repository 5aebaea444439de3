"""The smallest state that breaks a claim: the least bound of all sizes, then each size, scalar, index, entry."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
import z3

from irc.codegen.expr import Expr, Kind, Load, Size, integer, loads, op
from irc.interpret import DTYPES, complete_sizes, size_value
from irc.ir import Input
from irc.proof.claim import Model
from irc.proof.exhaustive import breaks
from irc.proof.ground import symbols
from irc.proof.problem import Problem
from irc.proof.smt import Term

FREE_ENTRIES = 4096  # entries of one table that are minimised


class Descent:
    """Gives terms their least values one after another; each choice stands for the next."""

    def __init__(self, solver: Any) -> None:
        self.solver = solver
        self.model = solver.model()

    def value(self, term: Term) -> Any:
        found = self.model.eval(term, model_completion=True)
        if z3.is_int_value(found):
            return found.as_long()
        if z3.is_true(found) or z3.is_false(found):
            return z3.is_true(found)
        return found.as_fraction() if z3.is_rational_value(found) else Fraction(0)

    def can(self, *conditions: Term) -> bool:
        """Whether they can hold too; if so, the model is one in which they do."""
        self.solver.push()
        self.solver.add(*conditions)
        possible = bool(self.solver.check() == z3.sat)
        if possible:
            self.model = self.solver.model()
        self.solver.pop()
        return possible

    def settle(self, term: Term) -> Any:
        """The value nearest 0 that is left, the positive one of two; a number that is no integer: 0, 1 or as it is."""
        if z3.is_bool(term):
            if self.value(term):
                self.can(z3.Not(term))
        elif z3.is_real(term):
            if self.value(term) != 0 and not self.can(term == 0):
                self.can(term == 1)
        else:
            low = 0
            while low < (far := abs(self.value(term))):
                middle = (low + far) // 2
                if not self.can(term <= middle, term >= -middle):
                    low = middle + 1
            if self.value(term) < 0:
                self.can(term == -self.value(term))
        value = self.value(term)
        self.solver.add(term == self.model.eval(term, model_completion=True))
        return value


def smallest(problem: Problem, bound: int, least: int = 1) -> tuple[Model, str] | None:
    """The smallest state that breaks the claim with sizes from `least` to `bound`, and the query that it answers; None
    where none was found.

    It is found in two steps: sizes first, all open; then, these written in, everything else exactly. The interpreter
    confirms it.
    """
    sizes = _sizes(problem, bound, least)
    if sizes is None:
        return None
    known: dict[Expr, Expr] = {Size(n): integer(v) for n, v in sizes.items()}
    sentences, values = problem.bounded(bound, known) or ([], {})
    if not sentences:
        return None
    checked = problem.solve(sentences, values)
    if checked.result != "sat":
        return None
    text = checked.text
    model = _settled(problem, sizes, Descent(checked.solver), checked.encoder, sentences)
    return (model, text) if breaks(problem.claim, problem.graph, model) else None


def _sizes(problem: Problem, bound: int, least: int) -> dict[str, int] | None:
    """The least bound on all sizes at which the claim breaks, then the least of each size in the order declared."""
    found = problem.bounded(bound)
    if found is None:
        return None
    sentences, values = found
    names = [n for n, d in problem.graph.sizes if d is None and Size(n) in symbols(sentences)]
    limits = [op("and", op("le", integer(least), Size(n)), op("le", Size(n), integer(bound))) for n in names]
    checked = problem.solve([*sentences, *limits], values)
    if checked.result != "sat":
        return None
    descent, terms = Descent(checked.solver), {n: checked.encoder(Size(n)) for n in names}
    low = least
    while names and low < (high := max(descent.value(t) for t in terms.values())):
        middle = (low + high) // 2
        if not descent.can(*(t <= middle for t in terms.values())):
            low = middle + 1
    for term in terms.values():
        checked.solver.add(term <= max([low, *(descent.value(t) for t in terms.values())]))
    chosen = {n: descent.settle(t) for n, t in terms.items()}
    known = complete_sizes(problem.graph, {n: chosen.get(n, 1) for n, d in problem.graph.sizes if d is None})
    return {n: known[n] for n, _ in problem.graph.sizes}


def _settled(
    problem: Problem, sizes: Mapping[str, int], descent: Descent, encoder: Any, sentences: list[Expr]
) -> Model:
    """Values for everything else: scalars, indices, then the entries of every table."""
    read = {load.tensor for e in sentences for load in loads(e)}
    inputs = [n for n in problem.graph.inputs if n.kind is not Kind.FLOAT or n.name in read]
    scalars = {n.name: _plain(descent.settle(encoder(Load(n.name, (), n.kind))), n) for n in inputs if not n.shape}
    indices = {a.name: int(descent.settle(encoder(a.index))) for a in problem.claim.free}
    tables = {}
    for node in inputs:
        if node.shape:
            shape = tuple(size_value(s, sizes) for s in node.shape)
            entries = np.zeros(shape, DTYPES[node.kind])
            if node.name in read and prod(shape) <= FREE_ENTRIES:
                for at in np.ndindex(*shape):
                    term = encoder(Load(node.name, tuple(integer(k) for k in at), node.kind))
                    entries[at] = _plain(descent.settle(term), node)
            tables[node.name] = entries
    return Model(dict(sizes), scalars, tables, indices)


def _plain(value: Any, node: Input) -> Any:
    return float(value) if node.kind is Kind.FLOAT else value
