"""What outputs depend on, found by changing inputs and running the interpreter: the oracle of what flow says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irc.calls.contract import check_facts
from irc.codegen.expr import Kind
from irc.error import InputError
from irc.graph.interpret import complete_sizes, interpret, size_value
from irc.graph.ir import Graph, Input

Array = NDArray[Any]
TRIES = 200


def states(graph: Graph, sizes: Mapping[str, tuple[int, ...]], seed: int = 0) -> Iterator[tuple[dict[str, int], Any]]:
    """Every choice of the sizes that the program's facts allow, each with two draws of inputs."""
    rng = np.random.default_rng(seed)
    for values in product(*sizes.values()):
        known = complete_sizes(graph, dict(zip(sizes, values, strict=True)))
        for _ in range(2):
            drawn = draw(graph, known, rng)
            if drawn is not None:
                yield known, drawn


def draw(graph: Graph, sizes: Mapping[str, int], rng: np.random.Generator) -> dict[str, Array] | None:
    """Inputs that keep the facts; None where none were found."""
    for _ in range(TRIES):
        found = {node.name: entries(node, sizes, rng) for node in graph.inputs}
        try:
            check_facts(graph, found, sizes)
        except InputError:
            continue
        return found
    return None


def entries(node: Input, sizes: Mapping[str, int], rng: np.random.Generator) -> Array:
    shape = tuple(size_value(e, sizes) for e in node.shape)
    if node.kind is Kind.FLOAT:
        return rng.normal(size=shape)
    return rng.integers(0, 4 if node.kind is Kind.INT else 2, size=shape)


def outputs(graph: Graph, inputs: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Array]:
    values = interpret(graph, inputs, sizes)
    return {public: values[name] for public, name in graph.outputs}


def changed(
    graph: Graph, inputs: Mapping[str, Array], sizes: Mapping[str, int], name: str, dim: int
) -> dict[str, list[Array]]:
    """Of each output where it changes as entry 0, 1, … of that dimension of the input does."""
    rng = np.random.default_rng(1)
    before = outputs(graph, inputs, sizes)
    found: dict[str, list[Array]] = {public: [] for public in before}
    for at in range(inputs[name].shape[dim]):
        other = np.array(inputs[name])
        part = np.moveaxis(other, dim, 0)
        part[at] = rng.normal(size=part[at].shape)
        after = outputs(graph, {**inputs, name: other}, sizes)
        for public in before:
            found[public].append(np.abs(before[public] - after[public]) > 1e-9)
    return found


def furthest(
    graph: Graph,
    inputs: Mapping[str, Array],
    sizes: Mapping[str, int],
    read: Mapping[str, tuple[int, int]],
    written: Mapping[str, tuple[int, int]],
) -> Iterator[tuple[int, int]]:
    """(position of an output, position of an input) for all that depend. `read` and `written` tell of each tensor its
    dimension of tokens and where entry 0 sits."""
    for name, (dim, start) in read.items():
        for public, moved in changed(graph, inputs, sizes, name, dim).items():
            own, first = written[public]
            for at, mask in enumerate(moved):
                rows = np.moveaxis(mask, own, 0).reshape(mask.shape[own], -1).any(axis=1)
                yield from ((int(row) + first, at + start) for row in np.flatnonzero(rows))
