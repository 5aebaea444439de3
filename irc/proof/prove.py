"""Every `ensure` of a program, decided."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from irc.codegen.expr import TRUE
from irc.error import SpecError
from irc.grammar.source import Span
from irc.graph.ir import Core, Fact, Graph, Property
from irc.proof.alignment import proved_with
from irc.proof.assumptions import contradiction
from irc.proof.claim import Answer, Claim, Model
from irc.proof.decide import decide
from irc.proof.diagnosis import Diagnosis, diagnose, moved
from irc.proof.flow import Unplaced
from irc.proof.picks import with_queries
from irc.proof.picture import pairs, reads
from irc.proof.properties import PropertyError, Undecided, claims
from irc.proof.reason import evidence, of_pairs, reason
from irc.proof.replay import differs
from irc.proof.report import contradictory, senseless
from irc.proof.verdict import Verdict, accepted

Decided = tuple[tuple[Claim, Answer], ...]
UNSEEN = "but no run of a few tokens has other outputs"
WEAKEST_FIRST = ("refuted", "unknown", "proved")


def prove(graph: Graph, accept: tuple[str, ...] = ()) -> tuple[Verdict, ...]:
    """A verdict for each property that the program ensures; those named in `accept` are so marked if not proved.

    Raises SpecError where the assumptions contradict each other (everything would follow from them) and for a property
    that makes no sense of this program, InputError for a name in `accept` that the program does not ensure.
    """
    if not graph.properties:
        return accepted((), accept)
    _refuse(contradiction(graph))
    decided, nonsense = {}, []
    for property in graph.properties:
        try:
            decided[property] = _decided(property, graph)
        except PropertyError as error:
            found = proved_with(graph, property, holds) if isinstance(error, Unplaced) else None
            nonsense.append(senseless(property, error, found))
    if nonsense:
        raise SpecError(tuple(nonsense))
    proved = tuple(p for p, found in decided.items() if all(answer.status == "proved" for _, answer in found))
    said: dict[str, list[Verdict]] = {}
    for p in graph.properties:
        seen = with_queries(graph) if p.name in ("causal", "window") else graph
        said.setdefault(p.text, []).append(_verdict(p, decided[p], seen, proved))
    return accepted(tuple(_together(verdicts) for verdicts in said.values()), accept)


def _together(verdicts: list[Verdict]) -> Verdict:
    """One `ensure` that speaks of several cores: the weakest of its verdicts."""
    weakest = min(verdicts, key=lambda v: ("refuted", "not decided", "proved").index(v.status))
    if weakest.status != "proved":
        return weakest
    queries = tuple(query for v in verdicts for query in v.queries)
    return replace(weakest, evidence="; ".join(dict.fromkeys(v.evidence for v in verdicts)), queries=queries)


def _decided(property: Property, graph: Graph) -> Decided:
    """The claims of the property and their answers. Raises SpecError where one is proved of nothing."""
    try:
        found = tuple((claim, decide(claim, graph)) for claim in claims(property, graph))
    except Undecided as why:
        return ((Claim(property.text, (), TRUE), Answer("unknown", str(why))),)
    if property.name == "incremental":
        found = _shown(property, found, graph)
    for claim, answer in found:
        if answer.status == "proved" and any(f.free for f in graph.facts):
            _refuse(contradiction(graph, claim, answer.read))
    return found


def _shown(property: Property, found: Decided, graph: Graph) -> Decided:
    """Without refutations of what the program computes on the way, where no run has other outputs for it."""
    refuted = [answer.model for _, answer in found if answer.model is not None]
    if not refuted or any(differs(graph, model) for model in refuted):
        return found
    return tuple(
        (c, a if a.model is None else Answer("unknown", f"{reason(graph, property, c, a.model)}, {UNSEEN}"))
        for c, a in found
    )


def _refuse(facts: tuple[Fact, ...]) -> None:
    if facts:
        raise SpecError((contradictory(facts),))


def holds(graph: Graph, property: Property, core: str | None = None) -> bool:
    """Whether the property is proved; with `core`, as far as pairs of that core tell."""
    try:
        wanted = (claim for claim in claims(property, graph) if core is None or claim.core == core)
        return all(decide(claim, graph).status == "proved" for claim in wanted)
    except (PropertyError, Undecided):
        return False


def _diagnosis(
    graph: Graph, property: Property, core: Core, model: Model, proved: tuple[Property, ...]
) -> Diagnosis | None:
    """Of several cores with the same mistake, each is looked at alone."""
    found = diagnose(graph, property, core, model, proved, holds)
    if found is None and len(graph.cores) > 1:
        found = diagnose(graph, property, core, model, proved, partial(holds, core=core.name))
    return found


def _verdict(property: Property, decided: Decided, graph: Graph, proved: tuple[Property, ...]) -> Verdict:
    """The verdict of the weakest claim."""
    queries = tuple(query for _, answer in decided for query in answer.queries)
    if property in proved:
        return Verdict(property.text, "proved", evidence(property, decided, graph), queries=queries, span=property.span)
    claim, answer = min(decided, key=_weakness)
    if answer.status == "unknown":
        why = answer.evidence or f"no proof that {claim.about}, and too many states to search"
        return Verdict(property.text, "not decided", why, claim.core, queries=queries, span=property.span)
    assert answer.model is not None
    core = next((c for c in graph.cores if c.name == claim.core), None) if of_pairs(claim) else None
    if core is not None:
        found = _diagnosis(graph, property, core, answer.model, proved)
        shown = pairs(
            graph, core, answer.model, _legend(property), () if property.argument is None else (property.argument,)
        )
    else:
        found = moved(property, claim)
        shown = reads(graph, claim, answer.model)
    return Verdict(
        property.text,
        "refuted",
        f"the smallest counterexample has {shown.given}" if shown and shown.given else "",
        core.name if core else None,
        answer.model,
        reason(graph, property, claim, answer.model),
        shown,
        found.name if found else None,
        found.fix if found else None,
        queries=queries,
        span=property.span,
        at=found.at if found else _mask(core) or claim.span,
    )


def _weakness(found: tuple[Claim, Answer]) -> tuple[int, bool]:
    """Weakest first; among equals, those that a pair of a core explains."""
    claim, answer = found
    return WEAKEST_FIRST.index(answer.status), not of_pairs(claim)


def _legend(property: Property) -> str:
    return "not the same when decoded" if property.name == "incremental" else ""


def _mask(core: Core | None) -> Span | None:
    """The mask to blame where nothing is known: the only one, else the core."""
    if core is None:
        return None
    return core.masks[0].span if len(core.masks) == 1 else core.span
