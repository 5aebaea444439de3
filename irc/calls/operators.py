"""Programs as operators of PyTorch: what `torch.compile` and `torch.export` put into their graphs for a call.

`irc::forward` gives outputs and, with `keep`, what `irc::backward` needs beside them; `irc::jvp` and `irc::hvp` give
what `Program.jvp` and `Program.hvp` do, in graphs that `make_fx` makes of derivatives. Tensors that they give are
row-major and in memory of their own, since graphs write to such tensors. Imported by calls that are traced, and not
before: it needs PyTorch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import compress
from math import prod
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from irc.calls.autograd import check_gradients, is_batched, transformed
from irc.calls.carried import carried, outputs
from irc.calls.handles import found
from irc.codegen.expr import Kind
from irc.codegen.kernel import Storage
from irc.error import Error, InputError
from irc.graph.ir import kind
from irc.runtime.arrays import check_element_type, name_of, take

if TYPE_CHECKING:
    from irc.calls.program import Program

torch: Any = sys.modules["torch"]
pytree: Any = torch.utils._pytree

CALL = "str program, str[] names, Tensor[] tensors"  # names: of the tensors, and then of the numbers
SCHEMAS = {
    "forward": f"({CALL}, bool keep, Scalar[]? numbers) -> Tensor[]",
    "backward": f"({CALL}, Tensor[] made, Tensor?[] cotangents, str[] wanted, Scalar[]? numbers) -> Tensor[]",
    "jvp": f"({CALL}, str[] along, Tensor[] tangents, Scalar[]? numbers) -> Tensor[]",
    "hvp": f"({CALL}, str[] along, Tensor[] vectors, Tensor?[] cotangents, Scalar[]? numbers) -> Tensor[]",
}
STRIDES = getattr(torch.Tag, "needs_exact_strides", torch.Tag.needs_fixed_stride_order)  # by the version of PyTorch
TAGS = (torch.Tag.pt2_compliant_tag, STRIDES)  # kernels read any strides, and bits may depend on them
ELEMENT_TYPES = {
    "f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "f16": torch.float16, "i8": torch.int8,
    "i16": torch.int16, "i32": torch.int32, "i64": torch.int64, "u8": torch.uint8, "u16": torch.uint16,
    "u32": torch.uint32, "u64": torch.uint64, "bool": torch.bool,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in ELEMENT_TYPES.items()}


def called(program: Program, arrays: Mapping[str, Any]) -> tuple[Any, ...]:
    """The outputs of a call that is traced. dynamo reads this, so it holds no more than dynamo knows."""
    if transformed():
        raise Error("torch.func's transforms do not pass through a program that is compiled: call it outside of them")
    names, tensors, numbers = split(arrays)
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    made = torch.ops.irc.forward(program.handle, names, tensors, keep, numbers)
    return tuple(made[: len(program.returned)])


def split(arrays: Mapping[str, Any]) -> tuple[list[str], list[Any], list[Any] | None]:
    """The arguments of a call as the operators take them: names, tensors, numbers. Raises InputError for others."""
    tensors, numbers = {}, {}
    for name, value in arrays.items():
        if isinstance(value, torch.Tensor):
            tensors[name] = value
        elif isinstance(value, np.ndarray):
            tensors[name] = torch.as_tensor(value)
        elif isinstance(value, bool | int | float | np.generic):
            numbers[name] = value.item() if isinstance(value, np.generic) else value
        else:
            raise InputError(f"{name}: expected a tensor or a number in compiled code, got {type(value).__name__}")
    return [*tensors, *numbers], [*tensors.values()], [*numbers.values()] or None


def given(names: Sequence[str], tensors: Sequence[Any], numbers: Sequence[Any] | None) -> dict[str, Any]:
    """The arguments of a call, by name."""
    return dict(zip(names, (*tensors, *(numbers or ())), strict=True))


def present(names: Iterable[str], values: Sequence[Any]) -> dict[str, Any]:
    """Those that there are, by name."""
    return {name: value for name, value in zip(names, values, strict=False) if value is not None}


def moving(program: Program) -> list[str]:
    """The outputs that have tangents: what `irc::jvp` gives."""
    return [name for name, node in program.returned.items() if kind(program.graph[node]) is Kind.FLOAT]


# what runs


def _forward(program: str, names: Any, tensors: Any, keep: bool, numbers: Any) -> list[Any]:
    return _apart(found(program).carried(given(names, tensors, numbers), keep), tensors)


def _backward(
    program: str, names: Any, tensors: Any, made: Any, cotangents: Any, wanted: Any, numbers: Any
) -> list[Any]:
    called = found(program)
    run = called.resumed(given(names, tensors, numbers), made)
    taken = present(called.returned, cotangents)
    gradients = run.backward(**taken)
    return _apart([gradients[name] for name in wanted], (*tensors, *made, *taken.values()))


def _jvp(program: str, names: Any, tensors: Any, along: Any, tangents: Any, numbers: Any) -> list[Any]:
    called = found(program)
    made = called.jvp(given(names, tensors, numbers), dict(zip(along, tangents, strict=True)))[1]
    return _apart([made[name] for name in moving(called)], (*tensors, *tangents))


def _hvp(program: str, names: Any, tensors: Any, along: Any, vectors: Any, cotangents: Any, numbers: Any) -> list[Any]:
    called = found(program)
    taken = present(called.returned, cotangents)
    made = called.hvp(given(names, tensors, numbers), dict(zip(along, vectors, strict=True)), taken)
    return _apart([made[name] for name in sorted(called.differentiated)], (*tensors, *vectors, *taken.values()))


def _apart(made: Sequence[Any], given: Sequence[Any]) -> list[Any]:
    """The tensors, copied where they are not row-major, or in memory that something given or another of them has."""
    taken, apart = [_memory(tensor) for tensor in given], []
    for tensor in made:
        begin, end = _memory(tensor)
        if not tensor.is_contiguous() or any(begin < e and b < end for b, e in taken):
            apart.append(tensor.clone(memory_format=torch.contiguous_format))
        else:
            apart.append(tensor)
            taken.append((begin, end))
    return apart


def _memory(tensor: Any) -> tuple[int, int]:
    memory = tensor.untyped_storage()
    begin = memory.data_ptr()
    return begin, begin + memory.nbytes()


# what a trace knows of it


def _traced_forward(program: str, names: Any, tensors: Any, keep: bool, numbers: Any) -> list[Any]:
    """Raises InputError as a call does, but for what depends on entries. Compiles where feature sizes are new."""
    called, arrays = found(program), given(names, tensors, numbers)
    called.check_names(arrays)
    for name, storage in called.storages.items():
        _check(name, arrays[name], storage)
    sizes = called.sizes_of({name: tuple(getattr(value, "shape", ())) for name, value in arrays.items()})
    sizes |= {name: int(sizes[name]) for name in called.features}  # kernels hold these as constants
    built = called.built(sizes)
    made = [(tensor.shape, tensor.dtype) for tensor in outputs(called.graph, built, sizes)]
    if keep:
        made += [((prod(tensor.shape),), tensor.dtype) for tensor in carried(called.graph, built, sizes)]
    like = called.like(arrays)
    if like is None:
        raise InputError(f"{called.graph.name}: no argument is a floating tensor, so that results are numpy's arrays")
    return [like.new_empty(shape, dtype=ELEMENT_TYPES[name_of(dtype)]) for shape, dtype in made]


def _check(name: str, value: Any, storage: Storage) -> None:
    if isinstance(value, torch.Tensor):
        check_element_type(name, NAMES.get(value.dtype, str(value.dtype)), storage, value.ndim)
    elif isinstance(value, bool | int | float):  # no symbol
        take(name, value, storage)


def _traced_backward(
    program: str, names: Any, tensors: Any, made: Any, cotangents: Any, wanted: Any, numbers: Any
) -> list[Any]:
    arrays = given(names, tensors, numbers)
    return [torch.empty_like(arrays[name], memory_format=torch.contiguous_format) for name in wanted]


def _traced_jvp(program: str, names: Any, tensors: Any, along: Any, tangents: Any, numbers: Any) -> list[Any]:
    called = found(program)
    outputs = dict(zip(called.returned, _traced_forward(program, names, tensors, False, numbers), strict=True))
    return [outputs[name] for name in moving(called)]


def _traced_hvp(
    program: str, names: Any, tensors: Any, along: Any, vectors: Any, cotangents: Any, numbers: Any
) -> list[Any]:
    return _traced_backward(program, names, tensors, (), cotangents, sorted(found(program).differentiated), numbers)


# autograd


def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.program, ctx.names, tensors, _, ctx.numbers = inputs
    program, ctx.count = found(ctx.program), len(tensors)
    followed = [name for name, tensor in zip(ctx.names, tensors, strict=False) if tensor.requires_grad]
    check_gradients(program, followed)
    ctx.wanted = [name for name in followed if name in program.differentiated]
    ctx.outputs = len(program.returned)
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(*output[ctx.outputs :], *(o for o in output if not o.is_floating_point()))
    ctx.set_materialize_grads(False)


def gradients(ctx: Any, cotangents: Sequence[Any], backward: Callable[..., Any]) -> list[Any]:
    """Of each tensor of the call; None where none is wanted. backward: takes and gives what `irc::backward` does."""
    saved, count = list(ctx.saved_tensors), ctx.count
    run = saved[:count], saved[count:], [*cotangents[: ctx.outputs]], ctx.wanted, ctx.numbers
    made = dict(zip(ctx.wanted, backward(ctx.program, ctx.names, *run), strict=True))
    return [made.get(name) for name in ctx.names[:count]]


def _gradients(ctx: Any, cotangents: Any) -> Any:
    backward = torch.ops.irc.backward
    if torch.is_grad_enabled() or any(map(is_batched, cotangents)):
        from irc.calls.transforms import backward  # whose results have gradients; it imports this file
    return None, None, gradients(ctx, cotangents, backward), None, None


def no_gradients(*_: Any) -> NoReturn:
    raise Error("gradients of derivatives do not pass through irc's operators: they do through program(...)")


def by_entry(call: Callable[..., Any], size: int, dims: Any, given: Any) -> list[Any]:
    """The results of each entry of a batch, side by side. dims: of the arguments, those along which entries lie.

    Of no entries the results of one of zeros tell the shapes.
    """
    leaves, tree = pytree.tree_flatten(given)
    along = {n: d for n, d in enumerate(pytree.tree_flatten(dims)[0]) if d is not None}
    if size:
        entries = {n: leaves[n].unbind(d) for n, d in along.items()}
    else:
        entries = {n: [leaves[n].sum(d, dtype=leaves[n].dtype)] for n, d in along.items()}
    made = []
    for entry in range(size or 1):
        taken = [entries[n][entry] if n in entries else x for n, x in enumerate(leaves)]
        made.append(call(*pytree.tree_unflatten(taken, tree)))
    return [torch.stack(tensors)[:size] for tensors in zip(*made, strict=True)]


def _batches(operator: Any) -> Callable[..., Any]:
    def vmap(info: Any, dims: Any, *given: Any) -> tuple[list[Any], list[int]]:
        made = by_entry(operator, info.batch_size, dims, given)
        return made, [0] * len(made)

    return vmap


def _looped(operator: Any) -> Callable[..., Any]:
    def older(*given: Any) -> list[Any]:
        """Under PyTorch's older vmap, which `is_grads_batched` and `torch.autograd.functional` use."""
        leaves, tree = pytree.tree_flatten(given)
        batched = [is_batched(x) for x in leaves]
        level = torch._C._vmapmode_decrement_nesting() + 1  # entries are outside of it
        try:
            size = max(torch._remove_batch_dim(x, level, 1, 0).shape[0] for x in compress(leaves, batched))
            plain = [
                torch._remove_batch_dim(x, level, size, 0) if b else x for x, b in zip(leaves, batched, strict=True)
            ]
            places = [0 if b else None for b in batched]
            made = by_entry(operator, size, places, pytree.tree_unflatten(plain, tree))
        finally:
            torch._C._vmapmode_increment_nesting()
        return [torch._add_batch_dim(tensor, 0, level) for tensor in made]

    return older


def _register() -> Any:
    library = torch.library.Library("irc", "DEF")
    runs = {
        "forward": (_forward, _traced_forward), "backward": (_backward, _traced_backward),
        "jvp": (_jvp, _traced_jvp), "hvp": (_hvp, _traced_hvp),
    }  # fmt: skip
    for name, (run, traced) in runs.items():
        library.define(name + SCHEMAS[name], tags=TAGS)
        library.impl(name, run, "CompositeExplicitAutograd")
        torch.library.register_fake(f"irc::{name}", traced, lib=library)
        library.impl(name, _looped(getattr(torch.ops.irc, name)), "Batched")
        torch.library.register_vmap(f"irc::{name}", _batches(getattr(torch.ops.irc, name)), lib=library)
    torch.library.register_autograd("irc::forward", _gradients, setup_context=setup_context, lib=library)
    for name in ("backward", "jvp", "hvp"):
        torch.library.register_autograd(f"irc::{name}", no_gradients, lib=library)
    return library


LIBRARY = _register()  # what it defines goes with it
