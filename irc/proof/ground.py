"""Facts at the elements that a claim reads: quantified assumptions as ground sentences.

`instances` takes a fact at every element that has been read (a fact of `len[b]` where `len[e]` is read holds for b = e,
if e lies within its axis), again for the elements that the instances read, a bounded number of times: for proofs.
`everywhere` takes it at all points of axes whose sizes are bounded: exact, for counterexamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from irc.codegen.expr import (
    FALSE,
    TRUE,
    Axis,
    Const,
    Expr,
    Index,
    Kind,
    Load,
    Op,
    Size,
    indices,
    integer,
    loads,
    op,
    substitute,
    walk,
)
from irc.graph.ir import Fact, Graph, Map, Reduce, bodies, shape
from irc.graph.size import nonnegative, polynomial
from irc.proof.offsets import meaning
from irc.proof.smt import closed, conjunction

ROUNDS = 3  # how often instances may read elements that call for further instances
MOST = 300  # instances in all
Binding = dict[Expr, Expr]


def assumed(graph: Graph) -> tuple[Fact, ...]:
    """What holds in every state: the program's facts, and the accesses that each call checks, closed."""
    sizes, inputs = dict(graph.sizes), {n.name for n in graph.inputs}
    facts: list[Fact] = []  # accesses first: what is assumed may read there
    for load, axes in graph.accesses:
        if not all(x.tensor in inputs for i in load.indices for x in loads(i)):
            continue  # what is computed takes not every value
        for index, size in zip(load.indices, shape(graph[load.tensor]), strict=True):
            free = tuple(a for a in axes if a.name in indices(index))
            inside = op("and", op("le", integer(0), index), op("lt", index, size))
            facts.append(Fact(inside, free, f"{load.tensor} is read within its axes"))
    return tuple(
        Fact(closed(f.predicate, sizes), closed_axes(f.free, sizes), f.text, f.nondecreasing, f.span)
        for f in dict.fromkeys((*facts, *graph.facts))
    )


def divisors(graph: Graph) -> tuple[Expr, ...]:
    """What the program divides by, where no index stands in it: at least 1 in every state, or the program is none."""
    read = [e for n in graph if isinstance(n, Map | Reduce) for e in bodies(n)] + [f.predicate for f in graph.facts]
    read += [a.size for n in graph if isinstance(n, Map | Reduce) for a in n.axes]
    return divided_by(read, graph)


def extents(graph: Graph) -> tuple[Expr, ...]:
    """The dimensions of inputs that might be negative, as N - 3: in no call they are."""
    sizes = dict(graph.sizes)
    found = (closed(s, sizes) for n in graph.inputs for s in n.shape)
    return tuple(dict.fromkeys(s for s in found if not nonnegative(polynomial(s, {}), 0)))


def divided_by(read: Sequence[Expr], graph: Graph) -> tuple[Expr, ...]:
    """The divisors in some expressions that are no numbers and hold no index."""
    sizes = dict(graph.sizes)
    parts = (part for e in read for part in walk(e))
    found = (closed(e.args[1], sizes) for e in parts if isinstance(e, Op) and e.name in ("floordiv", "mod"))
    return tuple(dict.fromkeys(e for e in found if not indices(e) and not isinstance(e, Const)))


def closed_axes(axes: Sequence[Axis], definitions: Mapping[str, Expr | None]) -> tuple[Axis, ...]:
    return tuple(Axis(a.name, closed(a.size, definitions), a.role) for a in axes)


def within(axes: Sequence[Axis], at: Mapping[Expr, Expr]) -> Expr:
    """That each axis's value lies in it."""
    parts: list[Expr] = []
    for axis in axes:
        value = at[axis.index]
        parts += [op("le", integer(0), value), op("lt", value, axis.size)]
    return conjunction(parts)


def implied(given: Expr, then: Expr) -> Expr:
    return op("or", op("not", given), then)


def instances(facts: Sequence[Fact], roots: Sequence[Expr]) -> tuple[Expr, ...]:
    """The facts without indices, and the others at the elements read by them and by `roots`; and what the segments that
    stand in all of these mean."""
    found = dict.fromkeys(f.predicate for f in facts if not f.free)
    seen: dict[tuple[int, tuple[Expr, ...]], Binding] = {}
    fresh: list[Expr] = [*roots, *found]
    names: dict[str, None] = dict.fromkeys(n for e in roots for n in sorted(indices(e)))
    for _ in range(ROUNDS):
        said = [e for e in meaning([*roots, *found]) if e not in found]
        found.update(dict.fromkeys(said))
        fresh += said
        reads = tuple(dict.fromkeys(r for e in fresh for r in loads(e) if r.indices))
        fresh = []
        for number, fact in enumerate(facts):
            if not fact.free:
                continue
            for binding in _bindings(fact, reads, names):
                key = (number, tuple(binding.values()))
                if key in seen:
                    continue
                if len(seen) == MOST:
                    return tuple(found)
                if fact.nondecreasing is None:
                    new = [instance(fact, binding)]
                    fresh += new
                else:
                    new = [e for k in seen if k[0] == number for e in _pair(fact, binding, seen[k])]
                    fresh.append(substitute(fact.predicate, binding))
                seen[key] = binding
                found.update(dict.fromkeys(e for e in new if e != TRUE))
        if not fresh:
            break
    return tuple(dict.fromkeys((*found, *meaning([*roots, *found]))))


def instance(fact: Fact, binding: Binding) -> Expr:
    """The fact with these values of its indices, if they lie within their axes."""
    return implied(within(fact.free, binding), substitute(fact.predicate, binding))


def _pair(fact: Fact, a: Binding, b: Binding) -> tuple[Expr, Expr]:
    """That the element does not decrease between two places, whichever comes first."""
    along = Index(str(fact.nondecreasing))
    given = op("and", within(fact.free, a), within(fact.free, b))
    for axis in fact.free:
        if axis.index != along:
            given = op("and", given, same(a[axis.index], b[axis.index]))
    if given == FALSE:
        return TRUE, TRUE
    at_a, at_b = substitute(fact.predicate, a), substitute(fact.predicate, b)
    return (
        implied(op("and", given, op("le", a[along], b[along])), op("le", at_a, at_b)),
        implied(op("and", given, op("le", b[along], a[along])), op("le", at_b, at_a)),
    )


def pairwise(fact: Fact) -> Fact:
    """The fact as a predicate: what does not decrease along an index, compared at two places."""
    if fact.nondecreasing is None:
        return fact
    axis = next(a for a in fact.free if a.name == fact.nondecreasing)
    later = Axis(f"{axis.name}'", axis.size)
    there = substitute(fact.predicate, {axis.index: later.index})
    ordered = implied(op("le", axis.index, later.index), op("le", fact.predicate, there))
    return Fact(ordered, (*fact.free, later), fact.text)


def same(a: Expr, b: Expr) -> Expr:
    return TRUE if a == b else op("eq", a, b)


def _bindings(fact: Fact, reads: Sequence[Load], names: Mapping[str, None]) -> Iterator[Binding]:
    """Values of the fact's indices at which it speaks of elements that are read; an index that stands in no element
    is taken at the index of the same name."""
    free = [a.index for a in fact.free]
    patterns = [p for p in loads(fact.predicate) if p.indices]
    for pattern in patterns:
        for read in reads:
            if read.tensor != pattern.tensor:
                continue
            for binding in _matches(pattern.indices, read.indices, frozenset(free), {}):
                missing = [i for i in free if i not in binding]
                if all(i.name in names for i in missing):
                    yield {i: binding.get(i, i) for i in free}
    if not patterns and all(i.name in names for i in free):
        yield {i: i for i in free}


def _matches(
    patterns: Sequence[Expr], places: Sequence[Expr], free: frozenset[Index], bound: Binding
) -> Iterator[Binding]:
    """Bindings under which patterns become places, one index being tried at both places where it stands twice."""
    if not patterns:
        yield bound
        return
    pattern, place = patterns[0], places[0]
    solved = [(i, v) for i, v in _solve(pattern, place, free)]
    fresh: Binding = {**bound, **{i: v for i, v in solved if i not in bound}}
    yield from _matches(patterns[1:], places[1:], free, fresh)
    twice: Binding = {i: v for i, v in solved if i in bound and bound[i] != v}
    if twice:
        yield from _matches(patterns[1:], places[1:], free, {**bound, **twice})


def _solve(pattern: Expr, place: Expr, free: frozenset[Index]) -> tuple[tuple[Index, Expr], ...]:
    """The indices of a pattern for which it has the value of `place`, as far as that is plain."""
    match pattern, place:
        case Index(), _:
            return ((pattern, place),) if pattern in free else ()
        case Op("add", (x, y), _), _ if not indices(y) & {i.name for i in free}:
            return _solve(x, op("sub", place, y) if x != place else place, free)
        case Op("add", (y, x), _), _ if not indices(y) & {i.name for i in free}:
            return _solve(x, op("sub", place, y), free)
        case Op("sub", (x, y), _), _ if not indices(y) & {i.name for i in free}:
            return _solve(x, op("add", place, y), free)
        case Op("flat", parts, _), Op("flat", others, _) if parts[3::2] == others[3::2]:
            pairs = zip(parts[::2], others[::2], strict=True)
            return tuple(found for p, o in pairs for found in _solve(p, o, free))
        case Op("flat", parts, _), _:
            found: tuple[tuple[Index, Expr], ...] = ()
            for number in range(len(parts) - 2, 0, -2):
                found += _solve(parts[number], op("mod", place, parts[number + 1]), free)
                place = op("floordiv", place, parts[number + 1])
            return found + _solve(parts[0], place, free)
        case _:
            return ()


def everywhere(fact: Fact, extents: Sequence[int]) -> Iterator[Expr]:
    """The fact at every point of its axes, whose sizes are at most `extents`."""
    along = next((k for k, a in enumerate(fact.free) if a.name == fact.nondecreasing), None)
    for point in product(*(range(n) for n in extents)):
        binding: Binding = {a.index: integer(v) for a, v in zip(fact.free, point, strict=True)}
        if along is None:
            yield instance(fact, binding)
        elif point[along] + 1 < extents[along]:
            following = {**binding, fact.free[along].index: integer(point[along] + 1)}
            step = op("le", substitute(fact.predicate, binding), substitute(fact.predicate, following))
            yield implied(within(fact.free, following), step)


def symbols(exprs: Sequence[Expr]) -> tuple[Expr, ...]:
    """The open sizes and the integer scalars that stand in them."""
    found = (part for e in exprs for part in walk(e))
    return tuple(
        dict.fromkeys(
            e for e in found if isinstance(e, Size) or (isinstance(e, Load) and not e.indices and e.kind is Kind.INT)
        )
    )
