"""Programs and their derivatives as functions of PyTorch's autograd, for what its own call of a program leaves out:
`torch.func`'s transforms, forward mode, and gradients of gradients.

Gradients have derivatives: products with the Hessian, and tangents. These have none. Under `vmap` each function runs
once for every entry of the batch.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from irc.calls.handles import found
from irc.calls.operators import by_entry, given, gradients, moving, present, setup_context, split
from irc.error import Error

if TYPE_CHECKING:
    from irc.calls.program import Program

torch: Any = sys.modules["torch"]
Named = Mapping[str, Any]


def called(program: Program, arrays: Named) -> tuple[Any, ...]:
    """The outputs of a call."""
    names, tensors, numbers = split(arrays)
    made = Forward.apply(program.handle, names, numbers, *tensors)
    return tuple(made[: len(program.returned)])


def backward(program: str, names: Any, *given: Any) -> tuple[Any, ...]:
    """As `irc::backward`."""
    *lists, wanted, numbers = given
    counts = [len(part) for part in lists]
    made: tuple[Any, ...] = Backward.apply(program, names, counts, wanted, numbers, *chain(*lists))
    return made


def followed_gradients(program: Program, arrays: Named, followed: Sequence[str], cotangents: Any) -> list[Any]:
    """Of the arguments that autograd follows; they have gradients too."""
    names, tensors, numbers = split(arrays)
    wanted = [name for name in followed if name in program.differentiated]
    made = backward(program.handle, names, tensors, (), cotangents, wanted, numbers)
    return [dict(zip(wanted, made, strict=True)).get(name) for name in followed]


def tangents(program: str, arrays: Named, moved: Named) -> dict[str, Any]:
    """Of the outputs, by name."""
    names, tensors, numbers = split(arrays)
    made = Tangents.apply(program, names, numbers, [*moved], *tensors, *moved.values()) if moved else ()
    return dict(zip(moving(found(program)), made, strict=False))


def products(program: str, arrays: Named, moved: Named, cotangents: Named) -> dict[str, Any]:
    """Of the Hessian with what is moved, by argument."""
    if not moved or not cotangents:
        return {}
    names, tensors, numbers = split(arrays)
    lists = [*moved], [*cotangents]
    made = Products.apply(program, names, numbers, *lists, *tensors, *moved.values(), *cotangents.values())
    return dict(zip(sorted(found(program).differentiated), made, strict=True))


def _kept(ctx: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments and the cotangents of a backward run, by name."""
    tensors, _, cotangents = _lists((ctx.counts[0], 0, ctx.counts[2]), ctx.saved_tensors)
    return given(ctx.names, tensors, ctx.numbers), present(found(ctx.program).returned, cotangents)


class Function(torch.autograd.Function):  # type: ignore[misc]
    """Where `torch.compile` has given up a graph, it looks into no part of one."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        raise Error("gradients of a program can be differentiated once: third derivatives do not pass through it")

    jvp = backward

    def __init_subclass__(cls) -> None:
        def vmap(info: Any, dims: Any, *given: Any) -> tuple[Any, int]:
            """Entry by entry."""
            return tuple(by_entry(cls.apply, info.batch_size, dims, given)), 0

        cls.vmap = staticmethod(vmap)
        for name in ("forward", "setup_context", "backward", "jvp", "vmap"):
            setattr(cls, name, staticmethod(torch.compiler.disable(getattr(cls, name))))


class Forward(Function):
    @staticmethod
    def forward(program: str, names: Any, numbers: Any, *tensors: Any) -> Any:
        return tuple(torch.ops.irc.forward(program, names, list(tensors), True, numbers))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        program, names, numbers, *tensors = inputs
        setup_context(ctx, (program, names, tensors, True, numbers), output)
        ctx.save_for_forward(*tensors)
        ctx.results = len(output)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        return None, None, None, *gradients(ctx, cotangents, backward)

    @staticmethod
    def jvp(ctx: Any, *moved: Any) -> Any:
        arrays = given(ctx.names, ctx.saved_tensors, ctx.numbers)
        made = tangents(ctx.program, arrays, present(ctx.names, moved[3:]))
        of_outputs = [made.get(name) for name in found(ctx.program).returned]
        return *of_outputs, *[None] * (ctx.results - len(of_outputs))


class Backward(Function):
    @staticmethod
    def forward(program: str, names: Any, counts: Any, wanted: Any, numbers: Any, *tensors: Any) -> Any:
        return tuple(torch.ops.irc.backward(program, names, *_lists(counts, tensors), wanted, numbers))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.program, ctx.names, ctx.counts, ctx.wanted, ctx.numbers, *given = inputs
        tensors, _, cotangents = _lists(ctx.counts, given)
        ctx.save_for_backward(*tensors, *cotangents)
        ctx.save_for_forward(*tensors, *cotangents)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *vectors: Any) -> Any:
        arrays, cotangents = _kept(ctx)
        along = present(ctx.wanted, vectors)
        of_arrays = products(ctx.program, arrays, along, cotangents)
        wanted = {name for name, cotangent in cotangents.items() if cotangent.requires_grad}
        moved = tangents(ctx.program, arrays, along) if wanted else {}
        of_tensors = [of_arrays.get(name) for name in ctx.names[: ctx.counts[0]]]
        of_cotangents = [moved.get(name) if name in wanted else None for name in found(ctx.program).returned]
        return *[None] * 5, *of_tensors, *[None] * ctx.counts[1], *of_cotangents

    @staticmethod
    def jvp(ctx: Any, *moved: Any) -> Any:
        of_tensors, _, of_cotangents = _lists(ctx.counts, moved[5:])
        arrays, cotangents = _kept(ctx)
        made = products(ctx.program, arrays, present(ctx.names, of_tensors), cotangents)
        if any(c is not None for c in of_cotangents):
            names, tensors, numbers = split(arrays)
            more = backward(ctx.program, names, tensors, (), of_cotangents, ctx.wanted, numbers)
            return tuple(made[n] + m if n in made else m for n, m in zip(ctx.wanted, more, strict=True))
        return tuple(made.get(name) for name in ctx.wanted)


class Tangents(Function):
    @staticmethod
    def forward(program: str, names: Any, numbers: Any, moved: Any, *tensors: Any) -> Any:
        own, along = _lists((len(tensors) - len(moved), len(moved)), tensors)
        return tuple(torch.ops.irc.jvp(program, names, own, moved, along, numbers))


class Products(Function):
    @staticmethod
    def forward(program: str, names: Any, numbers: Any, moved: Any, held: Any, *tensors: Any) -> Any:
        counts = len(tensors) - len(moved) - len(held), len(moved), len(held)
        own, along, cotangents = _lists(counts, tensors)
        fixed = [dict(zip(held, cotangents, strict=True)).get(name) for name in found(program).returned]
        return tuple(torch.ops.irc.hvp(program, names, own, moved, along, fixed, numbers))


def _lists(counts: Sequence[int], tensors: Sequence[Any]) -> list[list[Any]]:
    rest = iter(tensors)
    return [list(islice(rest, count)) for count in counts]
