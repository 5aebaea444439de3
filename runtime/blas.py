"""The plan's matrix products and views on numpy arrays, through numpy's BLAS.

A product's axes are of four kinds: in the result and both operands (batch), in the result and one operand (m for the
left, n for the right), or in no result (contracted). Storage of 16 bits is computed in float32 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from irc.codegen.kernel import Storage
from irc.runtime.arrays import DTYPE, Array
from irc.runtime.memory import allocate
from irc.runtime.plan import Operand, Product, View
from irc.runtime.sizes import evaluate

Extents = dict[str, int]


@dataclass(frozen=True, slots=True)
class Reader:
    """How an operand is read for known sizes: what is selected of its array (all: ()), one dimension an axis, the axes'
    names."""

    operand: Operand
    chosen: tuple[Any, ...]
    shape: tuple[int, ...]
    names: tuple[str, ...]

    def split(self, array: Array) -> Array:
        """A view with one dimension an axis."""
        if array.ndim != len(self.operand.dims):
            raise ValueError(f"operand {self.operand.tensor} has {array.ndim} axes, its plan {len(self.operand.dims)}")
        selected = array[self.chosen] if self.chosen else array
        # splitting a dimension never copies, whatever its stride
        return selected if selected.shape == self.shape else selected.reshape(self.shape)

    def __call__(self, array: Array) -> tuple[Array, tuple[str, ...], Extents]:
        """The operand with one dimension an axis: a view of the array, the names of its axes, their extents."""
        split = self.split(array)
        if len(set(self.names)) < len(self.names):
            return _diagonal(split, self.names)
        return split, self.names, dict(zip(self.names, self.shape, strict=True))


def reader(operand: Operand, sizes: Mapping[str, int]) -> Reader:
    selects = any(isinstance(dim, int) for dim in operand.dims)
    chosen = (*(dim if isinstance(dim, int) else slice(None) for dim in operand.dims), ...) if selects else ()
    axes = [axis for dim in operand.dims if not isinstance(dim, int) for axis in dim]
    return Reader(operand, chosen, tuple(evaluate(a.size, sizes) for a in axes), tuple(a.name for a in axes))


def _diagonal(array: Array, names: tuple[str, ...]) -> tuple[Array, tuple[str, ...], Extents]:
    """An axis that stands twice reads the diagonal; numpy gives it as a view."""
    unique = tuple(dict.fromkeys(names))
    labels = [unique.index(name) for name in names]
    view = np.einsum(array, labels, list(range(len(unique))))
    return view, unique, dict(zip(unique, view.shape, strict=True))


def viewer(step: View, sizes: Mapping[str, int]) -> Callable[[Array], Array]:
    """A function of the operand: the same with its axes selected and permuted, no copy."""
    read, wanted = reader(step.operand, sizes), tuple(axis.name for axis in step.axes)
    if read.names == wanted and len(set(wanted)) == len(wanted):
        return read.split

    def view(array: Array) -> Array:
        split, names, _ = read(array)
        return ordered(split, names, wanted)

    return view


def multiplier(step: Product, sizes: Mapping[str, int], storage: Storage) -> Callable[[Array, Array], Array]:
    """A function of the operands: see `product`."""
    left, right = reader(step.left, sizes), reader(step.right, sizes)
    return lambda a, b: product(step, left(a), right(b), storage)


def product(
    step: Product,
    left: tuple[Array, tuple[str, ...], Extents],
    right: tuple[Array, tuple[str, ...], Extents],
    storage: Storage,
) -> Array:
    """The product's tensor in its storage type; a view of the matrix result where that has a contiguous last axis."""
    a, a_names, a_extents = left
    b, b_names, b_extents = right
    extents = common(step, a_extents, b_extents)
    wanted = tuple(axis.name for axis in step.axes)
    compute = np.dtype(np.float64) if storage == "f64" else np.dtype(np.float32)
    a, a_names = _sum_lone(a.astype(compute, copy=False), a_names, {*b_names, *wanted})
    b, b_names = _sum_lone(b.astype(compute, copy=False), b_names, {*a_names, *wanted})
    batch, m, n, inner = kinds(a_names, b_names, wanted)
    if wanted and wanted[-1] in m:  # the result's last axis then runs fastest in the matrix too
        a, a_names, m, b, b_names, n = b, b_names, n, a, a_names, m
    result = _multiply(a, a_names, b, b_names, (batch, m, n, inner), extents)
    result = ordered(result.reshape([extents[name] for name in (*batch, *m, *n)]), (*batch, *m, *n), wanted)
    result = result.reshape(grouped([extents[name] for name in wanted], step.groups))
    result = result.astype(DTYPE[storage], copy=False)
    if result.ndim and result.strides[-1] != result.itemsize and result.shape[-1] > 1:
        result = np.ascontiguousarray(result)
    return result


def common(step: Product, left: Extents, right: Extents) -> Extents:
    """The extents of all axes of a product, of which those that both operands have are the same."""
    for name in left.keys() & right.keys():
        if left[name] != right[name]:
            raise ValueError(f"product {step.result}: axis {name} is {left[name]} and {right[name]}")
    return {**left, **right}


def kinds(
    left: tuple[str, ...], right: tuple[str, ...], wanted: tuple[str, ...]
) -> tuple[list[str], list[str], list[str], list[str]]:
    """The axes of a product that are of the batch, of the left operand, of the right one, and contracted."""
    batch = [name for name in wanted if name in left and name in right]
    m = [name for name in wanted if name in left and name not in right]
    n = [name for name in wanted if name in right and name not in left]
    return batch, m, n, [name for name in left if name in right and name not in wanted]


def _multiply(
    a: Array,
    a_names: tuple[str, ...],
    b: Array,
    b_names: tuple[str, ...],
    parts: tuple[list[str], list[str], list[str], list[str]],
    extents: Extents,
) -> Array:
    """The product with axes batch, m, n in this order."""
    batch, m, n, inner = parts
    if not inner and not m and not n:
        return np.asarray(ordered(a, a_names, tuple(batch)) * ordered(b, b_names, tuple(batch)))
    if not m and not n:  # a dot for each batch entry: one call to a ufunc, not one to BLAS for each
        x = _merged(a, a_names, (batch, inner), extents)
        y = _merged(b, b_names, (batch, inner), extents)
        return np.asarray(np.vecdot(x, y))
    x = _for_blas(_merged(a, a_names, (batch, m, inner), extents))
    y = _for_blas(_merged(b, b_names, (batch, inner, n), extents))
    out = allocate((*x.shape[:-1], y.shape[-1]), "f64" if x.dtype == np.float64 else "f32")
    return np.asarray(np.matmul(x, y, out=out))


def _merged(array: Array, names: tuple[str, ...], parts: tuple[list[str], ...], extents: Extents) -> Array:
    """The array with the batch axes of `parts` kept apart and every later part merged into one axis."""
    batch, *rest = parts
    flat = ordered(array, names, tuple(name for part in parts for name in part))
    shape = [extents[name] for name in batch] + [prod(extents[name] for name in part) for part in rest]
    return flat.reshape(shape)


def _for_blas(array: Array) -> Array:
    """The stack of matrices, copied unless BLAS takes each as it lies: one axis contiguous, the other wide enough."""
    size = array.itemsize
    rows, columns = array.strides[-2:]
    height, width = array.shape[-2:]
    if (columns == size and rows >= width * size) or (rows == size and columns >= height * size):
        return array
    copy = allocate(array.shape, "f64" if array.dtype == np.float64 else "f32")
    copy[...] = array
    return copy


def _sum_lone(array: Array, names: tuple[str, ...], used: set[str]) -> tuple[Array, tuple[str, ...]]:
    """Sum over the axes that neither the result nor the other operand has."""
    lone = tuple(position for position, name in enumerate(names) if name not in used)
    if not lone:
        return array, names
    return np.asarray(array.sum(axis=lone)), tuple(name for name in names if name in used)


def ordered(array: Array, names: Sequence[str], wanted: tuple[str, ...]) -> Array:
    """A view with its axes in the order wanted."""
    if len(names) != len(wanted) or set(names) != set(wanted):
        raise ValueError(f"axes {tuple(names)} cannot be put in the order {wanted}")
    return array.transpose([names.index(name) for name in wanted])


def grouped(extents: list[int], groups: tuple[int, ...]) -> list[int]:
    """The shape of axes merged into dimensions."""
    if not groups:
        return extents
    shape, at = [], 0
    for count in groups:
        shape.append(prod(extents[at : at + count]))
        at += count
    return shape
