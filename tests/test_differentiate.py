"""The backward graph, in float64, against central differences at two step sizes and the adjoint dot test."""

from __future__ import annotations

import numpy as np
import pytest

from irc.differentiate import cotangent_name, differentiable, differentiate
from irc.grammar.source import Source
from irc.interpret import interpret
from irc.ir import Graph
from irc.pipeline import front
from irc.specialise import specialise
from irc.verify import verify

CORE = """
attention core {{
  size B, H, G, Sq, Sk, D, V
  input q[B,H,Sq,D], k[B,G,Sk,D], v[B,G,Sk,V]
  {declare}
  assume H % G == 0
  core o[b,h,i,d], lse[b,h,i] {{
    align last
    score q[b,h,i,c] * k[b, h // (H // G), j, c]
    scale 1 / sqrt(D)
    {stage}
    softmax j {sink}
    matmul v[b, h // (H // G), j, d]
    {stat}
  }}
  return o, lse {returned}
}}
"""

CASES = {
    "full": {},
    "causal": {"stage": "allow j <= pos(i)"},
    "empty rows": {"stage": "allow j > pos(i) + 1"},
    "bias": {"declare": "param t[H,Sq,Sk]", "stage": "bias t[h,i,j]"},
    "table": {"declare": "param t[H, (Sq + Sk)]", "stage": "bias t[h, i - j + Sk]\n allow j <= pos(i)"},
    "soft cap": {"declare": "param cap", "stage": "map cap * tanh(score / cap)"},
    "slopes": {"declare": "param slope[H]", "stage": "bias slope[h] * (j - pos(i))"},
    "sink": {"declare": "param s[H]", "sink": "with s[h]", "stage": "allow j <= pos(i)"},
    "max": {"stat": "stat m[b,h,i] = max", "returned": ", m"},
    "entropy": {"stat": "stat e[b,h,i] = entropy", "returned": ", e", "stage": "allow j <= pos(i)"},
}
SIZES = {"B": 2, "H": 4, "G": 2, "Sq": 3, "Sk": 5, "D": 3, "V": 2}


def case(name: str) -> Graph:
    holes = dict.fromkeys(("declare", "stage", "sink", "stat", "returned"), "") | CASES[name]
    return specialise(front(Source(name, CORE.format(**holes))), SIZES)


def inputs(graph: Graph, rng: np.random.Generator) -> dict[str, np.ndarray]:
    from irc.interpret import size_value

    return {
        n.name: 0.5 + rng.standard_normal(tuple(size_value(s, SIZES) for s in n.shape)) for n in graph.inputs
    }


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
