"""Matrix products on this machine, by one compiled function for operands of any type and layout.

It is the same for all programs, so it is compiled once and kept in the cache. Sums are in f32 (of f64 in f64) and
rounded once; of two operands in bf16 the processor multiplies pairs where it can. No bit depends on the number of
threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from irc.codegen.kernel import Storage
from irc.codegen.render import render_products
from irc.runtime import machine, toolchain
from irc.runtime.arrays import DTYPE, Array, address
from irc.runtime.memory import allocate
from irc.runtime.operands import Extents, common, grouped, kinds, reader
from irc.runtime.plan import Product

STORAGES: tuple[Storage, ...] = ("f32", "f64", "bf16", "f16")
TYPES = {DTYPE[storage]: number for number, storage in enumerate(STORAGES)}  # Type of products.h


def multiplier(step: Product, sizes: Mapping[str, int], storage: Storage) -> Callable[[Array, Array], Array]:
    """A function of the operands: the product's tensor in its storage type, row-major. Raises ToolchainError without a
    compiler."""
    left, right = reader(step.left, sizes), reader(step.right, sizes)
    run = _function(toolchain.find())

    def multiply(a: Array, b: Array) -> Array:
        return _product(run, step, left(a), right(b), storage)

    return multiply


Named = tuple[Array, tuple[str, ...], Extents]


def _product(run: Any, step: Product, left: Named, right: Named, storage: Storage) -> Array:
    extents, wanted = common(step, left[2], right[2]), tuple(axis.name for axis in step.axes)
    absent = step.absent
    if wanted and wanted[-1] in left[1]:  # vectors run along the result's last axis
        left, right, absent = right, left, -absent
    shape = [extents[name] for name in wanted]
    result = allocate(tuple(grouped(shape, step.groups)), storage)
    tensors = [result, *(_taken(operand[0], storage) for operand in (left, right))]
    batch, rows, columns, _ = kinds(left[1], right[1], wanted)
    parts = batch, rows, columns, [name for name in extents if name not in wanted]
    strides = [
        {name: stride // array.itemsize for name, stride in zip(names, array.strides, strict=True)}
        for array, names in ((tensors[1], left[1]), (tensors[2], right[1]), (result.reshape(shape), wanted))
    ]
    numbers = [n for part in parts for name in part for n in (extents[name], *(s.get(name, 0) for s in strides))]
    run(
        (ctypes.c_void_p * 3)(*map(address, tensors)),
        (ctypes.c_int * 3)(*(TYPES[tensor.dtype] for tensor in tensors)),
        (ctypes.c_int64 * max(1, len(numbers)))(*numbers),
        (ctypes.c_int * 4)(*map(len, parts)),
        step.pairs,
        absent,
        machine.threads(),
    )
    return result


def _taken(array: Array, storage: Storage) -> Array:
    """The array in a type that products for a result in this storage take."""
    wide = np.dtype(np.float64)
    taken = {wide} if storage == "f64" else TYPES.keys() - {wide}
    return array if array.dtype in taken else array.astype(wide if storage == "f64" else np.float32)


@lru_cache(maxsize=8)
def _function(tools: toolchain.Toolchain) -> Any:
    function = ctypes.CDLL(str(toolchain.library(render_products(), tools))).irc_product
    function.restype = None
    return function
