"""Why a property fails: the nearest program that has it. What is offered has been proved, never guessed.

Candidates undo a mutation of a mask (`mutation.py`), add a mask, or add an assumption. They are tried in that order
(for `rows nonempty`, assumptions come first), at first only those that keep all that the program ensures and leave no
row empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from irc.codegen.expr import TRUE, Axis, Expr, Kind, Load, Op, Size, conjuncts, indices, integer, loads, op, walk
from irc.grammar.source import Span
from irc.graph.ir import Core, Fact, Graph, Map, Mask, Property, Reduce, shape
from irc.proof.assumptions import contradiction
from irc.proof.claim import Claim, Model
from irc.proof.flow import core_of
from irc.proof.mutation import aligned, negated, repairs, written
from irc.proof.picture import Picture, pairs

Holds = Callable[[Graph, Property], bool]
NONEMPTY = Property("rows nonempty", "rows nonempty")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`name` says how the program misses the property, if there is a word for it, `fix` what to write instead, `at`
    where it goes wrong."""

    name: str | None
    fix: str | None
    at: Span | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A program, and what it says of the one given. It must keep `exactly` the pairs that were right."""

    diagnosis: Diagnosis
    graph: Graph
    exactly: tuple[Property, ...] = ()


def diagnose(
    graph: Graph, property: Property, core: Core, model: Model, proved: tuple[Property, ...], holds: Holds
) -> Diagnosis | None:
    """The first candidate that has the property, refuted by the model, and loses none of those that are `proved`."""
    others = tuple(p for p in graph.properties if p != property)
    masks, assumptions = _masks(graph, property, core, model), tuple(_with_assumptions(graph, core))
    known: dict[tuple[int, Property], bool] = {}

    def has(candidate: Candidate, wanted: Property) -> bool:
        key = id(candidate), wanted
        if key not in known:
            known[key] = holds(candidate.graph, wanted)
        return known[key]

    rounds = [(masks, kept) for kept in ((*others, NONEMPTY), (*proved, NONEMPTY), proved)]
    first = property.name == "rows nonempty"  # a mask that wants an assumption is right
    rounds.insert(0 if first else len(rounds), (assumptions, proved))
    for tried, kept in rounds:
        for candidate in tried:
            wanted = (property, *candidate.exactly, *kept)
            if all(has(candidate, p) for p in wanted) and not contradiction(candidate.graph):
                return candidate.diagnosis
    if property.name == "allow" and property.argument is not None and len(core.masks) == 1:
        return Diagnosis(None, f"write `allow {written(property.argument, core)}`", core.masks[0].span)
    return None


def _masks(graph: Graph, property: Property, core: Core, model: Model) -> tuple[Candidate, ...]:
    """Programs with other masks that do not fail in the state of the model."""
    found = (*_with_mask_changed(graph, property, core), *_with_masks_added(graph, property, core))
    if property.name == "incremental":  # no single pair tells, and it holds of no pair at all
        found = (*found, *_with_last_aligned(graph, core))
        return tuple(c for c in found if (after := _pairs(c.graph, core, model)) is None or after.filled.any())
    some = property.name in ("causal", "window")  # which hold of no pair at all
    return tuple(c for c in found if _differs(graph, c.graph, core, model, some))


def _differs(graph: Graph, other: Graph, core: Core, model: Model, some: bool) -> bool:
    """Whether the mask has changed at the offending pair or row; with `some`, it must let some pair through."""
    before, after = _pairs(graph, core, model), _pairs(other, core, model)
    if before is None or after is None or before.row is None:
        return True
    if some and not after.filled.any():
        return False
    at = before.row if before.column is None else (before.row, before.column)
    return bool((before.filled[at] != after.filled[at]).any())


def _pairs(graph: Graph, core: Core, model: Model) -> Picture | None:
    return pairs(graph, next(c for c in graph.cores if c.name == core.name), model)


# masks


def _with_mask_changed(graph: Graph, property: Property, core: Core) -> Iterator[Candidate]:
    wanted = _wanted(property, core)
    for n, mask in enumerate(core.masks):
        for name, predicate in repairs(mask.predicate, core):
            if name == "transposed" and property.name == "window":  # keys after the query are in every window
                continue
            masks = (*core.masks[:n], replace(mask, predicate=predicate), *core.masks[n + 1 :])
            exactly: tuple[Property, ...] = ()
            if name == "off by one" and wanted is not None and property.name != "allow":
                exactly = (Property("allow", "allow", op("and", core.support or TRUE, wanted), core.name),)
            if name == "off by one" and property.name == "window":
                name = "window off by one"
            diagnosis = Diagnosis(name, _fix(name, mask, predicate, core), mask.span)
            yield Candidate(diagnosis, with_masks(graph, core, masks), exactly)


def _fix(name: str, mask: Mask, predicate: Expr, core: Core) -> str:
    allow, block = (f"`allow {written(predicate, core)}`", f"`block {written(negated(predicate), core)}`")
    if name == "complemented":  # as it was written, with the other word
        as_written = mask.span.text().removeprefix(mask.kind).strip() if mask.span else ""
        allow, block = (f"`block {as_written}`", allow) if mask.kind == "allow" else (f"`allow {as_written}`", block)
        return f"write {allow}, or {block}"
    return f"write {allow if mask.kind == 'allow' else block}"


def with_masks(graph: Graph, core: Core, masks: tuple[Mask, ...]) -> Graph:
    """The program with other masks in one core."""
    support: Expr | None = None
    for mask in masks:
        support = mask.predicate if support is None else op("and", support, mask.predicate)
    changed = replace(core, masks=masks, support=support)
    keys = set(core.columns)
    nodes = tuple(
        replace(n, where=support)
        if isinstance(n, Map | Reduce)
        and n.where == core.support
        and keys & {*n.axes, *getattr(n, "over", ())}
        and core_of(n, graph) == core
        else n
        for n in graph.nodes
    )
    return replace(graph, nodes=nodes, cores=tuple(changed if c.name == core.name else c for c in graph.cores))


def _wanted(property: Property, core: Core) -> Expr | None:
    """What a mask alone would say to have the property."""
    if property.name == "allow":
        return property.argument
    if len(core.rows) != 1 or not core.position:
        return None
    (position,), column = core.position, core.columns[0].index
    match property.name, property.argument:
        case "causal", _:
            return op("le", column, position)
        case "window", width if width is not None:
            return op("lt", op("sub", position, width), column)
    return None


def _with_masks_added(graph: Graph, property: Property, core: Core) -> Iterator[Candidate]:
    """With what the property asks for as a further mask, or as one of its parts."""
    wanted = _wanted(property, core)
    for predicate in () if wanted is None else dict.fromkeys((*conjuncts(wanted), wanted)):
        diagnosis = Diagnosis("mask missing", f"add `allow {written(predicate, core)}`", core.span)
        yield Candidate(diagnosis, with_masks(graph, core, (*core.masks, Mask("allow", predicate))))


def _with_last_aligned(graph: Graph, core: Core) -> Iterator[Candidate]:
    """With `align last` for a core whose queries and keys begin together."""
    if core.position != tuple(row.index for row in core.rows) or not core.masks:
        return
    places = tuple(
        op("add", row.index, op("sub", column.size, row.size))
        for row, column in zip(core.rows, core.columns, strict=False)
    )
    last = replace(core, position=places)
    masks = tuple(replace(m, predicate=aligned(m.predicate, last)) for m in core.masks)
    says_pos = any(m.span is not None and "pos(" in m.span.text() for m in core.masks)
    fix = "write `align last`" + ("" if says_pos else f", and `allow {written(masks[0].predicate, last)}`")
    changed = with_masks(graph, core, masks)
    cores = tuple(replace(c, position=places) if c.name == core.name else c for c in changed.cores)
    yield Candidate(Diagnosis("alignment lost", fix, core.masks[0].span), replace(changed, cores=cores))


def moved(property: Property, claim: Claim) -> Diagnosis | None:
    """A statement, no mask, that reads another position or entry than its own."""
    if claim.span is None or property.name == "incremental":
        return None
    if property.name == "batch independent":
        return Diagnosis("batch entries mixed", "read each entry of the batch at its own index", claim.span)
    reshaped = any(
        isinstance(e, Op) and e.name in ("floordiv", "mod", "flat") for said in claim.said for e in walk(said)
    )
    fix = "a split into heads that moves no position is `q[b,h,s,d] = x[b,s,(h d)]`" if reshaped else None
    return Diagnosis("positions mixed", fix, claim.span)


# assumptions


def _with_assumptions(graph: Graph, core: Core) -> Iterator[Candidate]:
    facts = tuple(_assumptions(graph, core))
    for chosen in (*((f,) for f in facts), *combinations(facts, 2)):
        fix = f"add `assume {', '.join(f.text for f in chosen)}`"
        yield Candidate(Diagnosis("assumption missing", fix, core.span), replace(graph, facts=(*graph.facts, *chosen)))


def _assumptions(graph: Graph, core: Core) -> Iterator[Fact]:
    """What is commonly true of the sizes, scalars and lengths that the mask reads."""
    for row, column in zip(core.rows, core.columns, strict=False):
        if isinstance(column.size, Size):
            yield Fact(op("le", integer(1), column.size), (), f"{column.size.name} >= 1")
            if isinstance(row.size, Size) and row.size != column.size:
                yield Fact(op("le", row.size, column.size), (), f"{row.size.name} <= {column.size.name}")
    yield from _of_segments(graph, core)
    known = {load.tensor for fact in graph.facts for load in loads(fact.predicate) if not load.indices}  # thought of
    names = {load.tensor for load in loads(core.support or TRUE) if load.kind is Kind.INT} - known
    for node in (n for n in graph.inputs if n.name in names):
        axes = tuple(Axis("bcdef"[k], size) for k, size in enumerate(node.shape))
        element = Load(node.name, tuple(a.index for a in axes), Kind.INT)
        text = f"{node.name}[{','.join(a.name for a in axes)}]" if axes else node.name
        yield Fact(op("le", integer(1), element), axes, f"{text} >= 1")
        yield Fact(op("le", integer(0), element), axes, f"{text} >= 0")


def _of_segments(graph: Graph, core: Core) -> Iterator[Fact]:
    """That every segment has a key, or as many keys as queries."""
    keys = _tables_of_segments(core, core.columns)
    for table in keys:
        element, axes, written = _element(graph, table)
        yield _nondecreasing(op("sub", element, axes[-1].index), axes, f"{written} - {axes[-1].name}")
        for other in (t for t in _tables_of_segments(core, core.rows) if t not in keys):
            less, others, subtracted = _element(graph, other)
            if others == axes:
                yield _nondecreasing(op("sub", element, less), axes, f"{written} - {subtracted}")


def _tables_of_segments(core: Core, side: tuple[Axis, ...]) -> tuple[str, ...]:
    """The tables of which the mask asks in what segment a position of that side lies."""
    names = {a.name for a in side}
    found = (e for e in walk(core.support or TRUE) if isinstance(e, Op) and e.name == "segment" and indices(e) & names)
    return tuple(dict.fromkeys(load.tensor for e in found for load in loads(e.args[0])))


def _element(graph: Graph, table: str) -> tuple[Load, tuple[Axis, ...], str]:
    """Any offset of the table, its axes, and how it is written."""
    *others, offsets = shape(graph[table])
    axes = (*(Axis("bcdef"[k], size) for k, size in enumerate(others)), Axis("n", offsets))
    return Load(table, tuple(a.index for a in axes), Kind.INT), axes, f"{table}[{','.join(a.name for a in axes)}]"


def _nondecreasing(value: Expr, axes: tuple[Axis, ...], written: str) -> Fact:
    return Fact(value, axes, f"nondecreasing {written} over {axes[-1].name}", axes[-1].name)
