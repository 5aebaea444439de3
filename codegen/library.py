"""A whole program as C functions, as data: one entry for forward, one for backward.

An entry checks its arguments, then does the steps of a plan in order, on tensors in the caller's memory.
`irc/export/entries.py` makes entries from plans; `entries.py` here prints them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from irc.codegen.expr import Axis, Expr
from irc.codegen.kernel import Arithmetic, Kernel, Storage


@dataclass(frozen=True, slots=True)
class Argument:
    """A tensor of the caller's, C-contiguous; a `value` is a number passed as such. `needed`: some step uses it."""

    name: str
    storage: Storage
    shape: tuple[Expr, ...]
    use: Literal["read", "written", "value"]
    needed: bool


@dataclass(frozen=True, slots=True)
class Buffer:
    """A tensor that an entry makes for itself, in use from one step to another, both included."""

    name: str
    storage: Storage
    shape: tuple[Expr, ...]
    first: int = 0
    last: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies: in memory of an argument or a buffer, with a layout in elements."""

    tensor: str  # the argument's name, or the buffer's
    storage: Storage
    offset: Expr
    strides: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Clear:
    """Zeros in a whole contiguous tensor."""

    target: Place
    shape: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Invoke:
    """The kernel, on tensors in the order of its declaration."""

    kernel: Kernel
    tensors: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class ProductAxis:
    """An index of a product: its extent, and its stride in the operands and in the result."""

    extent: Expr
    left: Expr
    right: Expr
    result: Expr


@dataclass(frozen=True, slots=True)
class Multiply:
    """result = sum over `inner` of left * right. `rows` are indices of the left operand alone, `columns`
    of the right. `pairs`: numbers may be rounded to bf16. `absent`: as in the plan's products."""

    result: Place
    left: Place
    right: Place
    batch: tuple[ProductAxis, ...]
    rows: tuple[ProductAxis, ...]
    columns: tuple[ProductAxis, ...]
    inner: tuple[ProductAxis, ...]
    pairs: bool
    absent: int


@dataclass(frozen=True, slots=True)
class AddChunks:
    """result = the sum of the source over its first axis, of so many chunks; `shape` is the result's."""

    result: Place
    source: Place
    chunks: Expr
    shape: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    target: Place
    source: Place
    shape: tuple[Expr, ...]


Statement = Clear | Invoke | Multiply | AddChunks | Copy


@dataclass(frozen=True, slots=True)
class Check:
    """What must hold at every point of the axes; `text` says what is wrong where it does not."""

    axes: tuple[Axis, ...]
    predicate: Expr
    text: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One function of the library: `what` is forward or backward."""

    what: Literal["forward", "backward"]
    arguments: tuple[Argument, ...]
    buffers: tuple[Buffer, ...]
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Library:
    """A program for C. `sizes` are those that a caller gives, `checks` what must hold of them and of the inputs."""

    name: str
    dtype: str
    sizes: tuple[str, ...]
    fixed: tuple[tuple[str, int], ...]
    arithmetic: Arithmetic
    inputs: tuple[Argument, ...]
    size_checks: tuple[Check, ...]
    input_checks: tuple[Check, ...]
    saved: tuple[Buffer, ...]
    entries: tuple[Entry, ...]
