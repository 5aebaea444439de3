"""The plan's matrix products and views on numpy arrays, through numpy's BLAS.

A product's axes are of four kinds: in the result and both operands (batch), in the result and one operand (m for the
left, n for the right), or in no result (contracted). Storage of 16 bits is computed in float32 and rounded once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from irc.codegen.kernel import Storage
from irc.runtime.arrays import DTYPE, Array
from irc.runtime.memory import allocate
from irc.runtime.plan import Operand, Product, View
from irc.runtime.sizes import evaluate

Extents = dict[str, int]


def named(operand: Operand, array: Array, sizes: Mapping[str, int]) -> tuple[Array, tuple[str, ...], Extents]:
    """The operand with one dimension an axis: a view of the array, the names of its axes, their extents."""
    if array.ndim != len(operand.dims):
        raise ValueError(f"operand {operand.tensor} has {array.ndim} axes, its plan {len(operand.dims)}")
    chosen = array[(*(dim if isinstance(dim, int) else slice(None) for dim in operand.dims), ...)]
    axes = [axis for dim in operand.dims if not isinstance(dim, int) for axis in dim]
    shape = [evaluate(axis.size, sizes) for axis in axes]
    names = tuple(axis.name for axis in axes)
    split = chosen.reshape(shape)  # splitting a dimension never copies, whatever its stride
    if len(set(names)) < len(names):
        return _diagonal(split, names)
    return split, names, dict(zip(names, shape, strict=True))


def _diagonal(array: Array, names: tuple[str, ...]) -> tuple[Array, tuple[str, ...], Extents]:
    """An axis that stands twice reads the diagonal; numpy gives it as a view."""
    unique = tuple(dict.fromkeys(names))
    labels = [unique.index(name) for name in names]
    view = np.einsum(array, labels, list(range(len(unique))))
    return view, unique, dict(zip(unique, view.shape, strict=True))


def view(step: View, array: Array, sizes: Mapping[str, int]) -> Array:
    """The operand with its axes selected and permuted: no copy."""
    split, names, _ = named(step.operand, array, sizes)
    return _ordered(split, names, tuple(axis.name for axis in step.axes))


def product(step: Product, left: Array, right: Array, sizes: Mapping[str, int], storage: Storage) -> Array:
    """The product's tensor in its storage type; a view of the matrix result where that has a contiguous last axis."""
    a, a_names, a_extents = named(step.left, left, sizes)
    b, b_names, b_extents = named(step.right, right, sizes)
    extents = {**a_extents, **b_extents}
    for name in a_extents.keys() & b_extents.keys():
        if a_extents[name] != b_extents[name]:
            raise ValueError(f"product {step.result}: axis {name} is {a_extents[name]} and {b_extents[name]}")
    wanted = tuple(axis.name for axis in step.axes)
    compute = np.dtype(np.float64) if storage == "f64" else np.dtype(np.float32)
    a, a_names = _sum_lone(a.astype(compute, copy=False), a_names, {*b_names, *wanted})
    b, b_names = _sum_lone(b.astype(compute, copy=False), b_names, {*a_names, *wanted})
    batch = [n for n in wanted if n in a_names and n in b_names]
    m = [n for n in wanted if n in a_names and n not in b_names]
    n = [n for n in wanted if n in b_names and n not in a_names]
    inner = [name for name in a_names if name in b_names and name not in wanted]
    if wanted and wanted[-1] in m:  # the result's last axis then runs fastest in the matrix too
        a, a_names, m, b, b_names, n = b, b_names, n, a, a_names, m
    result = _multiply(a, a_names, b, b_names, (batch, m, n, inner), extents)
    result = _ordered(result.reshape([extents[name] for name in (*batch, *m, *n)]), (*batch, *m, *n), wanted)
    result = result.reshape(_grouped([extents[name] for name in wanted], step.groups))
    result = result.astype(DTYPE[storage], copy=False)
    if result.ndim and result.strides[-1] != result.itemsize and result.shape[-1] > 1:
        result = np.ascontiguousarray(result)
    return result


def _multiply(
    a: Array,
    a_names: tuple[str, ...],
    b: Array,
    b_names: tuple[str, ...],
    kinds: tuple[list[str], list[str], list[str], list[str]],
    extents: Extents,
) -> Array:
    """The product with axes batch, m, n in this order."""
    batch, m, n, inner = kinds
    if not inner and not m and not n:
        return np.asarray(_ordered(a, a_names, tuple(batch)) * _ordered(b, b_names, tuple(batch)))
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
    ordered = _ordered(array, names, tuple(name for part in parts for name in part))
    shape = [extents[name] for name in batch] + [prod(extents[name] for name in part) for part in rest]
    return ordered.reshape(shape)


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


def _ordered(array: Array, names: Sequence[str], wanted: tuple[str, ...]) -> Array:
    if len(names) != len(wanted) or set(names) != set(wanted):
        raise ValueError(f"axes {tuple(names)} cannot be put in the order {wanted}")
    return array.transpose([names.index(name) for name in wanted])


def _grouped(extents: list[int], groups: tuple[int, ...]) -> list[int]:
    """The shape of axes merged into dimensions."""
    if not groups:
        return extents
    shape, at = [], 0
    for count in groups:
        shape.append(prod(extents[at : at + count]))
        at += count
    return shape
