"""The backward graph, in float64, against central differences at two step sizes and the adjoint dot test."""

from __future__ import annotations

import numpy as np
import pytest

from irc.grammar.source import Source
from irc.graph.interpret import interpret, size_value
from irc.graph.ir import Graph, cotangent_name
from irc.graph.verify import verify
from irc.passes.differentiate import differentiable, differentiate
from irc.passes.specialise import specialise
from irc.pipeline import front
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


@pytest.mark.parametrize("name", CASES)
def test_forward_and_backward_are_adjoint(name: str) -> None:
    """<J v, u> = <v, J^T u> to 1e-10, J v by central differences of sixth order."""
    graph = case(name)
    rng = np.random.default_rng(8)
    values = inputs(graph, rng)
    outputs = interpret(graph, values, SIZES)
    u = {p: rng.standard_normal(outputs[n].shape) for p, n in graph.outputs}
    v = {n: rng.standard_normal(values[n].shape) for n in differentiable(graph)}
    step = 2e-3
    ahead = 0.0
    for distance, weight in ((1, 45), (2, -9), (3, 1)):
        for sign in (1, -1):
            at = {n: a + sign * distance * step * v[n] if n in v else a for n, a in values.items()}
            out = interpret(graph, at, SIZES)
            ahead += sign * weight * sum(float(np.sum(finite(out[n]) * u[p])) for p, n in graph.outputs)
    back = sum(float(np.sum(g * v[n])) for n, g in gradients(graph, values, u).items())
    assert ahead / (60 * step) == pytest.approx(back, rel=1e-10, abs=1e-10)


# A tensor that is read whole and where an index stands in two of its dimensions, as an argument and as a tensor of the
# program, in both orders; and from its ends.
DIAGONALS = {
    "diagonal": "w[s] = X[s,s]^2\n u[s] = sum(t: X[s,t]^2)",
    "diagonal after": "u[s] = sum(t: X[s,t]^2)\n w[s] = X[s,s]^2",
    "diagonal of a tensor": "W[s,t] = X[s,t]^2\n u[s] = sum(t: W[s,t])\n w[s] = W[s,s]^2",
    "from the end": "W[s,t] = X[s,t]^2\n w[s] = W[s,S-1-s]\n u[s] = sum(t: W[t,s]*W[s,S-1-t])",
    "reversed": "w[s] = X[S-1-s,2]\n u[s] = sum(t: X[s,t]*X[S-1-t,s])",
}


@pytest.mark.parametrize("name", DIAGONALS)
def test_what_is_read_along_a_diagonal_and_whole(name: str) -> None:
    source = f"""
    attention diagonal {{
      size S, D
      input q[S,D], X[S,S]
      project {{
        {DIAGONALS[name]}
        y[s,c] = q[s,c] * (u[s] + w[s])
      }}
      core o[i,d] {{
        score y[i,c] * q[j,c]
        softmax j
        matmul q[j,d]
      }}
      return o
    }}
    """
    sizes = {"S": 7, "D": 3}
    graph, rng = specialise(front(Source(name, source)), sizes), np.random.default_rng(1)
    values = {"q": rng.standard_normal((7, 3)), "X": 0.3 * rng.standard_normal((7, 7))}
    cotangent = {"o": rng.standard_normal((7, 3))}
    direction, step = rng.standard_normal((7, 7)), 1e-5
    ends = [interpret(graph, {**values, "X": values["X"] + s * direction}, sizes)["o"] for s in (step, -step)]
    change = float(np.sum((ends[0] - ends[1]) * cotangent["o"])) / (2 * step)
    assert change == pytest.approx(float(np.sum(gradients(graph, values, cotangent)["X"] * direction)), rel=1e-6)
