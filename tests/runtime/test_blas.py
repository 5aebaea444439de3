"""Products and views of the plan against numpy's einsum, over random layouts."""

from __future__ import annotations

from math import prod

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irc.codegen.expr import Axis, Size
from irc.runtime import blas
from irc.runtime.plan import Operand, Product, View

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
def products(draw):
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
@given(products(), st.sampled_from(["f64", "f32", "bf16", "f16"]))
def test_product_equals_einsum(case, storage):
    step, left, right, extents = case
    dtype = blas.DTYPE[storage]
    left, right = left.astype(dtype), right.astype(dtype)
    sizes = {n.upper(): e for n, e in extents.items()}
    wanted = "".join(a.name for a in step.axes)
    a, a_names = plain(step.left, left, extents)
    b, b_names = plain(step.right, right, extents)
    exact = np.einsum(f"{a_names},{b_names}->{wanted}", a.astype(np.float64), b.astype(np.float64))
    got = blas.multiplier(step, sizes, storage)(left, right)
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
    got = blas.viewer(view, {n.upper(): e for n, e in extents.items()})(array)
    values, order = plain(operand, array, extents)
    assert np.array_equal(got, values.transpose([order.index(n) for n in wanted]))
    assert np.shares_memory(got, array)


def test_axis_that_stands_twice_reads_the_diagonal():
    x = np.arange(9.0).reshape(3, 3)
    i = axis("a")
    assert blas.viewer(View("v", (i,), Operand("x", ((i,), (i,)))), {"A": 3})(x).tolist() == [0.0, 4.0, 8.0]


def test_bf16_product_is_rounded_once():
    # Partial sums kept in bf16 would stop growing at 1, where 2**-8 is half the distance to the next number.
    x = np.full(512, 2.0**-4, ml_dtypes.bfloat16)
    k = Axis("k", Size("K"))
    step = Product("r", (), (), Operand("x", ((k,),)), Operand("y", ((k,),)))
    assert float(blas.multiplier(step, {"K": 512}, "bf16")(x, x)) == 2.0


def test_disagreeing_extents_are_refused():
    k = Axis("k", Size("K"))
    other = Axis("k", Size("L"))
    step = Product("r", (), (), Operand("x", ((k,),)), Operand("y", ((other,),)))
    with pytest.raises(ValueError, match="axis k is 2 and 3"):
        blas.multiplier(step, {"K": 2, "L": 3}, "f64")(np.ones(2), np.ones(3))
