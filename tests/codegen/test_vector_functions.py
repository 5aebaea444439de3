"""Every function of an expression on vectors, against numpy: f(x[i] + y[j]) with one column."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from attention_tiles import COLUMNS, ROWS, i, j
from compiled import call

from irc.codegen.expr import Expr, Kind, Load, integer, number, op
from irc.codegen.kernel import RowReduce, Target, Tensor, TileKernel, Value
from irc.graph.interpret import apply

X = op("add", Load("x", (i,)), Load("y", (j,)))
N = op("sub", Load("n", (i,), Kind.INT), Load("zero", (j,), Kind.INT))
RANGE = np.concatenate([np.linspace(-20, 20, 401), [1e-6, -1e-6, 0.49, 0.51, 85, -85, -1e30, 1e30]])
POSITIVE = np.concatenate([np.linspace(0.01, 50, 300), [1e-20, 1e20]])


def _apply(value: Expr, x: np.ndarray, storage: str) -> np.ndarray:
    kernel = TileKernel(
        name="apply",
        order="rows",
        tensors=(
            Tensor("x", storage, 1),  # type: ignore[arg-type]
            Tensor("y", storage, 1),  # type: ignore[arg-type]
            Tensor("n", "i32", 1),
            Tensor("zero", "i32", 1),
            Tensor("out", storage, 1, True),  # type: ignore[arg-type]
        ),
        sizes=("Sq", "Sk"),
        batch=(),
        serial=(),
        rows=ROWS,
        columns=COLUMNS,
        panels=(),
        body=(Value("f", value, False), RowReduce("sum", "f", Target("out", (i,)))),
        support=None,
        verdict=None,
        arithmetic=storage,  # type: ignore[arg-type]
    )
    arrays = {
        "x": x,
        "y": np.zeros(1, x.dtype),
        "n": np.arange(len(x), dtype=np.int32) - len(x) // 2,
        "zero": np.zeros(1, np.int32),
        "out": np.empty_like(x),
    }
    call(kernel, arrays, {"Sq": len(x), "Sk": 1})
    return arrays["out"]


FUNCTIONS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]] = {
    "exp": (np.exp, RANGE),
    "tanh": (np.tanh, RANGE),
    "sin": (np.sin, RANGE),
    "cos": (np.cos, RANGE),
    "sigmoid": (lambda x: np.exp(-np.logaddexp(0, -x)), RANGE),
    "erf": (np.vectorize(math.erf), RANGE),
    "abs": (np.abs, RANGE),
    "relu": (lambda x: np.maximum(x, 0), RANGE),
    "log": (np.log, POSITIVE),
    "sqrt": (np.sqrt, POSITIVE),
    "rsqrt": (lambda x: 1 / np.sqrt(x), POSITIVE),
}


@pytest.mark.parametrize("storage", ["f32", "f64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name: str, storage: str) -> None:
    function, points = FUNCTIONS[name]
    x = points.astype(np.float32 if storage == "f32" else np.float64)
    with np.errstate(over="ignore", under="ignore"):
        expected = function(x.astype(np.float64)).astype(x.dtype)
    tolerance = 5e-7 if storage == "f32" else 2e-15
    np.testing.assert_allclose(_apply(op(name, X), x, storage), expected, rtol=tolerance, atol=1e-37)


def test_tanh_is_one_where_a_float_of_it_is() -> None:
    """A derivative, 1 - tanh^2, may be multiplied by an argument in the hundreds."""
    x = np.concatenate([np.linspace(9.6, 12, 1001), [20, 1e3, 1e30, np.inf]]).astype(np.float32)
    assert np.all(_apply(op("tanh", X), x, "f32") == 1) and np.all(_apply(op("tanh", X), -x, "f32") == -1)
    between = np.linspace(-9.6, 9.6, 10001).astype(np.float32)
    assert np.abs(_apply(op("tanh", X), between, "f32")).max() <= 1
    assert np.isnan(_apply(op("tanh", X), np.array([np.nan], np.float32), "f32")).all()


def test_erf_is_one_where_a_float_of_it_is() -> None:
    x = np.concatenate([np.linspace(3.93, 6, 301), [1e30, np.inf]]).astype(np.float32)
    assert np.all(_apply(op("erf", X), x, "f32") == 1) and np.all(_apply(op("erf", X), -x, "f32") == -1)
    assert np.isnan(_apply(op("erf", X), np.array([np.nan], np.float32), "f32")).all()


@pytest.mark.parametrize("storage", ["f32", "f64"])
@pytest.mark.parametrize("base", [0.96875, 1.0009765625, 2.0, 0.5, 1.0, 0.0, -2.0, 1e-20, np.inf])
def test_powers_of_one_base(base: float, storage: str) -> None:
    """A decay to the power of a distance, however far."""
    whole, between = np.arange(-2000, 2001), np.linspace(-9, 9, 101)
    x = np.concatenate([whole, between, [np.inf, -np.inf, np.nan]]).astype(
        np.float32 if storage == "f32" else np.float64
    )
    with np.errstate(all="ignore"):
        expected = np.power(base, x.astype(np.float64)).astype(x.dtype)
    least = np.finfo(x.dtype).tiny  # less is 0
    expected = np.where(np.abs(expected) < least, 0, expected)
    got = _apply(op("pow", number(base), X), x, storage)
    got = np.where(np.abs(got) < least, 0, got)
    np.testing.assert_allclose(got, expected, rtol=3e-7 if storage == "f32" else 1e-14)


def test_special_values_of_exp() -> None:
    x = np.array([-np.inf, np.inf, np.nan, 0, -104, 89], np.float32)
    result = _apply(op("exp", X), x, "f32")
    assert result[0] == 0 and np.isposinf(result[1]) and np.isnan(result[2]) and result[3] == 1
    assert np.isposinf(result[5])


@pytest.mark.parametrize("storage", ["f32", "f64"])
@pytest.mark.parametrize("divisor", [7, -3])
def test_integers_floor(storage: str, divisor: int) -> None:
    x = np.zeros(101, np.float32 if storage == "f32" else np.float64)
    n = np.arange(101) - 50
    both = op("add", op("mul", op("floordiv", N, integer(divisor)), integer(1000)), op("mod", N, integer(divisor)))
    np.testing.assert_array_equal(_apply(op("float", both), x, storage), n // divisor * 1000 + n % divisor)


@pytest.mark.parametrize("storage", ["f32", "f64"])
def test_floors_of_what_32_bits_do_not_hold(storage: str) -> None:
    kind = np.float32 if storage == "f32" else np.float64
    near = np.array([2147483520, 2147483600, 2147483646.5, 2147483647, 2147483648, 1e10, np.inf]).astype(kind)
    x = np.concatenate([near, -near, [np.nan, -0.5]]).astype(kind)
    expected = apply("floor", [x.astype(np.float64)])
    total: Expr = number(0.0)  # of numbers of the integers, of which a float has not all
    for n, whole in enumerate(np.unique(expected)):
        found = op("where", op("eq", op("floor", X), integer(int(whole))), number(n + 1), number(0.0))
        total = op("add", total, found)
    numbers = np.searchsorted(np.unique(expected), expected) + 1
    np.testing.assert_array_equal(_apply(total, x, storage), numbers)


def test_choices_and_bounds() -> None:
    x = np.linspace(-3, 3, 121).astype(np.float32)
    inside = op("and", op("lt", number(-1), X), op("not", op("le", number(2), X)))
    chosen = op("where", inside, op("mul", X, X), op("clamp", X, number(-2), number(2.5)))
    expected = np.where((x > -1) & (x < 2), x * x, np.clip(x, -2, 2.5))
    np.testing.assert_allclose(_apply(chosen, x, "f32"), expected, rtol=1e-6)
    floored = op("float", op("floor", X))
    np.testing.assert_array_equal(_apply(floored, x, "f32"), np.floor(x))
    extremes = op("sub", op("max", X, number(0.5)), op("min", X, number(0.25)))
    np.testing.assert_allclose(_apply(extremes, x, "f32"), np.maximum(x, 0.5) - np.minimum(x, 0.25), rtol=1e-6)
    power = op("pow", op("add", op("abs", X), number(0.5)), number(1.5))
    np.testing.assert_allclose(_apply(power, x, "f32"), (abs(x) + 0.5) ** 1.5, rtol=1e-6)
