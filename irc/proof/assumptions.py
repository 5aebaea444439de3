"""Vacuity: whether any state keeps what a program assumes. From contradictory assumptions everything would follow.

A state counts if every size is at least 1: where an axis is empty, nothing is said of its elements, and that would hide
a contradiction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from irc.codegen.expr import TRUE, Expr, Size, integer, op
from irc.ir import Fact, Graph
from irc.proof.claim import Claim
from irc.proof.ground import assumed, instance, instances
from irc.proof.problem import Problem


def contradiction(graph: Graph) -> tuple[Fact, ...]:
    """A smallest set of facts that no state keeps, none of which could be left out; empty where none is found."""
    core = list(graph.facts)
    if not core or not _contradict(core, graph):
        return ()
    for fact in graph.facts:
        fewer = [f for f in core if f is not fact]
        if _contradict(fewer, graph):
            core = fewer
    return tuple(core)


def _contradict(facts: Sequence[Fact], graph: Graph) -> bool:
    """Whether the facts contradict each other at the first or the last point of every axis, and at what is read from
    there on."""
    program = replace(graph, facts=tuple(facts), accesses=())
    closed = assumed(program)
    sizes: list[Expr] = [op("le", integer(1), Size(name)) for name, value in graph.sizes if value is None]
    plain = [f for f in closed if f.nondecreasing is None]
    ends = [instance(f, {a.index: integer(0) for a in f.free}) for f in plain]
    ends += [instance(f, {a.index: op("sub", a.size, integer(1)) for a in f.free}) for f in plain if f.free]
    problem = Problem(Claim("the assumptions", (), TRUE), program)
    return problem.check([*sizes, *ends, *instances(closed, ends)]).result == "unsat"
