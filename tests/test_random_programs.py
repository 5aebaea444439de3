"""Random programs: they parse, build into well-formed graphs, and mean what their formula says."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import irc
from irc.elaborate.build import build
from irc.grammar.parser import parse
from irc.grammar.source import Source
from irc.graph.interpret import interpret
from irc.graph.printer import dot, text
from irc.graph.verify import verify
from tests.random_programs import RandomProgram, programs


@settings(max_examples=200, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=programs(), seed=st.integers(0, 2**32 - 1))
def test_a_program_means_its_formula(program: RandomProgram, seed: int) -> None:
    graph = build(parse(Source("random", program.text))[0])
    verify(graph)
    assert tuple(public for public, _ in graph.outputs) == program.outputs
    for sizes in (program.sizes, program.later):
        inputs = program.make_inputs(np.random.default_rng(seed), sizes)
        expected = program.reference(inputs, sizes)
        values = interpret(graph, inputs, sizes)
        for public, name in graph.outputs:
            np.testing.assert_allclose(values[name], expected[public], rtol=1e-9, atol=1e-11, err_msg=public)
    assert text(graph).startswith("graph random")
    assert dot(graph).startswith("digraph")


@settings(max_examples=100, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=programs(), seed=st.integers(0, 2**32 - 1))
def test_gradients_are_those_of_the_formula(program: RandomProgram, seed: int) -> None:
    """Along one random direction, by sixth-order central differences of the formula; empty rows take no part."""
    rng = np.random.default_rng(seed)
    inputs = program.make_inputs(rng, program.sizes)
    run = irc.compile(program.text, sizes=program.sizes, target="reference").forward(**inputs)
    there = program.reference(inputs, program.sizes)
    cotangents = {name: rng.normal(size=there[name].shape) for name in program.outputs}
    gradients = run.backward(**cotangents)
    assert set(gradients) == set(program.floating)
    direction = {name: rng.normal(size=inputs[name].shape) for name in program.floating}

    def objective(step: float) -> float:
        moved = program.reference(inputs | {n: inputs[n] + step * d for n, d in direction.items()}, program.sizes)
        finite = {n: np.where(np.isfinite(there[n]), moved[n], 0.0) for n in cotangents}
        return float(sum((finite[n] * c).sum() for n, c in cotangents.items()))

    terms = {n: np.asarray(gradients[n]) * d for n, d in direction.items()}
    found = sum(float(t.sum()) for t in terms.values())
    scale = max(1.0, sum(float(np.abs(t).sum()) for t in terms.values()))
    errors = []
    for h in (2e-3, 1e-3, 3e-4, 1e-4, 1e-5, 3e-6):  # long where the program bends little, short beside a kink
        ahead = sum(w * (objective(k * h) - objective(-k * h)) for k, w in ((1, 45), (2, -9), (3, 1)))
        errors.append(abs(ahead / (60 * h) - found) / scale)
    assert max(errors[-2:]) < 1e-6, "two step sizes"
    assert min(errors) < 1e-10, "<J v, u> = <v, J^T u>"
