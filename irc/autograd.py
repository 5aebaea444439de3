"""PyTorch's autograd through a program: a call whose tensors require gradients gives tensors that have them.

The forward run of such a call keeps what `Run.backward` needs, and the graph of autograd holds it.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from irc.compiled import arguments
from irc.error import InputError

if TYPE_CHECKING:
    from irc.program import Program


def compiling() -> bool:
    """Whether `torch.compile` or `torch.export` is tracing the call."""
    compiler = sys.modules.get("torch.compiler")
    return compiler is not None and compiler.is_compiling()


def transformed() -> bool:
    """Whether the call is inside `torch.func.grad` and the like."""
    return bool(sys.modules["torch"]._C._are_functorch_transforms_active())


def followed(arrays: Mapping[str, Any]) -> tuple[str, ...]:
    """Which arguments autograd follows, outside of `torch.no_grad()`."""
    found = [name for name, array in arrays.items() if getattr(array, "requires_grad", False)]
    torch = sys.modules.get("torch") if found else None
    if torch is None or not torch.is_grad_enabled():
        return ()
    return tuple(name for name in found if isinstance(arrays[name], torch.Tensor))


def outputs(program: Program, arrays: Mapping[str, Any], names: tuple[str, ...], like: Any) -> tuple[Any, ...]:
    """The outputs of a call, which depend on the arguments of these names. `like`: an argument whose kind they take.

    Raises InputError where that is no tensor, and for a scalar among the names.
    """
    torch: Any = sys.modules["torch"]
    check_gradients(program, names)
    if not isinstance(like, torch.Tensor):
        kind = type(like).__name__
        raise InputError(f"{names[0]}: requires a gradient, but results are {kind}, as the first floating argument is")
    if transformed():
        from irc import transforms  # needs PyTorch

        return transforms.called(program, arrays)
    found: tuple[Any, ...] = _function().apply(program, arrays, names, *(arrays[name] for name in names))
    return found


def check_gradients(program: Program, names: Collection[str]) -> None:
    """Raises InputError for a scalar among the arguments that autograd follows."""
    for node in arguments(program.graph):
        if node.name in names and node.role == "scalar":
            raise InputError(f"{node.name}: requires a gradient, which a `scalar` has not; a `param` has one")


def _forward(ctx: Any, program: Program, arrays: Mapping[str, Any], names: tuple[str, ...], *tensors: Any) -> Any:
    run = program.forward(**arrays)
    given = tuple(o.detach() for o in run.outputs.values())  # not those of the run: ctx, which they hold, holds the run
    ctx.run, ctx.names = run, names
    ctx.save_for_backward(*tensors, *given)  # read again: torch notices where one has been changed meanwhile
    ctx.mark_non_differentiable(*(o for o in given if not o.is_floating_point()))
    ctx.set_materialize_grads(False)
    return given


def _backward(ctx: Any, *cotangents: Any) -> Any:
    _ = ctx.saved_tensors
    given = {name: c for name, c in zip(ctx.run.outputs, cotangents, strict=True) if c is not None}
    gradients = ctx.run.backward(**given)
    return None, None, None, *(gradients.get(name) for name in ctx.names)


@cache
def _function() -> Any:
    torch: Any = sys.modules["torch"]
    once = torch.autograd.function.once_differentiable
    made = {"forward": staticmethod(_forward), "backward": staticmethod(once(_backward))}
    return type("Attention", (torch.autograd.Function,), made)
