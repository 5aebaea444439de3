"""Kernels on random programs, sizes, layouts and element types against the interpreter, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import irc
from tests.random_programs import RandomProgram, programs
from tests.test_kernels import DTYPE, TOLERANCE, relative

LENGTHS = (1, 2, 3, 9, 17, 33, 70, 130)
WIDTHS = (1, 3, 8, 20, 40)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_kernels_agree_with_the_interpreter_on_random_programs(dtype: str) -> None:
    @settings(max_examples=12, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(programs(lengths=LENGTHS, widths=WIDTHS), st.integers(0, 10**6))
    def check(random: RandomProgram, seed: int) -> None:
        rng = np.random.default_rng(seed)
        made = random.make_inputs(rng)
        inputs = {n: a.astype(DTYPE[dtype]) if np.asarray(a).dtype.kind == "f" else a for n, a in made.items()}
        wide = {n: a.astype(np.float64) if np.asarray(a).dtype.kind == "f" else a for n, a in inputs.items()}
        expected = irc.compile(random.text, sizes=random.sizes, target="reference").forward(**wide)
        run = irc.compile(random.text, sizes=random.sizes, dtype=dtype).forward(**inputs)
        cotangents = {}
        for name, output in expected.outputs.items():
            assert relative(run.outputs[name], output) < TOLERANCE[dtype], name
            cotangents[name] = rng.standard_normal(output.shape).astype(DTYPE[dtype])
        wanted = expected.backward(**{n: c.astype(np.float64) for n, c in cotangents.items()})
        largest = max(float(np.linalg.norm(g)) for g in wanted.values())
        for name, gradient in run.backward(**cotangents).items():
            assert relative(gradient, wanted[name], 0.1 + 0.1 * largest) < 3 * TOLERANCE[dtype], name

    check()
