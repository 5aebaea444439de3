"""Operands of the plan's products and views: arrays with a name for each axis.

A product's axes are of four kinds: in the result and both operands (batch), in the result and one operand (m for the
left, n for the right), or not in the result (contracted).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from irc.runtime.arrays import Array
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
