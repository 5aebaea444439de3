"""Random programs: they parse, build into well-formed graphs, and mean what their formula says."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irc.build import build
from irc.grammar.parser import parse
from irc.grammar.source import Source
from irc.interpret import interpret
from irc.printer import dot, text
from irc.verify import verify
from tests.random_programs import RandomProgram, programs


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=programs(), seed=st.integers(0, 2**32 - 1))
def test_a_program_means_its_formula(program: RandomProgram, seed: int) -> None:
    graph = build(parse(Source("random", program.text))[0])
    verify(graph)
    inputs = program.make_inputs(np.random.default_rng(seed))
    expected = program.reference(inputs)
    values = interpret(graph, inputs, program.sizes)
    assert tuple(public for public, _ in graph.outputs) == program.outputs
    for public, name in graph.outputs:
        np.testing.assert_allclose(values[name], expected[public], rtol=1e-9, atol=1e-11, err_msg=public)
    assert text(graph).startswith("graph random")
    assert dot(graph).startswith("digraph")
