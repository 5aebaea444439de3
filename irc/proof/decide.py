"""Decides a claim: a proof by z3 without quantifiers where there is one, else the smallest state that breaks it, else a
search of all small states. z3 works under a limit on its steps and never on a clock, so a verdict is always the same.
"""

from __future__ import annotations

from irc.codegen.expr import Expr, op
from irc.graph.ir import Core, Graph
from irc.proof.claim import Answer, Claim
from irc.proof.exhaustive import counterexample, looked_at
from irc.proof.problem import Problem
from irc.proof.smallest import smallest
from irc.proof.witness import Witness, named, witnesses

FIRST = 3  # witnesses tried before small sizes are searched
MANY = 12  # of them, of which one must do
SMALL = (1, 2, 3, 4, 6, 8)
LARGE = (16, 32, 64, 128, 256, 1024)
Way = tuple[tuple[str, ...], list[Expr]]  # guesses of which one is a key, and what must then be contradictory


def decide(claim: Claim, graph: Graph, seed: int = 0) -> Answer:
    """What holds of the claim. `seed` is z3's, and changes no verdict."""
    problem = Problem(claim, graph, seed)
    core = next((c for c in graph.cores if c.name == claim.core), None)
    ways = _ways(problem, core)
    if not problem.is_of_inputs:  # what is computed takes not every value: no state can be made up
        return _proved(problem, ways) or _quantified(problem) or Answer("unknown")
    return (
        _proved(problem, ways[:FIRST])
        or _refuted(problem, SMALL)
        or _proved(problem, ways[FIRST:])
        or _refuted(problem, LARGE)
        or _quantified(problem)
        or _searched(problem)
    )


def is_proved(claim: Claim, graph: Graph) -> bool:
    """Whether there is a proof without quantifiers: one question, for claims that may well not hold."""
    problem = Problem(claim, graph)
    return _proved(problem, _ways(problem, None)) is not None


def _ways(problem: Problem, core: Core | None) -> list[Way]:
    claim = problem.claim
    if not claim.some:
        return [((), [*problem.point, op("not", claim.goal)])]
    guesses = witnesses(claim, core)
    several = guesses[:MANY]
    return [_way(problem, core, (w,)) for w in guesses] + ([_way(problem, core, several)] if len(several) > 1 else [])


def _way(problem: Problem, core: Core | None, guesses: tuple[Witness, ...]) -> Way:
    """That none of the guesses is a key of the row, for a row of every state."""
    names = tuple(named(problem.claim, core, w) for w in guesses)
    return names, [*problem.point, *(problem.fails(w) for w in guesses)]


def _proved(problem: Problem, ways: list[Way]) -> Answer | None:
    """By the first way whose sentences contradict each other."""
    for names, roots in ways:
        text = _contradiction(problem, roots)
        if text is None:
            continue
        for name in names if len(names) > 1 else ():  # those of which one is needed
            fewer = [e for n, e in zip(names, roots[-len(names) :], strict=True) if n != name]
            shorter = _contradiction(problem, [*problem.point, *fewer])
            if shorter is not None:
                names, roots, text = tuple(n for n in names if n != name), [*problem.point, *fewer], shorter
        said = " or ".join(names)
        return Answer(
            "proved",
            said,
            problem.reservations,
            queries=((said or "no state breaks it", text),),
            read=tuple(roots),
        )
    return None


def _contradiction(problem: Problem, roots: list[Expr]) -> str | None:
    """The query, if no state keeps all of the sentences."""
    checked = problem.check([*roots, *problem.state(roots)])
    return checked.text if checked.result == "unsat" else None


def _refuted(problem: Problem, bounds: tuple[int, ...]) -> Answer | None:
    """By the smallest state with sizes up to one of the bounds; one with an empty size only where there is no other."""
    searches = [(bound, 1) for bound in bounds] + ([(2, 0)] if bounds is SMALL else [])
    for bound, least in searches:
        found = smallest(problem, bound, least)
        if found is not None:
            model, text = found
            return Answer("refuted", model=model, queries=(("a state breaks it", text),))
    return None


def _quantified(problem: Problem) -> Answer | None:
    """By z3's own instances of quantified sentences."""
    claim = problem.claim
    roots = problem.point if claim.some else [*problem.point, op("not", claim.goal)]
    facts = (*problem.general, *((problem.nowhere,) if claim.some else ()))
    checked = problem.solve([*roots, *problem.state(roots)], quantified=facts)
    if checked.result != "unsat":
        return None
    queries = (("with quantifiers", checked.text),)
    return Answer("proved", "with quantifiers", problem.reservations, queries=queries, read=tuple(roots))


def _searched(problem: Problem) -> Answer:
    bound, model = counterexample(problem.claim, problem.graph)
    if model is not None:
        return Answer("refuted", model=model)
    said = f"checked exhaustively for {looked_at(problem.claim, problem.graph, bound)}" if bound else ""
    return Answer("unknown", said)
