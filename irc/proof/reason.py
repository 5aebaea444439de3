"""Why a property holds, and what happens in a counterexample, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from irc.codegen.expr import TRUE, Axis, Kind, Op
from irc.elaborate.report import counted
from irc.graph.interpret import complete_sizes, size_value
from irc.graph.ir import Core, Graph, Property
from irc.graph.printer import expression
from irc.proof.claim import Answer, Claim, Model
from irc.proof.known import taken_as_known
from irc.proof.mutation import written
from irc.proof.properties import independence
from irc.proof.reach import tokens
from irc.proof.state import value

COUNTED = "one that is counted"


def evidence(property: Property, decided: Sequence[tuple[Claim, Answer]], graph: Graph) -> str:
    """The sentence for a property that is proved, with what its proofs suppose beyond what is assumed."""
    supposed = list(dict.fromkeys(s for claim, answer in decided for s in (*claim.supposed, *answer.supposed)))
    if property.name in ("causal", "window"):
        found = tokens(graph)
        supposed += [f"`{table}` taken as known" for table in taken_as_known(found)]
        supposed += [f"entries of `{name}` taken as numbers of picks" for name in sorted(found.ranked)]
    return _sentence(property, decided, graph) + (f" ({', '.join(supposed)})" if supposed else "")


def _sentence(property: Property, decided: Sequence[tuple[Claim, Answer]], graph: Graph) -> str:
    match property.name:
        case "causal":
            return "no output reads an input at a later position than its own"
        case "window":
            assert property.argument is not None
            return f"no output reads an input `{expression(property.argument)}` or more positions before its own"
        case "rows nonempty":
            keys: dict[str | None, dict[str, None]] = {}
            for claim, answer in decided:
                keys.setdefault(claim.core, {})[answer.evidence if claim.some else COUNTED] = None
            named = len(keys) > 1
            said = ", ".join(" or ".join(key) + (f" in `{core}`" if named else "") for core, key in keys.items())
            return f"every query has a key: {said}"
        case "batch independent":
            return independence(graph)
        case "allow":
            return f"the mask of `{property.core}` allows exactly these pairs"
        case "incremental":
            return "a query decoded against the cache gives its row of the full computation"
        case _:
            raise ValueError(f"no property {property.name}")


def of_pairs(claim: Claim) -> bool:
    """Whether the claim speaks of the pairs of its core, and not of a number that two computations use."""
    match claim.goal:
        case Op("eq", (a, _), _) if not claim.some:
            return claim.core is not None and a.kind is Kind.BOOL
        case _:
            return claim.core is not None


def reason(graph: Graph, property: Property, claim: Claim, model: Model) -> str:
    """The sentence for a claim that the model refutes."""
    core = next((c for c in graph.cores if c.name == claim.core), None)
    if core is None or not of_pairs(claim) or any(a.name not in model.indices for a in core.rows):
        return _said(graph, claim, model)
    query = f"query {_point(core.rows, model)}{_place(graph, core, model)}" if core.rows else f"core `{core.name}`"
    if property.name == "rows nonempty":
        return f"{query} has no key" + ("" if _keys(graph, core, model) else ", for there is none")
    if any(a.name not in model.indices for a in core.columns):
        return _said(graph, claim, model)
    key = f"key {_point(core.columns, model)}"
    match property.name:
        case "causal" | "window":
            width = property.argument
            beyond = "" if width is None else f", outside of its window of {value(width, graph, model)}"
            return f"{query} sees {key}{_distance(graph, core, model)}{beyond}"
        case "allow":
            assert property.argument is not None
            wanted = written(property.argument, core)
            if len(graph.cores) > 1:
                query += f" of `{core.name}`" if core.rows else ""
            if value(core.support or TRUE, graph, model):
                return f"{query} sees {key}, which `{wanted}` forbids"
            return f"{query} does not see {key}, which `{wanted}` allows"
        case "incremental" if not isinstance(claim.goal, Op) or claim.goal.name != "eq":
            return f"{query} sees {key}, which is not there yet when {'the query' if core.rows else 'a row'} is decoded"
        case "incremental":
            sees = value(core.support or TRUE, graph, model)
            first, then = ("sees", "does not see") if sees else ("does not see", "sees")
            return f"{query} {first} {key} in the full computation, and {then} it when it is decoded alone"
    return _said(graph, claim, model)


def _said(graph: Graph, claim: Claim, model: Model) -> str:
    """The claim's own sentence, in numbers where it has places."""
    if claim.said:
        return claim.words.format(*(value(e, graph, model) for e in claim.said))
    match claim.goal:
        case Op("eq", (step, full), _):  # of decoding
            here, there = value(step, graph, model), value(full, graph, model)
            what = claim.about.removesuffix(", the same while decoding")
            return f"{what}, which is {here} while decoding and {there} in the full computation"
    listed = ", ".join(f"{name} = {at}" for name, at in model.indices.items())
    return f"it is not so that {claim.about}" + (f": at {listed}" if listed else "")


def _point(axes: tuple[Axis, ...], model: Model) -> str:
    """`i = 0`, or `(yi xi) = (0 1)`."""
    values = [str(model.indices[a.name]) for a in axes]
    if len(axes) == 1:
        return f"{axes[0].name} = {values[0]}"
    return f"({' '.join(a.name for a in axes)}) = ({' '.join(values)})"


def _place(graph: Graph, core: Core, model: Model) -> str:
    """Where the query sits among the keys, if that is not its index."""
    if len(core.position) != 1:
        return ""
    place = int(value(core.position[0], graph, model))
    return "" if place == model.indices[core.rows[0].name] else f" at position {place}"


def _distance(graph: Graph, core: Core, model: Model) -> str:
    """How far the key lies from the query's position, along a single axis."""
    if len(core.position) != 1 or len(core.columns) != 1:
        return ""
    apart = model.indices[core.columns[0].name] - int(value(core.position[0], graph, model))
    if apart == 0:
        return ", at its own position"
    return f", {counted(abs(apart), 'position', 'positions')} {'after' if apart > 0 else 'before'} its own"


def _keys(graph: Graph, core: Core, model: Model) -> bool:
    """Whether there is a key at all."""
    sizes = complete_sizes(graph, model.sizes)
    return all(size_value(a.size, sizes) > 0 for a in core.columns)
