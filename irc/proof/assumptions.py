"""Vacuity: whether any state keeps what a program assumes. From contradictory assumptions everything would follow.

A state counts if every size is at least 1: where an axis is empty, nothing is said of its elements, and that would hide
a contradiction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

from irc.codegen.expr import TRUE, Axis, Expr, Size, integer, op
from irc.graph.ir import Fact, Graph
from irc.graph.size import constant, nonnegative, polynomial
from irc.proof.claim import Claim
from irc.proof.ground import assumed, instance, instances, within
from irc.proof.problem import Problem

NOTHING = Claim("the assumptions", (), TRUE)


def contradiction(graph: Graph, claim: Claim = NOTHING, read: Sequence[Expr] = ()) -> tuple[Fact, ...]:
    """A smallest set of facts that no state keeps, none of which could be left out; empty where none is found. With a
    claim and what a proof of it `read`, also at those elements: whatever it had shown would follow."""
    core = list(graph.facts)
    if not core or not _contradict(core, graph, claim, read):
        return ()
    for fact in graph.facts:
        fewer = [f for f in core if f is not fact]
        if _contradict(fewer, graph, claim, read):
            core = fewer
    return tuple(core)


def _contradict(facts: Sequence[Fact], graph: Graph, claim: Claim, read: Sequence[Expr]) -> bool:
    """Whether the facts contradict each other at the ends of every axis, at what is `read` at any point of the
    claim's axes, and at what is read from there on."""
    program = replace(graph, facts=tuple(facts), accesses=())
    closed = assumed(program)
    sizes: list[Expr] = [op("le", integer(1), Size(name)) for name, value in graph.sizes if value is None]
    ends = [instance(f, at) for f in closed if f.nondecreasing is None for at in _ends(f.free)]
    problem = Problem(claim, program)
    axes = [a for a in problem.claim.free if nonnegative(polynomial(a.size, {}) - constant(1))]
    given = [*sizes, within(axes, {a.index: a.index for a in axes}), *ends]
    return problem.check([*given, *instances(closed, [*given, *read])]).result == "unsat"


def _ends(axes: Sequence[Axis]) -> Iterator[dict[Expr, Expr]]:
    """The corners of the axes: each at its first point or its last one."""
    for point in product(*((integer(0), op("sub", a.size, integer(1))) for a in axes)):
        yield {a.index: e for a, e in zip(axes, point, strict=True)}
