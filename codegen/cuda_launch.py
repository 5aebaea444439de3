"""Device functions as data: what a launch needs, and what every one is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from irc.codegen.cpu import STORAGE
from irc.codegen.expr import Axis, Expr, integer, op
from irc.codegen.kernel import (
    Kernel,
)
from irc.codegen.printer import pointer_name, size_name, stride_name
from irc.codegen.render import environment


@dataclass(frozen=True, slots=True)
class Launch:
    """A device function of a kernel, and how it is launched: one block of `threads` for each of `tasks` // `share`,
    rounded up."""

    name: str
    tasks: Expr
    share: int
    threads: int
    shared_bytes: int
    text: str


def members(kernel: Kernel) -> tuple[tuple[str, str], ...]:
    """(type, name) of what a launch is given, eight bytes each: of every tensor its pointer and strides, then sizes."""
    found = []
    for tensor in kernel.tensors:
        const = "" if tensor.written else "const "
        found.append((f"{const}{STORAGE[tensor.storage]} *", pointer_name(tensor.name)))
        found += [("int64_t ", stride_name(tensor.name, d)) for d in range(tensor.rank)]
    return (*found, *(("int64_t ", size_name(s)) for s in kernel.sizes))


def rendered(template: str, **context: object) -> str:
    """A template of one device function, filled in."""
    return environment().get_template(f"cuda/{template}.cu.j2").render(**context)


def product(axes: Sequence[Axis]) -> Expr:
    """How many points the axes have."""
    size: Expr = integer(1)
    for axis in axes:
        size = op("mul", size, axis.size)
    return size
