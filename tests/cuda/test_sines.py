"""Sines and cosines of devices, in the emulator, against those of the C library, up to the largest angles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

import numpy as np
import pytest

from irc.codegen import cuda
from irc.codegen.expr import Axis, Load, Size, op
from irc.codegen.kernel import Loop, LoopKernel, Target, Tensor
from irc.runtime.emulated import Library

n = Axis("n", Size("N"))
Array = np.ndarray
FUNCTIONS = {"sin": math.sin, "cos": math.cos}


@lru_cache
def made(name: str, storage: str) -> tuple[LoopKernel, Library]:
    """The function of each element, watched."""
    loop = Loop((n,), (), "", op(name, Load("x", (n.index,))), None, None, Target("y", (n.index,)), False, ("n",))
    tensors = Tensor("x", storage, 1), Tensor("y", storage, 1, True)  # type: ignore[arg-type]
    kernel = LoopKernel("turned", tensors, ("N",), (loop,), None, storage)  # type: ignore[arg-type]
    return kernel, Library(cuda.render([kernel], "turned", ""), check=True)


def run(name: str, x: Array) -> Array:
    kernel, library = made(name, {4: "f32", 8: "f64"}[x.itemsize])
    tensors, sizes = {"x": x, "y": np.empty_like(x)}, {"N": x.size}
    library.bound(kernel, tensors, sizes, 1)(tensors, sizes)
    return tensors["y"]


def exact(name: str, x: Array) -> Array:
    """In float64, one by one: numpy has vectors of its own."""
    return np.array([FUNCTIONS[name](v) for v in x.astype(np.float64).tolist()])


def off(got: Array, wanted: Array) -> float:
    """The largest distance, in units of the last place of what is wanted."""
    return float(np.max(np.abs(got - wanted) / np.spacing(np.abs(wanted).astype(got.dtype))))


def arctangent(inverse: int, bits: int) -> int:
    """That of 1 / inverse, times 2^bits."""
    term = total = (1 << bits) // inverse
    for k in range(3, bits, 2):
        term //= -inverse * inverse
        total += term // k
    return total


def nearest_to_quarters() -> Iterator[tuple[float, int, float]]:
    """Of all exponents, the double that is nearest to a multiple of pi/2 among those with it, by continued fractions:
    with how many of pi/2 these are, modulo 4, and its distance from them, of which the sine is the same double."""
    bits = 2400
    quarter = Fraction(2 * (4 * arctangent(5, bits) - arctangent(239, bits)), 1 << bits)
    for exponent in range(-52, 972):
        left, before, m = quarter / Fraction(2) ** exponent, 0, 1  # of quarter / (m * 2^exponent) to whole numbers
        while (after := math.floor(left) * m + before) < 1 << 53:
            before, m = m, after
            left = 1 / (left - math.floor(left))
        x = m * Fraction(2) ** exponent
        quarters = round(x / quarter)
        yield float(x), quarters % 4, float(x - quarters * quarter)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_doubles_of_every_exponent(name: str) -> None:
    rng = np.random.default_rng(0)
    x = np.ldexp(rng.uniform(0.5, 1, 30000), rng.integers(-1074, 1025, 30000)) * rng.choice([-1, 1], 30000)
    assert off(run(name, x), exact(name, x)) <= 2


@pytest.mark.parametrize("name", FUNCTIONS)
def test_doubles_of_positions_and_frequencies(name: str) -> None:
    """Angles as they are, up to where the other way of reducing them begins, and beyond."""
    rng = np.random.default_rng(1)
    x = np.floor(2.0 ** rng.uniform(0, 33, 30000)) * 1e4 ** -rng.uniform(0, 1, 30000)
    x = np.concatenate([x, 2.0**31 + np.arange(-9, 9) * 2.0**-21])
    assert off(run(name, x), exact(name, x)) <= 2


def test_doubles_nearest_to_multiples_of_a_quarter_turn() -> None:
    """Where glibc 2.36 is off by up to 2^17 units."""
    x, quarters, rest = (np.array(each) for each in zip(*nearest_to_quarters(), strict=True))
    assert 6381956970095103 * 2.0**797 in x and np.max(np.abs(rest)) < 2.0**-52
    one = np.ones_like(rest)
    sines, cosines = ([*turn, -turn[0], -turn[1]] for turn in ((rest, one), (one, -rest)))
    assert off(run("sin", x), np.choose(quarters, sines)) <= 1
    assert off(run("sin", -x), -np.choose(quarters, sines)) <= 1
    assert off(run("cos", x), np.choose(quarters, cosines)) <= 1


@pytest.mark.parametrize("name", FUNCTIONS)
def test_doubles_beside_multiples_of_a_quarter_turn(name: str) -> None:
    x = np.arange(20000) * (math.pi / 2)
    assert off(run(name, x), exact(name, x)) <= 2


@pytest.mark.parametrize("name", FUNCTIONS)
def test_floats(name: str) -> None:
    rng = np.random.default_rng(2)
    x = np.ldexp(rng.uniform(0.5, 1, 30000), rng.integers(-149, 129, 30000)) * rng.choice([-1, 1], 30000)
    x = np.concatenate([x, rng.uniform(-1e3, 1e3, 10000)]).astype(np.float32)
    wanted = exact(name, x)
    assert off(run(name, x), wanted) <= 0.5 + 1e-6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_no_angle_and_zero(dtype: type) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], dtype)
    sines, cosines = run("sin", x), run("cos", x)
    assert np.isnan(sines[:3]).all() and np.isnan(cosines[:3]).all()
    assert sines[3:].tobytes() == x[3:].tobytes() and cosines[3:].tolist() == [1, 1]
