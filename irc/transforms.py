"""Programs inside `torch.func.grad` and the like, which take functions of autograd, not operators."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from irc.operators import gradients, no_batch, no_gradients, setup_context, split

if TYPE_CHECKING:
    from irc.program import Program

torch: Any = sys.modules["torch"]


def called(program: Program, arrays: Mapping[str, Any]) -> tuple[Any, ...]:
    """The outputs of a call."""
    names, tensors, numbers = split(arrays)
    made = Forward.apply(program.handle, names, numbers, *tensors)
    return tuple(made[: len(program.returned)])


class Forward(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(program: str, names: Any, numbers: Any, *tensors: Any) -> Any:
        return tuple(torch.ops.irc.forward(program, names, list(tensors), True, numbers))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        program, names, numbers, *tensors = inputs
        setup_context(ctx, (program, names, tensors, True, numbers), output)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        return None, None, None, *gradients(ctx, cotangents, _backward)

    vmap = staticmethod(no_batch)


class Backward(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(program: str, names: Any, counts: Any, wanted: Any, numbers: Any, *tensors: Any) -> Any:
        rest = iter(tensors)
        lists = [list(islice(rest, count)) for count in counts]
        return tuple(torch.ops.irc.backward(program, names, *lists, wanted, numbers))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    backward, vmap = staticmethod(no_gradients), staticmethod(no_batch)


def _backward(program: str, names: Any, *given: Any) -> Any:
    *lists, wanted, numbers = given
    return Backward.apply(program, names, [len(part) for part in lists], wanted, numbers, *chain(*lists))
