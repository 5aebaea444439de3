"""The plan's matrix products on a device, through cuBLASLt; and whatever else is done with tensors between kernels, by
one kernel for all types and strides (`strided.cu`)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from irc.codegen.kernel import Storage
from irc.runtime import operands
from irc.runtime.arrays import Array, address, storage_of
from irc.runtime.cuda import cublaslt
from irc.runtime.cuda.launch import Module
from irc.runtime.plan import Product

if TYPE_CHECKING:
    from irc.runtime.cuda.device import Cuda

TYPES: dict[Storage, int] = {
    "f32": 0, "f64": 1, "bf16": 2, "f16": 3, "i32": 4, "bool": 5, "i8": 6, "u8": 7, "i16": 8, "u16": 9,
}  # fmt: skip
AXES, THREADS = 16, 256
Named = tuple[Array, tuple[str, ...], operands.Extents]


def strided_source() -> str:
    """`strided.cu`, with the head of every CUDA source."""
    from irc.codegen import cuda  # not needed, nor its imports, by most programs

    return cuda.render((), "strided", "") + (Path(__file__).parent / "strided.cu").read_text(encoding="utf-8")


class Strided:
    """The kernel of `strided.cu`, loaded."""

    def __init__(self, device: Cuda) -> None:
        self._device = device
        self._module = Module(device, strided_source())

    def contract(
        self, left: Array, right: Array | None, outer: int, storage: Storage, absent: int = 0, made: Array | None = None
    ) -> Array:
        """The products of two arrays of one shape (the left alone without a right one), summed in order over the axes
        from `outer` on, and rounded once; row-major. Of the left (-1) or the right one (1) a 0 may stand for no term.
        What is `made` already is summed where it is not finite."""
        shape = left.shape[:outer]
        wide = storage in ("f64", "i32", "bool")
        result: Array = self._device.allocate(shape, storage) if made is None else made
        points, terms = prod(shape), prod(left.shape[outer:])
        if points == 0:
            return result
        if left.ndim > AXES:
            raise ValueError(f"a contraction of {left.ndim} axes: at most {AXES}")

        def row(values: Sequence[int]) -> list[int]:
            return [*values, *[0] * (AXES - len(values))]

        def strides(array: Array) -> list[int]:
            return row([s // array.itemsize for s in array.strides])

        second = left if right is None else right
        types = [TYPES[storage_of(left)], -1 if right is None else TYPES[storage_of(second)], TYPES[storage]]
        places = [address(left), address(second), address(result)]
        words = [*places, *types, absent, int(made is not None), outer, left.ndim, points, terms]
        given = np.array([*words, *row(left.shape), *strides(left), *strides(second)], np.int64)
        name = "contract_f64" if wide else "contract_f32"
        launch = self._module.prepared(name, (-(-points // THREADS), 1, 1), (THREADS, 1, 1), 0, given.nbytes)
        launch(self._device.stream, given.tobytes())
        return result


def product(device: Cuda, step: Product, left: Named, right: Named, storage: Storage) -> Array:
    """The product's tensor in its storage type."""
    (a, a_names, _), (b, b_names, _) = left, right
    extents = operands.common(step, left[2], right[2])
    wanted = tuple(axis.name for axis in step.axes)
    batch, m, n, inner = operands.kinds(a_names, b_names, wanted)
    lone = {*a_names, *b_names} - {*batch, *m, *n, *inner}
    absent = step.absent

    def spread(*terms: str) -> tuple[Array, Array]:
        return _spread(a, a_names, terms, extents), _spread(b, b_names, terms, extents)

    if not (m and n and inner) or lone or not all(extents.values()):
        sides = spread(*wanted, *inner, *sorted(lone))
        made: Array = device.strided.contract(*sides, len(wanted), storage, absent)
    else:
        if wanted[-1] in m:  # the result's last axis then runs fastest in the matrix too
            a, a_names, m, b, b_names, n, absent = b, b_names, n, a, a_names, m, -absent
        kind = "bf16" if step.pairs else _multiplied(storage_of(a), storage_of(b), storage)
        parts = [[extents[name] for name in part] for part in (batch, m, n, inner)]
        size = [prod(part) for part in parts]
        x = _matrices(device, operands.ordered(a, a_names, (*batch, *m, *inner)), (size[0], size[1], size[3]), kind)
        y = _matrices(device, operands.ordered(b, b_names, (*batch, *inner, *n)), (size[0], size[3], size[2]), kind)
        made = cublaslt.multiply(device, x, y, "f32" if kind == "f32" else storage)
        made = device.converted(made, storage)
        if absent:
            device.strided.contract(*spread(*batch, *m, *n, *inner), len(wanted), storage, absent, made)
        made = made.reshape([extent for part in parts[:3] for extent in part])
        made = operands.ordered(made, (*batch, *m, *n), wanted)
    return device.addressable(device.reshaped(made, operands.grouped([extents[name] for name in wanted], step.groups)))


def _multiplied(a: Storage, b: Storage, result: Storage) -> Storage:
    """The element type in which cuBLASLt reads both operands."""
    if result == "f64":
        return "f64"
    return a if a == b and result in (a, "f32") else "f32"


def _spread(array: Array, names: tuple[str, ...], wanted: tuple[str, ...], extents: operands.Extents) -> Array:
    """The array with all the axes wanted: the same along those that it does not have."""
    own = operands.ordered(array, names, tuple(name for name in wanted if name in names))
    strides = iter(own.strides)
    shape = tuple(extents[name] for name in wanted)
    steps = tuple(next(strides) if name in names else 0 for name in wanted)
    return np.lib.stride_tricks.as_strided(own, shape, steps, subok=True)


def _matrices(device: Cuda, array: Array, shape: tuple[int, int, int], storage: Storage) -> Array:
    """A stack of matrices as cuBLASLt takes it: the array where it lies, or a copy."""
    made = device.reshaped(device.converted(array, storage), shape)
    return made if cublaslt.leading(made) is not None else device.copy(made)
