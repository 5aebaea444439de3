"""The smallest state that breaks a claim: the least bound of all sizes, then each size, scalar, index, entry."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
import z3

from irc.codegen.expr import Expr, Kind, Load, Size, integer, loads, op
from irc.graph.interpret import DTYPES, complete_sizes, size_value
from irc.graph.ir import Input
from irc.proof.claim import Array, Model
from irc.proof.exhaustive import breaks
from irc.proof.ground import symbols
from irc.proof.problem import Bounded, Problem
from irc.proof.smt import Term

ENTRIES = 512  # of one table that are minimised


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

    def copy(self, entries: Array, table: Any) -> None:
        """Put a table into an array as z3 has it: what is told apart, and one value everywhere else."""
        found = self.model[table]
        if found is None:
            return
        *told, rest = found.as_list()
        entries.fill(self.value(rest))
        for *at, value in told:
            place = tuple(self.value(k) for k in at)
            if all(0 <= k < n for k, n in zip(place, entries.shape, strict=True)):
                entries[place] = self.value(value)

    def spread(self, entries: Array, reads: list[tuple[list[Term], Term]]) -> None:
        """Put the entries that are read into an array, each repeated up to the next one of its row, so that what does
        not decrease still does not."""
        rows: dict[tuple[int, ...], dict[int, Any]] = {}
        for at, value in reads:
            *row, last = (self.value(k) for k in at)
            if all(0 <= k < n for k, n in zip((*row, last), entries.shape, strict=True)):
                rows.setdefault(tuple(row), {})[last] = self.value(value)
        for place, known in rows.items():
            entries[place] = known[min(known)]
            for last in sorted(known):
                entries[place][last:] = known[last]

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
    concrete = problem.bounded(bound, known)
    checked = problem.solve(concrete.sentences, concrete.values, concrete.quantified)
    if checked.result != "sat":
        return None
    text = checked.text
    model = _settled(problem, sizes, Descent(checked.solver), checked.encoder, concrete)
    return (model, text) if breaks(problem.claim, problem.graph, model) else None


def _sizes(problem: Problem, bound: int, least: int) -> dict[str, int] | None:
    """The least bound on all sizes at which the claim breaks, then the least of each size in the order declared."""
    found = problem.bounded(bound)
    read = [*found.sentences, *(e for f in found.quantified for e in (f.predicate, *(a.size for a in f.free)))]
    names = [n for n, d in problem.graph.sizes if d is None and Size(n) in symbols(read)]
    limits = [op("and", op("le", integer(least), Size(n)), op("le", Size(n), integer(bound))) for n in names]
    checked = problem.solve([*found.sentences, *limits], found.values, found.quantified)
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


def _settled(problem: Problem, sizes: Mapping[str, int], descent: Descent, encoder: Any, concrete: Bounded) -> Model:
    """Values for everything else: scalars, indices, then the entries of every table."""
    read = {r.tensor for e in (*concrete.sentences, *(f.predicate for f in concrete.quantified)) for r in loads(e)}
    inputs = [n for n in problem.graph.inputs if n.kind is not Kind.FLOAT or n.name in read]
    scalars = {n.name: _plain(descent.settle(encoder(Load(n.name, (), n.kind))), n) for n in inputs if not n.shape}
    indices = {a.name: int(descent.settle(encoder(a.index))) for a in problem.claim.free}
    tables = {}
    for node in inputs:
        if node.shape:
            shape = tuple(size_value(s, sizes) for s in node.shape)
            tables[node.name] = entries = np.zeros(shape, DTYPES[node.kind])
            if node.name in read and prod(shape) <= ENTRIES:
                for at in np.ndindex(*shape):
                    term = encoder(Load(node.name, tuple(integer(k) for k in at), node.kind))
                    entries[at] = _plain(descent.settle(term), node)
            elif node.name in read and concrete.quantified:
                descent.copy(entries, encoder.function(node.name, len(shape), node.kind))
            elif node.name in read:
                here = dict.fromkeys(r for e in concrete.sentences for r in loads(e) if r.tensor == node.name)
                descent.spread(entries, [([encoder(i) for i in r.indices], encoder(r)) for r in here])
    return Model(dict(sizes), scalars, tables, indices)


def _plain(value: Any, node: Input) -> Any:
    return float(value) if node.kind is Kind.FLOAT else value
