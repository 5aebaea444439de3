"""Kernels on random programs, sizes, memory layouts and element types against the interpreter, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import irc
from tests.random_programs import OPEN, RandomProgram, programs
from tests.test_kernels import DTYPE, TOLERANCE, relative

LENGTHS = (1, 2, 3, 9, 17, 33, 70, 130)
WIDTHS = (1, 3, 8, 20, 40)
ARITHMETIC = {"f32": np.float32, "f64": np.float64, "bf16": np.float32, "f16": np.float32}
EXAMPLES = {"f32": 6, "f64": 3, "bf16": 2, "f16": 2}


def cast(value: object, dtype: type) -> np.ndarray:
    """A floating argument in another element type, any other as it is."""
    array = np.asarray(value)
    return array if array.dtype.kind in "iub" else array.astype(dtype)


def elsewhere(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same values as a view into a larger buffer of NaN, its axes in any order; mostly the last is contiguous."""
    if array.ndim == 0:
        return array
    order = [*rng.permutation(array.ndim - 1), array.ndim - 1] if rng.random() < 0.8 else rng.permutation(array.ndim)
    before = rng.integers(0, 3, array.ndim)
    buffer = np.zeros([array.shape[axis] + n for axis, n in zip(order, before, strict=True)], array.dtype)
    if array.dtype.kind not in "iub":
        buffer[...] = np.nan
    view = buffer[tuple(slice(n, None) for n in before)].transpose(np.argsort(order))
    view[...] = array
    return view


@pytest.mark.parametrize("dtype", EXAMPLES)
def test_kernels_agree_with_the_interpreter_on_random_programs(dtype: str) -> None:
    @settings(
        max_examples=EXAMPLES[dtype], deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(programs(lengths=LENGTHS, widths=WIDTHS), st.booleans(), st.integers(0, 10**6))
    def check(random: RandomProgram, fixed: bool, seed: int) -> None:
        """With all sizes fixed; or with lengths open, and two calls."""
        known = {n: size for n, size in random.sizes.items() if fixed or n not in OPEN}
        program = irc.compile(random.text, sizes=known, dtype=dtype)
        reference = irc.compile(random.text, sizes=known, target="reference")
        rng = np.random.default_rng(seed)
        for sizes in (random.sizes,) if fixed else (random.sizes, random.later):
            made = random.make_inputs(rng, sizes)
            scalars = [t.name for t in random.tensors if t.role == "scalar"]  # of the arithmetic's type
            inputs = {n: cast(a, ARITHMETIC[dtype] if n in scalars else DTYPE[dtype]) for n, a in made.items()}
            compare(program, reference, {n: elsewhere(a, rng) for n, a in inputs.items()}, dtype, rng)

    check()


def compare(
    program: irc.Program, reference: irc.Program, inputs: dict[str, np.ndarray], dtype: str, rng: np.random.Generator
) -> None:
    """Outputs, and gradients where there are any."""
    expected = reference.forward(**{n: cast(a, np.float64) for n, a in inputs.items()})
    run = program.forward(**inputs)
    cotangents = {}
    for name, output in expected.outputs.items():
        assert relative(run.outputs[name], output) < TOLERANCE[dtype], name
        cotangents[name] = rng.standard_normal(output.shape).astype(run.outputs[name].dtype)
    wanted = expected.backward(**{n: c.astype(np.float64) for n, c in cotangents.items()})
    largest = max(float(np.linalg.norm(g)) for g in wanted.values())
    for name, gradient in run.backward(**cotangents).items():
        assert relative(gradient, wanted[name], 0.1 + 0.1 * largest) < 3 * TOLERANCE[dtype], name
