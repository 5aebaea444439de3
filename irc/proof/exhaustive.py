"""All small states, one after another, by the interpreter: what is said of a claim that z3 does not decide.

It is also the oracle of the tests. All states of one choice of sizes are evaluated at once: they are one more axis, and
every scalar and table is indexed by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np

from irc.codegen.expr import Expr, Index, Kind, Load, integer, loads, op, rebuild
from irc.graph.interpret import DTYPES, Grid, complete_sizes, evaluate, size_value
from irc.graph.ir import Fact, Graph, Input
from irc.graph.size import size_names
from irc.proof.claim import Array, Claim, Model
from irc.proof.ground import assumed, divided_by, divisors

STATE = "state of the program"  # the name of the axis of states: no index has it
FLOATS = (0.0, 0.5, 1.0, -1.0)
BUDGET = 3_000_000  # points evaluated for one bound of the sizes


def counterexample(
    claim: Claim, graph: Graph, most: int = 8, fixed: Mapping[str, int] | None = None, budget: int = BUDGET
) -> tuple[int, Model | None]:
    """(bound, state): the largest bound up to which every state was looked at, and the first that breaks the claim.

    Sizes run from 1 to the bound, then from 0, those in `fixed` apart; integer scalars from -bound to bound + 1,
    entries of integer tables from -1 to bound; a size that neither the claim nor a fact names is 1.
    """
    checked = 0
    for least in (1, 0):
        for bound in range(1, (most if least else checked) + 1):
            choices = list(_sizes(claim, graph, least, bound, dict(fixed or {})))
            if least and sum(_cost(claim, graph, sizes, bound) for sizes in choices) > budget:
                break
            for sizes in choices:
                try:
                    found = _first(claim, graph, sizes, bound)
                except IndexError:  # a fact or the claim leaves its table
                    if least:
                        return checked, None
                    continue  # one that is empty: no such call is accepted
                if found is not None:
                    return checked, found
            checked = max(checked, bound)
    return checked, None


def looked_at(claim: Claim, graph: Graph, bound: int) -> str:
    """In words, which states `counterexample` looks at up to a bound."""
    read = [n for n in _read(claim, graph) if n.kind is not Kind.BOOL]
    words = [f"all sizes up to {bound}"]
    if any(not n.shape and n.kind is Kind.INT for n in read):
        words.append(f"scalars from {-bound} to {bound + 1}")
    if any(n.shape and n.kind is Kind.INT for n in read):
        words.append(f"table entries from -1 to {bound}")
    if any(n.kind is Kind.FLOAT for n in read):
        words.append(f"floats of {', '.join(map(str, FLOATS))}")
    return ", ".join(words)


def breaks(claim: Claim, graph: Graph, model: Model) -> bool:
    """Whether the state keeps the facts and the claim fails in it at the model's indices."""
    values = {name: np.asarray(v) for name, v in {**model.scalars, **model.tables}.items()}
    at = tuple((name, range(value, value + 1)) for name, value in model.indices.items())
    inside = all(0 <= model.indices[a.name] < size_value(a.size, model.sizes) for a in claim.free)
    try:
        return inside and bool(_broken(claim, graph, model.sizes, {k: v[None] for k, v in values.items()}, at).any())
    except IndexError:  # a fact or the claim leaves its table: no such call is accepted
        return False


def _read(claim: Claim, graph: Graph) -> list[Input]:
    """The inputs that the claim or a fact reads."""
    facts = assumed(graph)
    names = {r.tensor for e in (claim.given, claim.goal, *(f.predicate for f in facts)) for r in loads(e)}
    return [n for n in graph.inputs if n.name in names]


def _sizes(claim: Claim, graph: Graph, least: int, bound: int, fixed: dict[str, int]) -> Iterator[dict[str, int]]:
    """Every choice of the sizes from `least` to `bound`, the smallest first; from 0, those with an empty size only."""
    axes = (*claim.free, *claim.some, *(a for f in assumed(graph) for a in f.free))
    roots = [claim.given, claim.goal, *(a.size for a in axes), *(f.predicate for f in assumed(graph))]
    roots += [s for n in _read(claim, graph) for s in n.shape]
    named = set(size_names(roots))
    for name, definition in reversed(graph.sizes):
        if name in named and definition is not None:
            named |= set(size_names((definition,)))
    open_sizes = [n for n, d in graph.sizes if d is None and n in named and n not in fixed]
    points = product(range(least, bound + 1), repeat=len(open_sizes))
    for point in sorted((p for p in points if least or 0 in p), key=lambda p: (max(p, default=0), p)):
        chosen = {n: 1 for n, d in graph.sizes if d is None} | fixed | dict(zip(open_sizes, point, strict=True))
        known = complete_sizes(graph, chosen)
        if all(size_value(s, known) >= 0 for n in graph.inputs for s in n.shape):
            yield known


def _entries(kind: Kind, scalar: bool, bound: int) -> Sequence[Any]:
    if kind is Kind.BOOL:
        return (False, True)
    if kind is Kind.FLOAT:
        return FLOATS
    return range(-bound, bound + 2) if scalar else range(-1, bound + 1)


def _shapes(claim: Claim, graph: Graph, sizes: Mapping[str, int]) -> list[tuple[Input, tuple[int, ...]]]:
    return [(n, tuple(size_value(s, sizes) for s in n.shape)) for n in _read(claim, graph)]


def _states(claim: Claim, graph: Graph, sizes: Mapping[str, int], bound: int) -> int:
    return prod(len(_entries(n.kind, not n.shape, bound)) ** prod(shape) for n, shape in _shapes(claim, graph, sizes))


def _cost(claim: Claim, graph: Graph, sizes: Mapping[str, int], bound: int) -> int:
    points = prod(size_value(a.size, sizes) for a in (*claim.free, *claim.some))
    return (points + 1) * _states(claim, graph, sizes, bound)


def _first(claim: Claim, graph: Graph, sizes: dict[str, int], bound: int) -> Model | None:
    """The first state of these sizes that breaks the claim."""
    inputs = _shapes(claim, graph, sizes)
    count = _states(claim, graph, sizes, bound)
    values: dict[str, Array] = {}
    each = 1
    for node, shape in inputs:  # states are numbers whose digits are the entries
        entries = np.array(_entries(node.kind, not node.shape, bound), dtype=DTYPES[node.kind])
        digits = np.empty((count, prod(shape)), dtype=entries.dtype)
        for k in range(prod(shape)):
            digits[:, k] = entries[(np.arange(count) // each) % len(entries)]
            each *= len(entries)
        values[node.name] = digits.reshape(count, *shape)
    axes = tuple((a.name, range(size_value(a.size, sizes))) for a in claim.free)
    broken = _broken(claim, graph, sizes, values, axes)
    if not broken.any():
        return None
    state, *point = (int(x) for x in np.argwhere(broken)[0])
    scalars = {n.name: values[n.name][state].item() for n, shape in inputs if not n.shape}
    tables = {n.name: values[n.name][state] for n, shape in inputs if n.shape}
    return Model(sizes, scalars, tables, dict(zip((a.name for a in claim.free), point, strict=True)))


def _broken(
    claim: Claim,
    graph: Graph,
    sizes: Mapping[str, int],
    values: Mapping[str, Array],
    axes: tuple[tuple[str, range], ...],
) -> Array:
    """Where the claim fails: a value for each state that keeps the facts and each point of the axes."""
    count = max([1, *(len(v) for v in values.values())])
    shape = (count, *(len(r) for _, r in axes))
    with np.errstate(all="ignore"):
        kept = np.ones(count, bool)
        for divisor in (*divisors(graph), *divided_by((claim.given, claim.goal), graph)):
            kept &= _kept(Fact(op("le", integer(1), divisor), (), ""), sizes, values, kept)
        for fact in assumed(graph):
            kept &= _kept(fact, sizes, values, kept)
        values = {k: v[kept] if len(v) == count else v for k, v in values.items()}
        out = np.zeros(shape, bool)
        if not kept.any() or 0 in shape:
            return out
        grid = Grid((STATE, *(n for n, _ in axes)), sizes, values, (range(int(kept.sum())), *(r for _, r in axes)))
        given = np.broadcast_to(_at(claim.given, grid), grid.shape)
        some = tuple((a.name, range(size_value(a.size, sizes))) for a in claim.some)
        inner = Grid((*grid.axes, *(n for n, _ in some)), sizes, values, (*grid.ranges, *(r for _, r in some)))
        active = given.reshape(*given.shape, *(1 for _ in some))
        goal = np.broadcast_to(_at(claim.goal, inner.only(active)), inner.shape)
        out[kept] = given & ~goal.any(axis=tuple(range(len(grid.axes), len(inner.axes))))
    return out


def _at(expr: Expr, grid: Grid) -> Array:
    """The value, every scalar and table having the axis of states first."""

    def fn(part: Expr) -> Expr | None:
        if not isinstance(part, Load) or part.tensor not in grid.values:
            return None
        state: Expr = Index(STATE) if len(grid.values[part.tensor]) > 1 else integer(0)
        return Load(part.tensor, (state, *(rebuild(i, fn) for i in part.indices)), part.kind)

    return evaluate(rebuild(expr, fn), grid)


def _kept(fact: Fact, sizes: Mapping[str, int], values: Mapping[str, Array], looked_at: Array) -> Array:
    """The states that keep a fact, of those that are `looked_at`."""
    ranges = (range(len(looked_at)), *(range(size_value(a.size, sizes)) for a in fact.free))
    grid = Grid((STATE, *(a.name for a in fact.free)), sizes, values, ranges)
    over = tuple(range(1, len(ranges)))
    if 0 in grid.shape:
        return np.ones(len(looked_at), bool)
    active = grid.only(looked_at.reshape(-1, *(1 for _ in over)))
    result = np.broadcast_to(_at(fact.predicate, active), grid.shape)
    if fact.nondecreasing is not None:
        along = 1 + next(k for k, a in enumerate(fact.free) if a.name == fact.nondecreasing)
        result = np.diff(result.astype(np.int64), axis=along) >= 0
    return np.asarray(result.all(axis=over))
