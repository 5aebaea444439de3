"""PyTorch's autograd through a program: a call whose tensors require gradients gives tensors that have them.

The forward run of such a call keeps what `Run.backward` needs, and the graph of autograd holds it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from irc.compiled import arguments
from irc.error import Error, InputError

if TYPE_CHECKING:
    from irc.calls.program import Program

Made = TypeVar("Made", bound=Callable[..., Any])


def outside_graphs(function: Made) -> Made:
    """A function that `torch.compile` does not look into, and that says why where a graph may not break. These are the
    marks of `torch.compiler.disable`, without PyTorch."""
    why = "irc: program(...) is an operator of graphs; irc.compile, program.forward and derivatives by hand run outside"
    function.__dict__.update(_torchdynamo_disable=True, _torchdynamo_disable_msg=why)
    return function


def traced() -> bool:
    """Whether PyTorch wants the call as one operator: `torch.compile` or `torch.export` puts it into a graph, or a mode
    looks at each operator. Raises Error under `torch.jit.trace`, which would keep the results of this call alone."""
    compiler = sys.modules.get("torch.compiler")
    if compiler is None:
        return False
    if compiler.is_compiling():
        return True
    native: Any = sys.modules["torch._C"]
    if native._get_tracing_state() is not None:
        raise Error("torch.jit.trace takes no programs: torch.export and torch.compile do")
    return native._len_torch_dispatch_stack() > 0 and not transformed()


def transformed() -> bool:
    """Whether the call is inside `torch.func.grad` and the like, or `torch.autograd.forward_ad.dual_level()`."""
    if sys.modules["torch._C"]._are_functorch_transforms_active():
        return True
    return bool(sys.modules["torch.autograd.forward_ad"]._current_level >= 0)


def is_batched(value: Any) -> bool:
    """Whether the value is a tensor of PyTorch's older vmap, which `torch.autograd.functional` uses."""
    torch: Any = sys.modules["torch"]
    return isinstance(value, torch.Tensor) and bool(torch._C._functorch.is_legacy_batchedtensor(value))


def followed(arrays: Mapping[str, Any]) -> tuple[str, ...]:
    """Which arguments PyTorch differentiates: those that require gradients, outside of `torch.no_grad()`, and what
    may move in forward mode or be of a transform."""
    if "torch.compiler" not in sys.modules:
        return ()
    torch: Any = sys.modules["torch"]
    if transformed():
        found = [*arrays]
    else:
        found = [name for name, array in arrays.items() if getattr(array, "requires_grad", False)]
        if not (found and torch.is_grad_enabled()):
            return ()
    return tuple(name for name in found if isinstance(arrays[name], torch.Tensor))


def outputs(program: Program, arrays: Mapping[str, Any], names: tuple[str, ...], like: Any) -> tuple[Any, ...]:
    """The outputs of a call, which depend on the arguments of these names. `like`: an argument whose kind they take.

    Raises InputError where that is no tensor, and for a scalar among the names.
    """
    torch: Any = sys.modules["torch"]
    names = tuple(name for name in names if arrays[name].requires_grad or name in program.differentiated)
    check_gradients(program, names)
    if names and not isinstance(like, torch.Tensor):
        first = program.results_like or ""
        program.device.take(first, like, program.storages[first])  # names what is no array
        kind = type(like).__name__
        raise InputError(f"{names[0]}: requires a gradient, but results are {kind}, as the first floating argument is")
    if transformed():
        from irc.calls import transforms  # needs PyTorch

        found: tuple[Any, ...] = transforms.called(program, arrays)
        return found
    if torch._C._autograd._top_saved_tensors_default_hooks(True) is not None:
        from irc.calls import operators  # what they keep for the backward run is tensors, as checkpoints want it

        return operators.called(program, arrays)
    found = _function().apply(program, arrays, names, *(arrays[name] for name in names))
    return found


def check_gradients(program: Program, names: Collection[str]) -> None:
    """Raises InputError for a scalar among the arguments that autograd follows."""
    for node in arguments(program.graph):
        if node.name in names and node.role == "scalar":
            raise InputError(f"{node.name}: requires a gradient, which a `scalar` has not; a `param` has one")


def _forward(ctx: Any, program: Program, arrays: Mapping[str, Any], names: tuple[str, ...], *_: Any) -> Any:
    torch: Any = sys.modules["torch"]
    run = program.forward(**arrays)
    given = tuple(o.detach() for o in run.outputs.values())  # not those of the run: ctx, which they hold, holds the run
    ctx.program, ctx.arrays, ctx.run, ctx.names = program, arrays, run, names
    read = [array for array in arrays.values() if isinstance(array, torch.Tensor)]
    ctx.save_for_backward(*read, *given)  # read again: torch notices where one has been changed meanwhile
    ctx.mark_non_differentiable(*(o for o in given if not o.is_floating_point()))
    ctx.set_materialize_grads(False)
    return given


def _backward(ctx: Any, *cotangents: Any) -> Any:
    _ = ctx.saved_tensors
    if sys.modules["torch"].is_grad_enabled() or transformed() or any(map(is_batched, cotangents)):
        from irc.calls import transforms  # whose gradients have derivatives

        return None, None, None, *transforms.followed_gradients(ctx.program, ctx.arrays, ctx.names, cotangents)
    given = {name: c for name, c in zip(ctx.run.outputs, cotangents, strict=True) if c is not None}
    gradients = ctx.run.backward(**given)
    return None, None, None, *(gradients.get(name) for name in ctx.names)


@cache
def _function() -> Any:
    torch: Any = sys.modules["torch"]
    made = {"forward": staticmethod(_forward), "backward": staticmethod(_backward)}
    return type("Attention", (torch.autograd.Function,), made)
