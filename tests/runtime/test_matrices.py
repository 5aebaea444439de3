"""Products and views of the plan against numpy's einsum, over random layouts."""

from __future__ import annotations

from math import prod

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irc.codegen.expr import Axis, Size
from irc.runtime import operands, products, toolchain
from irc.runtime.arrays import DTYPE
from irc.runtime.plan import Operand, Product, View
from tests.codegen.test_forms import WITHOUT

NAMES = "abcdef"


def axis(name: str) -> Axis:
    return Axis(name, Size(name.upper()))


@st.composite
def layouts(draw, names: list[str], extents: dict[str, int], dtype=np.float64):
    """An operand over the axes: a shuffled order, some axes merged, some selections, any strides."""
    order = draw(st.permutations(names))
    dims: list[tuple[Axis, ...] | int] = []
    shape: list[int] = []
    while order:
        count = draw(st.integers(1, min(3, len(order))))
        dims.append(tuple(axis(n) for n in order[:count]))
        shape.append(prod(extents[n] for n in order[:count]))
        order = order[count:]
    if draw(st.booleans()):
        at = draw(st.integers(0, len(dims)))
        dims.insert(at, draw(st.integers(0, 2)))
        shape.insert(at, 3)
    steps = [draw(st.sampled_from([1, 1, 2, -1])) for _ in shape]
    memory = draw(st.permutations(range(len(shape))))  # the order of the dimensions in memory
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    stored = rng.integers(-4, 5, [shape[p] * abs(steps[p]) for p in memory]).astype(dtype)
    array = stored.transpose(np.argsort(memory))[(*(slice(None, None, s) for s in steps), ...)]
    return Operand("t", tuple(dims)), array


def plain(operand: Operand, array: np.ndarray, extents: dict[str, int]) -> tuple[np.ndarray, str]:
    """The operand with one axis a dimension, by copying."""
    for at in reversed(range(len(operand.dims))):
        if isinstance(operand.dims[at], int):
            array = np.take(array, operand.dims[at], axis=at)
    names = "".join(a.name for d in operand.dims if not isinstance(d, int) for a in d)
    return np.array(array).reshape([extents[n] for n in names]), names


@st.composite
def cases(draw):
    extents = {n: draw(st.sampled_from([0, 1, 1, 2, 3, 5])) for n in NAMES}
    left = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=5))
    right = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=5))
    both = sorted({*left, *right})
    wanted = draw(st.permutations([n for n in both if draw(st.booleans())]))
    groups, rest = [], len(wanted)
    while rest:
        groups.append(draw(st.integers(1, rest)))
        rest -= groups[-1]
    kept = tuple(groups) if draw(st.booleans()) else ()
    a = draw(layouts(left, extents))
    b = draw(layouts(right, extents))
    return Product("r", tuple(axis(n) for n in wanted), kept, a[0], b[0]), a[1], b[1], extents


@settings(max_examples=400, deadline=None)
@given(cases(), st.sampled_from(["f64", "f32", "bf16", "f16"]))
def test_product_equals_einsum(case, storage):
    step, left, right, extents = case
    dtype = DTYPE[storage]
    left, right = left.astype(dtype), right.astype(dtype)
    sizes = {n.upper(): e for n, e in extents.items()}
    wanted = "".join(a.name for a in step.axes)
    a, a_names = plain(step.left, left, extents)
    b, b_names = plain(step.right, right, extents)
    exact = np.einsum(f"{a_names},{b_names}->{wanted}", a.astype(np.float64), b.astype(np.float64))
    got = products.multiplier(step, sizes, storage)(left, right)
    assert isinstance(got, np.ndarray)
    assert got.dtype == dtype
    assert got.ndim == (len(step.groups) or len(wanted))
    assert got.ndim == 0 or got.shape[-1] <= 1 or got.size == 0 or got.strides[-1] == got.itemsize
    assert (got.reshape(exact.shape) == exact.astype(dtype)).all()  # small integers: exact before the one rounding


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_view_names_selects_and_permutes_without_copying(data):
    extents = {n: data.draw(st.integers(1, 4)) for n in NAMES}
    names = data.draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
    operand, array = data.draw(layouts(names, extents))
    wanted = data.draw(st.permutations(names))
    view = View("v", tuple(axis(n) for n in wanted), operand)
    got = operands.viewer(view, {n.upper(): e for n, e in extents.items()})(array)
    values, order = plain(operand, array, extents)
    assert np.array_equal(got, values.transpose([order.index(n) for n in wanted]))
    assert np.shares_memory(got, array)


def test_axis_that_stands_twice_reads_the_diagonal():
    x = np.arange(9.0).reshape(3, 3)
    i = axis("a")
    assert operands.viewer(View("v", (i,), Operand("x", ((i,), (i,)))), {"A": 3})(x).tolist() == [0.0, 4.0, 8.0]


def test_bf16_product_is_rounded_once():
    # Partial sums kept in bf16 would stop growing at 1, where 2**-8 is half the distance to the next number.
    x = np.full(512, 2.0**-4, ml_dtypes.bfloat16)
    k = Axis("k", Size("K"))
    step = Product("r", (), (), Operand("x", ((k,),)), Operand("y", ((k,),)))
    assert float(products.multiplier(step, {"K": 512}, "bf16")(x, x)) == 2.0


def matrices(turned: tuple[bool, bool], pairs: bool) -> Product:
    i, j, c = (Axis(name, Size(name.upper())) for name in "ijc")
    left = Operand("x", ((c,), (i,)) if turned[0] else ((i,), (c,)))
    right = Operand("y", ((j,), (c,)) if turned[1] else ((c,), (j,)))
    return Product("r", (i, j), (), left, right, pairs)


# Tiles and a rest, of rows, of columns and of what is summed, more than is packed at once; few of each; none.
SHAPES = [(1, 1, 1), (1, 700, 500), (3, 100, 1), (17, 49, 300), (193, 70, 2100), (2100, 1000, 40), (5, 200, 2500)]
SHAPES += [(4, 6, 0), (0, 300, 5), (397, 7, 390), (205, 20, 76), (400, 40, 195)]


@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("storage", ["f64", "f32", "bf16", "f16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_matrices_of_any_size_and_layout(shape, storage, turned, monkeypatch):
    m, n, k = shape
    rng = np.random.default_rng(m)
    x = rng.standard_normal((k, m) if turned[0] else (m, k)).astype(DTYPE[storage])
    y = rng.standard_normal((n, k) if turned[1] else (k, n)).astype(DTYPE[storage])
    step = matrices(turned, storage == "bf16")
    left, right = (x.T if turned[0] else x), (y.T if turned[1] else y)
    exact = left.astype(np.float64) @ right.astype(np.float64)
    found = []
    for threads in ("1", "3"):
        monkeypatch.setenv("IRC_THREADS", threads)
        found.append(products.multiplier(step, {"I": m, "J": n, "C": k}, storage)(x, y))
    tolerance = {"f64": 1e-13, "f32": 2e-6, "bf16": 4e-3, "f16": 5e-4}[storage] * float(np.abs(exact).max(initial=1))
    assert float(np.abs(found[0].astype(np.float64) - exact).max(initial=0)) <= tolerance
    assert found[0].tobytes() == found[1].tobytes()


PLACES = {
    "whole": (lambda x: x, (19, 23, 6, 20)),
    "of longer rows": (lambda x: x[..., :20], (19, 23, 6, 21)),
    "of wider sums": (lambda x: x[..., :6, :], (19, 23, 7, 20)),
    "from the second number": (lambda x: x[..., 1:], (19, 23, 6, 21)),
    "backwards": (lambda x: x[::-1, ::-1], (19, 23, 6, 20)),
    "every other": (lambda x: x[::2, :, :, ::2], (38, 23, 6, 40)),
    "rows exchanged": (lambda x: x.swapaxes(0, 1), (23, 19, 6, 20)),
    "sums exchanged": (lambda x: x.swapaxes(2, 3), (19, 23, 20, 6)),
    "sums first": (lambda x: x.transpose(2, 3, 0, 1), (6, 20, 19, 23)),
    "one sum": (lambda x: x[:, :, :1, 3:4], (19, 23, 6, 20)),
}


@pytest.mark.parametrize("storage", ["f64", "f32", "bf16", "f16"])
@pytest.mark.parametrize("where", PLACES)
def test_many_rows_wherever_they_lie(where, storage):
    """Rows that lie as they are multiplied are read in place; what lies beside them plays no part."""
    chosen, shape = PLACES[where]
    rng = np.random.default_rng(2)
    memory = np.full(prod(shape) + 9, np.nan, DTYPE[storage])
    x = chosen(memory[: prod(shape)].reshape(shape))
    x[...] = rng.integers(-4, 5, x.shape)
    a, b, c, d = x.shape
    y = rng.integers(-4, 5, (c, d, 5)).astype(DTYPE[storage])
    rows, sums, n = (axis("a"), axis("b")), (axis("c"), axis("d")), axis("e")
    left, right = Operand("x", tuple((i,) for i in (*rows, *sums))), Operand("y", tuple((i,) for i in (*sums, n)))
    step = Product("r", (*rows, n), (), left, right, storage == "bf16")
    got = products.multiplier(step, dict(zip("ABCDE", (a, b, c, d, 5), strict=True)), storage)(x, y)
    exact = np.einsum("abcd,cde->abe", x.astype(np.float64), y.astype(np.float64))
    assert (got == exact.astype(DTYPE[storage])).all()


@pytest.mark.parametrize("without", WITHOUT)
def test_pairs_round_what_they_multiply(without, monkeypatch):
    """Where the processor has none, floats are multiplied."""
    monkeypatch.setenv("IRC_CXX", f"{toolchain.find().command[0]} {without}")
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((70, 300), np.float32), rng.standard_normal((300, 90)).astype(ml_dtypes.bfloat16)
    got = products.multiplier(matrices((False, False), True), {"I": 70, "J": 90, "C": 300}, "f32")(x, y)
    assert got.dtype == np.float32
    exact = x.astype(np.float64) @ y.astype(np.float64)
    rounded = x.astype(ml_dtypes.bfloat16).astype(np.float64) @ y.astype(np.float64)
    assert min(float(np.abs(got - e).max()) for e in (exact, rounded)) < 1e-4 < float(np.abs(exact - rounded).max())


def test_disagreeing_extents_are_refused():
    k = Axis("k", Size("K"))
    other = Axis("k", Size("L"))
    step = Product("r", (), (), Operand("x", ((k,),)), Operand("y", ((other,),)))
    with pytest.raises(ValueError, match="axis k is 2 and 3"):
        products.multiplier(step, {"K": 2, "L": 3}, "f64")(np.ones(2), np.ones(3))
