"""A compiled program as data: tensors, and the steps that fill them in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from irc.codegen.expr import Axis, Expr
from irc.codegen.kernel import Storage

TensorRole = Literal["input", "param", "const", "scalar", "saved", "cotangent", "tangent", "temporary"]


@dataclass(frozen=True, slots=True)
class PlanTensor:
    """A tensor of the plan; `shape` are integer expressions over sizes (and CHUNKS of copies, one a chunk)."""

    name: str
    role: TensorRole
    storage: Storage
    shape: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Allocate:
    """A new uninitialised contiguous tensor; `zero` clears it. `order`: its dimensions from the slowest to the fastest
    in memory, where that is not the order in which they are declared."""

    tensor: str
    zero: bool = False
    order: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """Run the kernel with the tensors and sizes that its own declaration lists."""

    kernel: str


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor read with one group of axes a dimension: x[b, s, (h d)] is ((b,), (s,), (h, d)); an int selects."""

    tensor: str
    dims: tuple[tuple[Axis, ...] | int, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """result[axes] = sum over the other axes of left * right. `groups` merges axes into dimensions. `pairs`: what is
    multiplied may be rounded to bf16, as in products of kernels. `absent`: of the left operand (-1) or the
    right one (1) a 0 stands for no term, whatever the other one holds there."""

    result: str
    axes: tuple[Axis, ...]
    groups: tuple[int, ...]
    left: Operand
    right: Operand
    pairs: bool = False
    absent: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """result[axes] is the operand itself with its axes named, selected and permuted: no copy. Kernels may write it."""

    result: str
    axes: tuple[Axis, ...]
    operand: Operand


@dataclass(frozen=True, slots=True)
class SumChunks:
    """result = source summed over its first axis, in order."""

    result: str
    source: str


@dataclass(frozen=True, slots=True)
class Release:
    """The tensor is not needed any more."""

    tensor: str


Step = Allocate | Call | Product | View | SumChunks | Release


@dataclass(frozen=True, slots=True)
class Plan:
    """`outputs`: (public name, tensor). `saved`: tensors kept for the backward plan.

    `kept`: tensors that a forward run keeps too if it is told so, and that a backward run then takes; it does not
    compute those named in `again`. A run may release, and write over, arguments that are its own: see execute.py."""

    tensors: tuple[PlanTensor, ...]
    steps: tuple[Step, ...]
    outputs: tuple[tuple[str, str], ...]
    saved: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
