"""Kernels on random programs, sizes, layouts and element types against the interpreter, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import irc
from tests.random_programs import RandomProgram, programs
from tests.test_kernels import DTYPE, TOLERANCE, relative

LENGTHS = (1, 2, 3, 9, 17, 33, 70, 130)
WIDTHS = (1, 3, 8, 20, 40)


def cast(value: object, dtype: type) -> np.ndarray:
    """A floating argument in another element type, any other as it is."""
    array = np.asarray(value)
    return array.astype(dtype) if array.dtype.kind == "f" else array


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_kernels_agree_with_the_interpreter_on_random_programs(dtype: str) -> None:
    @settings(
        max_examples=8, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(programs(lengths=LENGTHS, widths=WIDTHS), st.integers(0, 10**6))
    def check(random: RandomProgram, seed: int) -> None:
        rng = np.random.default_rng(seed)
        made = random.make_inputs(rng)
        inputs = {n: cast(a, DTYPE[dtype]) for n, a in made.items()}
        wide = {n: cast(a, np.float64) for n, a in inputs.items()}
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
