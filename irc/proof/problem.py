"""A claim ready to be refuted: size definitions written in, what every state keeps as quantifier-free sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod
from typing import Any

import z3

from irc.codegen.expr import Axis, Expr, Kind, Op, Size, integer, loads, op, substitute, walk
from irc.graph.ir import Fact, Graph
from irc.graph.size import constant, evaluate, nonnegative, polynomial, size_names, text
from irc.proof.claim import Claim
from irc.proof.ground import (
    assumed,
    closed_axes,
    divided_by,
    divisors,
    everywhere,
    extents,
    instances,
    pairwise,
    symbols,
    within,
)
from irc.proof.offsets import meaning
from irc.proof.smt import Encoder, closed, conjunction

LARGEST = 2**30  # sizes stay below it, so that a kernel's 32-bit integers are those of the proof
STEPS = 300_000  # z3's own count of work, a check: 20 times what the hardest mask takes
POINTS = 600  # instances of facts that a bounded search may write out
KEYS = 512  # and of keys that a row might have


@dataclass(frozen=True, slots=True)
class Checked:
    """What z3 said of some sentences: `sat` has a state that keeps them all."""

    result: str
    solver: Any
    encoder: Encoder

    @property
    def text(self) -> str:
        return str(self.solver.to_smt2())


@dataclass(frozen=True, slots=True)
class Bounded:
    """Sentences about states of bounded sizes, the values of their symbols, and what holds at all points."""

    sentences: list[Expr]
    values: dict[Expr, range]
    quantified: tuple[Fact, ...]


@dataclass(frozen=True)
class Problem:
    """The claim closed over size definitions, with what holds in every state. `seed` is for z3; a context of its own
    keeps its answers always the same."""

    claim: Claim
    graph: Graph
    seed: int = 0
    context: Any = field(default_factory=z3.Context)
    facts: tuple[Fact, ...] = field(init=False)
    nonzero: tuple[Expr, ...] = field(init=False)
    natural: tuple[Expr, ...] = field(init=False)

    def __post_init__(self) -> None:
        sizes, claim = dict(self.graph.sizes), self.claim
        whole = replace(
            claim,
            free=closed_axes(claim.free, sizes),
            some=closed_axes(claim.some, sizes),
            given=closed(claim.given, sizes),
            goal=closed(claim.goal, sizes),
        )
        object.__setattr__(self, "claim", whole)
        object.__setattr__(self, "facts", assumed(self.graph))
        object.__setattr__(self, "nonzero", tuple(op("le", integer(1), d) for d in divisors(self.graph)))
        object.__setattr__(self, "natural", tuple(op("le", integer(0), s) for s in extents(self.graph)))

    @property
    def point(self) -> list[Expr]:
        """That the indices lie within their axes, and what the claim supposes."""
        return [within(self.claim.free, {a.index: a.index for a in self.claim.free}), self.claim.given]

    @property
    def is_of_inputs(self) -> bool:
        """Whether the claim reads nothing that the program computes."""
        inputs = {n.name for n in self.graph.inputs}
        return all(load.tensor in inputs for e in (self.claim.given, self.claim.goal) for load in loads(e))

    @property
    def reservations(self) -> tuple[str, ...]:
        """What a proof supposes beyond the facts: divisors that only the claim has, floats without rounding."""
        read = (self.claim.given, self.claim.goal)
        known = {*self.nonzero, *(f.predicate for f in self.facts)}
        own = [d for d in divided_by(read, self.graph) if op("le", integer(1), d) not in known]
        own = [d for d in own if not nonnegative(polynomial(d, {}) - constant(1))]
        rounds = any(isinstance(e, Op) and e.kind is Kind.FLOAT for root in read for e in walk(root))
        return (*(f"where {text(d)} >= 1" for d in own), *(("floats taken as real numbers",) if rounds else ()))

    def fails(self, witness: Mapping[Expr, Expr]) -> Expr:
        """That the goal does not hold with these values of the `some` axes, or that one leaves its axis."""
        holds = op("and", within(self.claim.some, witness), substitute(self.claim.goal, dict(witness)))
        return op("not", holds)

    def state(self, roots: Sequence[Expr]) -> list[Expr]:
        """What every state keeps, as far as the elements that `roots` read call for it."""
        return [*self.nonzero, *self.natural, *instances(self.facts, [*roots, *self.nonzero])]

    def check(self, roots: Sequence[Expr], most: Mapping[Expr, range] | None = None) -> Checked:
        """Whether a state keeps all of `roots`, sizes being natural numbers below LARGEST."""
        sizes = [e for e in symbols(roots) if isinstance(e, Size)]
        bounds = [conjunction([op("le", integer(0), e), op("lt", e, integer(LARGEST))]) for e in sizes]
        return self.solve([*roots, *bounds], most)

    def solve(
        self, sentences: Sequence[Expr], most: Mapping[Expr, range] | None = None, quantified: Sequence[Fact] = ()
    ) -> Checked:
        """Asks z3, within a fixed amount of work. `most` has values of symbols; `quantified` facts hold everywhere."""
        encoder = Encoder(self.context, most)
        solver = z3.SimpleSolver(ctx=self.context)
        solver.set("rlimit", STEPS)
        solver.set("random_seed", self.seed)
        solver.add(*(encoder(e) for e in dict.fromkeys(sentences)))
        for fact in quantified:
            names = [encoder(a.index) for a in fact.free]
            given = encoder(within(fact.free, {a.index: a.index for a in fact.free}))
            solver.add(z3.ForAll(names, z3.Implies(given, encoder(fact.predicate))))
        solver.add(*encoder.lemmas, *(d >= 1 for d in encoder.divisors.values()))
        for symbol in encoder.split:
            values, at = encoder.most[symbol], encoder(symbol)
            solver.add(at >= values[0], at <= values[-1])
        return Checked(str(solver.check()), solver, encoder)

    # with quantifiers

    @property
    def nowhere(self) -> Fact:
        """That the goal holds at no point of the `some` axes."""
        return Fact(op("not", self.claim.goal), self.claim.some, "")

    @property
    def general(self) -> tuple[Fact, ...]:
        """The facts that have indices, as predicates."""
        return tuple(pairwise(f) for f in self.facts if f.free)

    # bounded sizes

    def bounded(self, bound: int, fixed: Mapping[Expr, Expr] | None = None) -> Bounded:
        """What the states with sizes up to `bound` that break the claim keep, `fixed` written in."""
        known = dict(fixed or {})
        claim = self.claim

        def spans(axes: Sequence[Axis]) -> list[int]:
            return [largest(substitute(a.size, known), bound) for a in axes]

        some = spans(claim.some)
        found = list(self.point)
        quantified: list[Fact] = []
        if prod(some) <= KEYS:
            names = [a.index for a in claim.some]
            for at in product(*(range(n) for n in some)):
                found.append(self.fails(dict(zip(names, map(integer, at), strict=True))))
        else:
            quantified.append(_in(self.nowhere, known))
        found = [substitute(e, known) for e in found]
        if sum(prod(spans(f.free)) for f in self.facts) <= POINTS:
            written = (e for f in self.facts for e in everywhere(_in(f, known), spans(f.free)))
            found += [*(substitute(e, known) for e in (*self.nonzero, *self.natural)), *dict.fromkeys(written)]
            found += meaning(found)
        else:
            found += [substitute(e, known) for e in self.state(found)]
        values: dict[Expr, range] = {}
        for symbol in symbols(found):
            values[symbol] = range(0, bound + 1) if isinstance(symbol, Size) else range(-bound - 1, bound + 2)
        for axis, extent in zip(claim.free, spans(claim.free), strict=True):
            values[axis.index] = range(0, extent)
        return Bounded(found, values, tuple(quantified))


def _in(fact: Fact, known: dict[Expr, Expr]) -> Fact:
    axes = tuple(Axis(a.name, substitute(a.size, known)) for a in fact.free)
    return replace(fact, predicate=substitute(fact.predicate, known), free=axes)


def largest(size: Expr, bound: int) -> int:
    """The largest value of a size expression whose symbols are at most `bound`."""
    names = sorted(size_names((size,)))
    values = []
    for point in product(*(range(0, bound + 1) if bound ** len(names) <= POINTS else (bound,) for _ in names)):
        try:
            values.append(evaluate(size, dict(zip(names, point, strict=True)), {}))
        except ZeroDivisionError:
            continue
    return max([0, *values])
