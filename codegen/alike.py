"""Loops that are the same but for the names in them: compiled once, and called with each kernel's own arguments."""

from __future__ import annotations

from dataclasses import replace

from irc.codegen.expr import Axis, Expr, Index, Load, Size, rebuild
from irc.codegen.kernel import Loop, LoopKernel, Target, Tensor


def nameless(kernel: LoopKernel) -> LoopKernel:
    """The kernel with numbers for names, in the order of its arguments: equal for those that do the same with them."""
    tensors = {tensor.name: f"tensor {n}" for n, tensor in enumerate(kernel.tensors)}
    sizes = {name: f"size {n}" for n, name in enumerate(kernel.sizes)}

    def renamed(loop: Loop) -> Loop:
        names = {axis.name: f"axis {n}" for n, axis in enumerate((*loop.axes, *loop.over))}

        def expr(e: Expr) -> Expr:
            return _renamed(e, tensors, sizes, names)

        def axes(given: tuple[Axis, ...]) -> tuple[Axis, ...]:
            return tuple(Axis(names[axis.name], expr(axis.size)) for axis in given)

        return replace(
            loop,
            axes=axes(loop.axes),
            over=axes(loop.over),
            body=expr(loop.body),
            where=None if loop.where is None else expr(loop.where),
            init=None if loop.init is None else expr(loop.init),
            target=Target(tensors[loop.target.tensor], tuple(expr(index) for index in loop.target.indices)),
            parallel=tuple(names[name] for name in loop.parallel),
        )

    def argument(tensor: Tensor) -> Tensor:
        cleared = tensor.shape is not None and tensor.name == kernel.zero
        shape = tuple(_renamed(e, tensors, sizes, {}) for e in tensor.shape or ()) if cleared else None
        return replace(tensor, name=tensors[tensor.name], shape=shape)

    return replace(
        kernel,
        name="",
        tensors=tuple(map(argument, kernel.tensors)),
        sizes=tuple(sizes.values()),
        loops=tuple(map(renamed, kernel.loops)),
        zero=None if kernel.zero is None else tensors[kernel.zero],
        source=(),
    )


def _renamed(expr: Expr, tensors: dict[str, str], sizes: dict[str, str], axes: dict[str, str]) -> Expr:
    def fn(part: Expr) -> Expr | None:
        match part:
            case Load(tensor, indices, kind):
                return Load(tensors[tensor], tuple(rebuild(index, fn) for index in indices), kind)
            case Index(name):
                return Index(axes[name])
            case Size(name):
                return Size(sizes[name])
            case _:
                return None

    return rebuild(expr, fn)
