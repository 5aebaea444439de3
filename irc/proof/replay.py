"""Decoding as it runs: whether a step gives anything but its part of the full computation, on numbers that are made up.

A claim about one node may fail where no output sees it: what reads the node masks it, or adds it to a whole row. Only a
program that computes something else is refuted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

import numpy as np

from irc.calls.contract import check_facts
from irc.codegen.expr import Axis, Expr, Index, Kind, Load, Op, Size, indices, integer, loads, op, substitute, walk
from irc.error import InputError
from irc.graph.interpret import complete_sizes, evaluate, grid, interpret, size_value
from irc.graph.ir import Graph, Input, Map, Reduce, all_axes, bodies
from irc.graph.size import size_names
from irc.passes.specialise import specialise
from irc.proof.brought import brought
from irc.proof.claim import Array, Model
from irc.proof.flow import Undecided, inline
from irc.proof.growth import Growth, dimensions, growth
from irc.proof.reach import tokens as found_tokens

COUNTS = (2, 3, 4, 6)  # tokens of the runs beside those of the model
OTHER = (1.0, np.nan)  # what numbers that are not there yet are multiplied by, in the runs of each count
TRIES = 40  # draws of tables until they keep what is assumed
BUDGET = 3_000_000  # points of one run
Values = dict[str, Array]


def differs(graph: Graph, model: Model) -> bool:
    """Whether a step differs from its part of the full computation in the state of the model, or in one of a few tokens
    with its other sizes."""
    graph = specialise(graph, {})
    states = growth(graph)
    rng = np.random.default_rng(0)
    for sizes, known in _runs(graph, states, model):
        for other in OTHER if _cost(graph, sizes) <= BUDGET else ():
            values = _drawn(graph, states, sizes, known, rng)
            if values is not None and _steps_differ(graph, states, sizes, values, other, rng):
                return True
    return False


def _runs(graph: Graph, states: Growth, model: Model) -> Iterator[tuple[dict[str, int], Values]]:
    """Sizes, and what is known of tables and scalars."""
    scalars = {name: np.asarray(value) for name, value in model.scalars.items()}
    first = {name: model.sizes.get(name, 1) for name, value in graph.sizes if value is None}
    yield complete_sizes(graph, first), scalars | model.tables
    for count in COUNTS:
        counts = dict.fromkeys(size_names(e for e in (states.rows, states.tokens) if e is not None), count)
        yield complete_sizes(graph, first | counts), scalars


def _cost(graph: Graph, sizes: Mapping[str, int]) -> int:
    nodes = [n for n in graph if isinstance(n, Map | Reduce)]
    return sum(prod(size_value(a.size, sizes) for a in (*n.axes, *getattr(n, "over", ()))) for n in nodes)


def _drawn(
    graph: Graph, states: Growth, sizes: dict[str, int], known: Values, rng: np.random.Generator
) -> Values | None:
    """Arguments of the full computation that keep what is assumed; None where none were found."""
    for _ in range(TRIES):
        values: Values = {}
        for node in graph.inputs:
            shape = tuple(size_value(s, sizes) for s in node.shape)
            given = known.get(node.name)
            values[node.name] = given if given is not None and given.shape == shape else _entries(node, shape, rng)
        values |= _offsets(states.full, graph, sizes, values)
        if _accepted(graph, sizes, values):
            return values
    return None


def _entries(node: Input, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    if node.kind is Kind.FLOAT:
        return rng.normal(size=shape)
    return rng.integers(0, 4, shape) if node.kind is Kind.INT else rng.integers(0, 2, shape).astype(bool)


def _accepted(graph: Graph, sizes: Mapping[str, int], values: Values) -> bool:
    try:
        check_facts(graph, values, sizes)
    except (InputError, IndexError):
        return False
    return True


def _offsets(state: Mapping[Expr, Expr], graph: Graph, sizes: Mapping[str, int], values: Values) -> Values:
    """The tables that say where a state's rows sit."""
    found: Values = {}
    for load, value in state.items():
        if isinstance(load, Load):
            shape = graph[load.tensor].shape  # type: ignore[union-attr]
            names = [i.name if isinstance(i, Index) else "" for i in load.indices]
            at = grid(tuple(Axis(n, s) for n, s in zip(names, shape, strict=True)), values, sizes)
            found[load.tensor] = np.array(np.broadcast_to(evaluate(value, at), at.shape))
    return found


def _steps_differ(
    graph: Graph, states: Growth, sizes: dict[str, int], values: Values, other: float, rng: np.random.Generator
) -> bool:
    full = _outputs(graph, values, sizes)
    for at in range(size_value(states.step.size, sizes) if full else 0):
        arguments, fewer = _step(graph, states, sizes, values, at, other, rng)
        now = _outputs(graph, arguments, fewer) if _accepted(graph, fewer, arguments) else {}
        for name, value in now.items():
            expected = _part(full[name], name, graph, states, sizes, at, at + 1)
            found = _part(value, name, graph, states, fewer, 0, at + 1)
            if not np.allclose(found, expected, rtol=1e-6, atol=1e-9, equal_nan=True):
                return True
    return False


def _step(
    graph: Graph,
    states: Growth,
    sizes: dict[str, int],
    values: Values,
    at: int,
    other: float,
    rng: np.random.Generator,
) -> tuple[Values, dict[str, int]]:
    """Arguments and sizes of the step after `at` tokens; what memory has room for and does not hold yet is anything."""
    here: dict[Expr, Expr] = {states.step.index: integer(at)}
    state = {e: substitute(value, here) for e, value in states.sizes.items()}
    changed = {e.name: size_value(value, sizes) for e, value in state.items() if isinstance(e, Size)}
    fewer = complete_sizes(graph, {name: sizes[name] for name, value in graph.sizes if value is None} | changed)
    tokens = None if states.held else at + 1
    given = brought(found_tokens(graph))
    there = {n.name: _there(n, graph, states, sizes, values, at) for n in graph.inputs if n.name in given}
    for kinds in ((Kind.FLOAT, Kind.INT, Kind.BOOL), (Kind.FLOAT,)):  # integers only where that keeps what is assumed
        arguments = dict(values)
        for node in (n for n in graph.inputs if n.name in there and n.kind in kinds):
            fresh = _entries(node, values[node.name].shape, rng)
            fresh = fresh * other if node.kind is Kind.FLOAT else fresh
            arguments[node.name] = np.where(there[node.name], values[node.name], fresh)
        arguments = {name: _part(v, name, graph, states, sizes, at, tokens) for name, v in arguments.items()}
        arguments |= _offsets(state, graph, fewer, arguments)
        if _accepted(graph, fewer, arguments):
            break
    return arguments, fewer


def _there(node: Input, graph: Graph, states: Growth, sizes: dict[str, int], values: Values, at: int) -> Array:
    """Which entries of an input are there after `at` tokens and one more: all, but of tokens to come where tables have
    their full size from the start, and of a pool what tables find for the tokens so far."""
    axes = [a for dim in dimensions(node.name, graph) for a in dim]
    parts = np.ones([size_value(a.size, sizes) for a in axes], bool)
    for index, axis in zip(np.indices(parts.shape), axes, strict=True):
        parts &= (index <= at) | (axis.size != states.tokens) | (not states.held)
    there = parts.reshape(values[node.name].shape)
    pooled = [*_pooled(node, graph, states, at)]
    if pooled:
        there = np.zeros_like(there)
    for load, over in pooled:
        points = grid(over, values, sizes)
        there[tuple(np.broadcast_to(evaluate(i, points), points.shape) for i in load.indices)] = True
    return there


def _pooled(node: Input, graph: Graph, states: Growth, at: int) -> Iterator[tuple[Load, tuple[Axis, ...]]]:
    """The pool as it is read for each of the tokens so far, and over which axes."""
    so_far, dims = Axis("token so far", integer(at + 1)), dimensions(node.name, graph)
    for reader in (n for n in graph if isinstance(n, Map | Reduce)):
        for load in (x for e in bodies(reader) for x in loads(inline(e, graph)) if x.tensor == node.name):
            fixed = [
                i
                for i, dim in zip(load.indices, dims, strict=True)
                if not {states.rows, states.tokens} & {a.size for a in dim}
            ]
            for token in (t for i in fixed for t in _found_by(load, i, reader, states)):
                new = tuple(substitute(i, {token: so_far.index}) for i in load.indices)
                used = {n for i in new for n in indices(i)}
                yield Load(load.tensor, new, load.kind), (*(a for a in all_axes(reader) if a.name in used), so_far)


def _found_by(load: Load, index: Expr, node: Map | Reduce, states: Growth) -> Iterator[Expr]:
    """The tokens of an element that tables in one of its indices find: `j` of `pool[page[j]]`, and of
    `pool[page[j // Z], j % Z]`."""
    tokens = {a.name for a in all_axes(node) if states.kind(a.size) != "fixed"}
    for place in (i for table in loads(index) for i in table.indices if indices(i) & tokens):
        match place:
            case Op("floordiv", (token, size), _) if op("mod", token, size) in load.indices:
                yield token
            case _ if any(isinstance(e, Op) and e.name in ("floordiv", "mod") for e in walk(place)):
                name = node.name.partition(".")[0]
                raise Undecided(f"it cannot be told which token `{name}` reads of `{load.tensor}` through a table")
            case _:
                yield place


def _part(
    value: Array, name: str, graph: Graph, states: Growth, sizes: dict[str, int], row: int, tokens: int | None
) -> Array:
    """One row of the dimensions of rows, and the first `tokens` of those of tokens; with None, all."""
    dims = dimensions(name, graph)
    axes = [a for dim in dims for a in dim]
    value = value.reshape([size_value(a.size, sizes) for a in axes])
    for k, axis in enumerate(axes):
        if axis.size == states.rows:
            value = np.take(value, [row], k)
        elif axis.size == states.tokens and tokens is not None:
            value = np.take(value, range(tokens), k)
    left = iter(value.shape)
    return value.reshape([prod(next(left) for _ in dim) for dim in dims])


def _outputs(graph: Graph, values: Values, sizes: Mapping[str, int]) -> Values:
    """None where the call makes no sense."""
    try:
        found = interpret(graph, values, sizes)
    except (IndexError, ValueError):
        return {}
    return {name: found[name] for _, name in graph.outputs}
