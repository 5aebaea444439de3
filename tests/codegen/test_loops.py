"""Rendered loop nests against numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from compiled import apart, call

from irc.codegen.expr import Axis, Expr, Index, Kind, Load, Op, Size, integer, number, op
from irc.codegen.kernel import Loop, LoopKernel, Target, Tensor
from irc.codegen.loops import nest
from irc.codegen.names import identifier

N, M = Size("N"), Size("M")
n, m = Axis("n", N), Axis("m", M)
X = Load("x", (n.index, m.index))
STORAGES = {"f32": np.float32, "f64": np.float64, "bf16": ml_dtypes.bfloat16, "f16": np.float16}


def loop(axes: tuple[Axis, ...], body: Expr, **more: object) -> Loop:
    values: dict[str, object] = {
        "axes": axes,
        "over": (),
        "reduce": "",
        "body": body,
        "where": None,
        "init": None,
        "target": Target("y", tuple(axis.index for axis in axes)),
        "add": False,
        "parallel": tuple(axis.name for axis in axes),
    }
    return Loop(**(values | more))  # type: ignore[arg-type]


def kernel(*loops: Loop, storage: str = "f32", rank: int = 2, **more: object) -> LoopKernel:
    tensors = (Tensor("x", storage, 2), Tensor("y", storage, rank, True))  # type: ignore[arg-type]
    arithmetic = "f64" if storage == "f64" else "f32"
    return LoopKernel("loops", tensors, ("N", "M"), loops, None, arithmetic, **more)  # type: ignore[arg-type]


def run(k: LoopKernel, x: np.ndarray, y: np.ndarray, **more: np.ndarray) -> np.ndarray:
    call(k, {"x": x, "y": y, **more}, {"N": x.shape[0], "M": x.shape[1]})
    return y


def sample(rows: int = 37, columns: int = 53, storage: str = "f32") -> np.ndarray:
    return np.random.default_rng(1).standard_normal((rows, columns)).astype(STORAGES[storage])


FUNCTIONS = {
    "exp": np.exp,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "abs": np.abs,
    "relu": lambda x: np.where(x < 0, 0, x),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "neg": np.negative,
    "log": np.log,
    "rsqrt": lambda x: 1 / np.sqrt(x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_functions(name: str) -> None:
    x = sample(storage="f64")
    x[0, :6] = [np.nan, np.inf, -np.inf, 0.0, 800.0, -800.0]
    y = run(kernel(loop((n, m), op(name, X)), storage="f64"), x, np.empty_like(x))
    np.testing.assert_allclose(y, FUNCTIONS[name](x), rtol=1e-13)


@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "erf"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_functions_of_floats_are_right_to_a_few_units(name: str) -> None:
    x = np.concatenate([np.linspace(-110, 100, 20001), np.linspace(-5, 5, 20001), np.logspace(-40, 0, 1000)])
    x = np.concatenate([x, [np.nan, np.inf, -np.inf, 0.0, -0.0, 0.4, 1.0]]).astype(np.float32)[None]
    exact = (FUNCTIONS | {"erf": np.vectorize(math.erf)})[name](x.astype(np.float64))
    got = run(kernel(loop((n, m), op(name, X))), x, np.empty_like(x))
    np.testing.assert_allclose(got, exact.astype(np.float32), rtol=4e-7, atol=2e-45)
    assert np.array_equal(np.isnan(got), np.isnan(x))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_logarithms_of_floats() -> None:
    """Right to a unit, of subnormal numbers too."""
    x = np.concatenate(
        [np.logspace(-45, 38, 20001), np.linspace(0.5, 2, 20001), [np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0]]
    )
    x = x.astype(np.float32)[None]
    got = run(kernel(loop((n, m), op("log", X))), x, np.empty_like(x))
    np.testing.assert_allclose(got, np.log(x.astype(np.float64)).astype(np.float32), rtol=1.2e-7)


def test_two_argument_functions() -> None:
    y = number(0.25)
    x = sample(storage="f64")
    body = op(
        "add", op("max", X, y), op("mul", op("min", X, y), op("clamp", op("pow", X, number(2.0)), y, number(1.0)))
    )
    got = run(kernel(loop((n, m), body), storage="f64"), x, np.empty_like(x))
    expected = np.maximum(x, 0.25) + np.minimum(x, 0.25) * np.clip(x**2, 0.25, 1)
    # The compiler may fuse the product and the sum: where they cancel, a product of 1/4 is rounded by numpy alone.
    np.testing.assert_allclose(got, expected, rtol=1e-14, atol=2**-54)


@pytest.mark.parametrize("storage", STORAGES)
def test_storage_rounds_to_nearest_even_and_keeps_nan(storage: str) -> None:
    x = sample(storage=storage)
    x[0, :4] = [np.nan, np.inf, -np.inf, 0]
    got = run(kernel(loop((n, m), op("mul", X, number(1.1))), storage=storage), x, np.empty_like(x))
    wide = np.float64 if storage == "f64" else np.float32
    expected = (x.astype(wide) * wide(1.1)).astype(x.dtype)
    np.testing.assert_array_equal(got.astype(wide), expected.astype(wide))


def test_integers_floor_as_python() -> None:
    i = op("sub", n.index, integer(20))
    j = op("sub", m.index, integer(26))
    body = op("add", op("mul", op("floordiv", i, j), integer(1000)), op("mod", i, j))
    x = sample()
    got = run(kernel(loop((n, m), op("float", body))), x, np.empty_like(x))
    rows, columns = np.meshgrid(np.arange(37) - 20, np.arange(53) - 26, indexing="ij")
    columns_safe = np.where(columns == 0, 1, columns)
    expected = np.where(columns == 0, 0, rows // columns_safe * 1000 + rows % columns_safe)
    np.testing.assert_array_equal(got, expected)


def test_where_is_exactly_zero_elsewhere() -> None:
    x = sample()
    x[np.triu_indices(37, 1, 53)] = np.nan
    got = run(kernel(loop((n, m), X, where=op("le", m.index, n.index))), x, np.empty_like(x))
    np.testing.assert_array_equal(got, np.tril(np.nan_to_num(x)))


def test_an_untaken_branch_is_not_evaluated() -> None:
    far = Load("x", (op("mul", n.index, integer(1 << 40)), m.index))
    body = op("where", op("lt", n.index, integer(0)), far, X)
    x = sample()
    np.testing.assert_array_equal(run(kernel(loop((n, m), body)), x, np.empty_like(x)), x)


@pytest.mark.parametrize("layout", [np.asarray, apart])
@pytest.mark.parametrize("reduce", ["sum", "max", "logsumexp"])
def test_reductions_see_only_supported_points(reduce: str, layout: Callable[[np.ndarray], np.ndarray]) -> None:
    x = layout(sample(storage="f64"))
    x[np.arange(37)[:, None] <= np.arange(53)] = np.nan
    k = kernel(
        loop((n,), X, over=(m,), reduce=reduce, where=op("lt", m.index, n.index)),
        storage="f64",
        rank=1,
    )
    got = run(k, x, np.empty(37))
    empty = 0.0 if reduce == "sum" else -np.inf
    assert got[0] == empty
    for i in range(1, 37):
        row = x[i, :i]
        expected = {"sum": row.sum(), "max": row.max(), "logsumexp": np.log(np.exp(row).sum())}[reduce]
        np.testing.assert_allclose(got[i], expected, rtol=1e-12)


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("columns", [1, 63, 64, 130])
def test_sums_down_columns(columns: int, add: bool) -> None:
    x = sample(37, columns, "bf16")
    x[np.arange(37)[:, None] > np.arange(columns)] = np.nan
    y = np.ones(columns, ml_dtypes.bfloat16)
    where = op("le", n.index, m.index)
    k = kernel(loop((m,), X, over=(n,), reduce="sum", where=where, add=add), storage="bf16", rank=1)
    expected = np.nansum(x.astype(np.float32), 0) + add
    np.testing.assert_allclose(run(k, x, y).astype(np.float32), expected, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("columns", [1, 64, 130])
def test_sums_down_columns_beside_numbers_of_rows(columns: int, last: bool) -> None:
    """Of a tensor with a number for each row, and one that is read across; the axis of lanes need not be the last."""
    x, k = sample(37, columns), Axis("k", integer(3))
    z, w = sample(37, 1), sample(columns, 3)
    body = op("mul", op("mul", X, Load("z", (n.index, integer(0)))), Load("w", (m.index, k.index)))
    axes = (k, m) if last else (m, k)
    tensors = tuple(Tensor(name, "f32", 2, name == "y") for name in ("w", "x", "y", "z"))
    made = LoopKernel("loops", tensors, ("N", "M"), (loop(axes, body, over=(n,), reduce="sum"),), None, "f32")
    y = run(made, x, np.empty((3, columns) if last else (columns, 3), np.float32), z=z, w=w)
    expected = np.einsum("nm,n,mk->km" if last else "nm,n,mk->mk", x, z[:, 0], w)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    lanes = nest(made.loops[0]).lanes
    assert lanes is not None and lanes.name == identifier("m")


def test_lanes_do_not_divide() -> None:
    """What an index leaves when it is divided is made before a loop over another one."""
    rest = Load("z", (n.index, op("mod", m.index, N)))
    assert nest(loop((m,), op("mul", X, rest), over=(n,), reduce="sum")).lanes is None


def test_logsumexp_with_one_more_logit_and_large_scores() -> None:
    x = sample(storage="f64") + 1000
    k = kernel(loop((n,), X, over=(m,), reduce="logsumexp", init=number(1001.0)), storage="f64", rank=1)
    whole = np.concatenate([x, np.full((37, 1), 1001.0)], axis=1)
    np.testing.assert_allclose(run(k, x, np.empty(37)), 1000 + np.log(np.exp(whole - 1000).sum(1)), rtol=1e-13)


def test_add_scatters_into_what_is_there() -> None:
    target = Target("y", (op("mod", m.index, integer(5)), n.index))
    k = kernel(loop((m, n), X, target=target, add=True, parallel=("n",), where=op("ne", m.index, integer(3))))
    x = sample()
    y = np.ones((5, 37), np.float32)
    expected = np.ones((5, 37))
    for j in range(53):
        if j != 3:
            expected[j % 5] += x[:, j]
    np.testing.assert_allclose(run(k, x, y), expected, rtol=1e-5, atol=1e-5)


def test_a_target_can_be_cleared_first() -> None:
    k = LoopKernel(
        "loops",
        (Tensor("x", "f32", 2), Tensor("y", "f32", 2, True, (integer(3), N))),
        ("N", "M"),
        (loop((n, m), X, target=Target("y", (integer(1), n.index)), add=True, parallel=("n",)),),
        "y",
        "f32",
    )
    x = sample()
    got = run(k, x, np.full((3, 37), np.nan, np.float32))
    np.testing.assert_allclose(got, np.stack([np.zeros(37), x.sum(1), np.zeros(37)]), rtol=1e-5, atol=1e-5)


def test_gather_through_an_integer_table_and_product_axes() -> None:
    d = Axis("d", integer(4))
    position = Op("flat", (m.index, M, d.index, integer(4)), Kind.INT)
    table = Load("table", (m.index,), Kind.INT)
    k = LoopKernel(
        "gather",
        (Tensor("x", "f32", 2), Tensor("table", "i32", 1), Tensor("y", "f32", 2, True)),
        ("N", "M"),
        (
            loop(
                (n, m, d),
                op("mul", Load("x", (n.index, table)), op("float", d.index)),
                target=Target("y", (n.index, position)),
            ),
        ),
        None,
        "f32",
    )
    x = sample(6, 7)
    index = np.array([3, 0, 6, 6, 1, 2, 5], np.int32)
    y = np.empty((6, 28), np.float32)
    call(k, {"x": x, "table": index, "y": y}, {"N": 6, "M": 7})
    np.testing.assert_array_equal(y, (x[:, index][:, :, None] * np.arange(4, dtype=np.float32)).reshape(6, 28))


def test_scalars_and_reserved_names() -> None:
    i = Axis("int", Size("T"))
    body = op("mul", Load("x", (Index("int"),)), Load("for", ()))
    k = LoopKernel(
        "names",
        (Tensor("x", "f32", 1), Tensor("for", "f32", 0), Tensor("y", "f32", 1, True)),
        ("T",),
        (loop((i,), body),),
        None,
        "f32",
    )
    x = np.arange(5, dtype=np.float32)
    y = np.empty(5, np.float32)
    call(k, {"x": x, "for": np.array(3.0, np.float32), "y": y}, {"T": 5})
    np.testing.assert_array_equal(y, x * 3)


def test_a_condition_on_rows_is_asked_once_a_row() -> None:
    """Of each element, and of each that is added, where a vector's lanes are not told by it."""
    row = op("lt", integer(0), op("mod", n.index, integer(3)))
    held, x = np.arange(37) % 3 > 0, sample()
    stored, summed = kernel(loop((n, m), X, where=row)), loop((m,), X, over=(n,), reduce="sum", where=row)
    np.testing.assert_array_equal(run(stored, x, np.full((37, 53), np.nan, np.float32)), np.where(held[:, None], x, 0))
    added = kernel(loop((n, m), X, where=row, add=True))
    np.testing.assert_array_equal(run(added, x, x.copy()), x + np.where(held[:, None], x, 0))
    summed = replace(summed, target=Target("y", (m.index,)))
    np.testing.assert_allclose(run(kernel(summed, rank=1), x, np.empty(53, np.float32)), x[held].sum(0), rtol=1e-5)
    assert all(len(nest(each).cuts) == 1 for each in (*stored.loops, *added.loops, summed))


@pytest.mark.parametrize("columns", [0, 1, 2, 64, 130])
def test_borders_stand_outside_of_the_innermost_loop(columns: int) -> None:
    """Of a convolution: of lanes, of a sum, of what is stored, and of what is added, under a condition of rows too."""
    place = op("sub", op("add", m.index, integer(1)), n.index)
    inside = op("and", op("le", integer(0), place), op("lt", place, M))
    inside = op("and", op("lt", integer(1), op("mod", n.index, integer(5))), inside)
    tap = op("where", inside, Load("x", (n.index, place)), number(0.0))
    body = op("mul", op("add", X, number(1.0)), tap)
    x = sample(37, columns)
    at = np.arange(columns) + 1 - np.arange(37)[:, None]
    held = (at >= 0) & (at < columns) & (np.arange(37)[:, None] % 5 > 1)
    taps = np.where(held, np.take_along_axis(x, np.clip(at, 0, max(columns - 1, 0)), 1), 0) if columns else x
    expected = (x + 1) * taps
    down = loop((m,), body, over=(n,), reduce="sum", target=Target("y", (m.index,)))
    across = loop((n,), body, over=(m,), reduce="sum", target=Target("y", (n.index,)))
    for each, axis in ((down, 0), (across, 1)):
        assert len(nest(each).cuts) == 2 and bool(nest(each).lanes) == (axis == 0)
        got = run(kernel(each, rank=1), x, np.empty(expected.sum(axis).shape, np.float32))
        np.testing.assert_allclose(got, expected.sum(axis), rtol=1e-4, atol=1e-5)
        where = replace(each, where=inside)
        got = run(kernel(where, rank=1), x, np.empty(expected.sum(axis).shape, np.float32))
        np.testing.assert_allclose(got, expected.sum(axis), rtol=1e-4, atol=1e-5)
    stored, added = loop((n, m), body), loop((n, m), body, add=True)
    assert len(nest(stored).cuts) == 2 == len(nest(added).cuts)
    np.testing.assert_allclose(run(kernel(stored), x, np.empty_like(x)), expected, rtol=1e-6)
    np.testing.assert_allclose(run(kernel(added), x, x.copy()), x + expected, rtol=1e-5, atol=1e-6)


def test_what_is_the_same_along_the_innermost_loop_is_made_once() -> None:
    """Also where it is stored."""
    row = op("floor", Load("x", (n.index, integer(0))))
    far = op("where", op("lt", integer(0), row), number(2.0), number(3.0))
    at = op("clamp", row, integer(0), integer(36))
    made = kernel(loop((n, m), op("mul", X, far), target=Target("y", (at, m.index)), add=True, parallel=()))
    x, expected = sample(), np.zeros((37, 53))
    for k in range(37):
        place = math.floor(x[k, 0])
        expected[min(max(place, 0), 36)] += x[k] * (2 if place > 0 else 3)
    np.testing.assert_allclose(run(made, x, np.zeros_like(x)), expected, rtol=1e-5, atol=1e-5)
    (stretch,) = nest(made.loops[0]).stretches
    assert len(stretch.constants) == 2 and "floor" not in stretch.body + stretch.target


def test_thread_counts_give_the_same_bits() -> None:
    k = kernel(loop((n,), X, over=(m,), reduce="sum"), rank=1)
    x = sample(200, 301)
    results = []
    for threads in (1, 2, 3):
        y = np.empty(200, np.float32)
        call(k, {"x": x, "y": y}, {"N": 200, "M": 301}, threads)
        results.append(y.tobytes())
    assert len(set(results)) == 1


def test_empty_sizes() -> None:
    got = run(kernel(loop((n,), X, over=(m,), reduce="sum"), rank=1), sample(4, 0), np.full(4, np.nan, np.float32))
    np.testing.assert_array_equal(got, np.zeros(4))
    run(kernel(loop((n, m), X)), sample(0, 4), np.empty((0, 4), np.float32))
