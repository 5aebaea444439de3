"""The backward graph, in float64, against central differences at two step sizes and the adjoint dot test."""

from __future__ import annotations

import numpy as np
import pytest

from irc.differentiate import cotangent_name, differentiable, differentiate
from irc.grammar.source import Source
from irc.interpret import interpret, size_value
from irc.ir import Graph
from irc.pipeline import front
from irc.specialise import specialise
from irc.verify import verify
from tests.cases import CASES, SIZES, text


def case(name: str) -> Graph:
    return specialise(front(Source(name, text(name))), SIZES)


def inputs(graph: Graph, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {n.name: 0.5 + rng.standard_normal(tuple(size_value(s, SIZES) for s in n.shape)) for n in graph.inputs}


def gradients(graph: Graph, values: dict, cotangents: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    backward = differentiate(graph)
    verify(backward)
    known = dict(interpret(graph, values, SIZES))
    for public, _ in graph.outputs:
        known[cotangent_name(public)] = cotangents[public]
    given = {n.name: known[n.name] for n in backward.inputs}
    result = interpret(backward, given, SIZES)
    return {name: result[gradient] for name, gradient in backward.outputs}


def finite(array: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(array), array, 0.0)


@pytest.mark.parametrize("name", CASES)
def test_gradients_agree_with_central_differences(name: str) -> None:
    graph = case(name)
    rng = np.random.default_rng(7)
    values = inputs(graph, rng)
    outputs = interpret(graph, values, SIZES)
    cotangents = {p: rng.standard_normal(outputs[n].shape) for p, n in graph.outputs}
    result = gradients(graph, values, cotangents)
    assert set(result) == set(differentiable(graph))

    def loss(at: dict[str, np.ndarray]) -> float:
        out = interpret(graph, at, SIZES)
        return sum(float(np.sum(finite(out[n]) * cotangents[p])) for p, n in graph.outputs)

    for name_, gradient in result.items():
        direction = rng.standard_normal(values[name_].shape)
        expected = float(np.sum(gradient * direction))
        for step in (1e-5, 3e-6):
            above = loss({**values, name_: values[name_] + step * direction})
            below = loss({**values, name_: values[name_] - step * direction})
            assert (above - below) / (2 * step) == pytest.approx(expected, rel=1e-6, abs=1e-7), name_
