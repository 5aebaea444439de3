"""Device functions as data: what a launch needs, and what every one is given."""

from __future__ import annotations

from dataclasses import dataclass

from irc.codegen.cpu import ARITHMETIC, STORAGE
from irc.codegen.expr import Expr
from irc.codegen.kernel import Kernel
from irc.codegen.names import pointer_name, size_name, stride_name

LEAST = "sm_80"  # architecture
SHARED_KIB = {80: 163, 87: 163, 90: 227, 100: 227, 103: 227}  # of a block at most, by architecture
SHARED_KIB_ELSEWHERE = 99
FLAGS = ("-std=c++17", "--expt-relaxed-constexpr")  # for nvcc
REGISTERS = 128  # of a thread, where nothing says otherwise
NUMBER = {"f32": 4, "f64": 8}  # bytes, by arithmetic
WORKSPACE = ("unsigned char *", "workspace")


def number(architecture: str) -> int:
    """80 of sm_80, 90 of sm_90a."""
    return int(architecture.strip("sm_af"))


def most_shared(architecture: str) -> int:
    """Bytes of shared memory that a block may have."""
    return SHARED_KIB.get(number(architecture), SHARED_KIB_ELSEWHERE) << 10


@dataclass(frozen=True, slots=True)
class Box:
    """What one bulk copy moves of a tensor, whose directions are `dims`, the contiguous one first: so many elements of
    the first two, which have `extents`, and one of each other. `swizzle` in bytes."""

    tensor: str
    dims: tuple[int, ...]
    extents: tuple[Expr, Expr]
    elements: tuple[int, int]
    swizzle: int


@dataclass(frozen=True, slots=True)
class Launch:
    """A device function of a kernel, and how it is launched: one block of `threads` for each of `tasks` // `share`,
    rounded up. A thread has `registers` at most.

    `boxes`: those of the tensor maps that it is given before everything else; it then runs in no more blocks than there
    are processors, and where sizes are not such that it `suits`, or a tensor lies as no map can say, `otherwise` runs
    instead. `widths`: of its wgmma.

    `bounded`: what is MOST of narrow.py or less in a call.

    `workspace`: bytes of memory that launches of the kernel share during a run; the address follows what all are given.
    """

    name: str
    tasks: Expr
    share: int
    threads: int
    shared_bytes: int
    text: str
    registers: int = REGISTERS
    boxes: tuple[Box, ...] = ()
    widths: tuple[int, ...] = ()
    suits: Expr | None = None
    otherwise: Launch | None = None
    workspace: Expr | None = None
    bounded: tuple[Expr, ...] = ()


@dataclass(frozen=True, slots=True)
class Rendered:
    """A kernel as launches, to be run one after another, and results of it of which these are given a copy from before,
    after the tensors."""

    launches: tuple[Launch, ...]
    copied: tuple[str, ...]


def before(name: str) -> str:
    """What such a copy is called."""
    return f"before.{name}"


@dataclass(frozen=True, slots=True)
class Memory:
    """An array in a block of memory, `offset` bytes from its start."""

    type: str
    name: str
    offset: int


class Arrays:
    """Such a block, handed out array by array."""

    def __init__(self) -> None:
        self.arrays: list[Memory] = []
        self.bytes = 0

    def add(self, kind: str, name: str, count: int, size: int) -> None:
        self.arrays.append(Memory(kind, name, self.bytes))
        self.bytes += -(-count * size // 16) * 16


def members(kernel: Kernel) -> tuple[tuple[str, str], ...]:
    """(type, name) of what a launch is given, eight bytes each: of every tensor its pointer and strides, then sizes."""
    found = []
    for tensor in kernel.tensors:
        const = "" if tensor.written else "const "
        found.append((f"{const}{STORAGE[tensor.storage]} *", pointer_name(tensor.name)))
        found += [("int64_t ", stride_name(tensor.name, d)) for d in range(tensor.rank)]
    return (*found, *(("int64_t ", size_name(s)) for s in kernel.sizes))


def rendered(template: str, name: str, kernel: Kernel, split: object = None, **context: object) -> str:
    """A template of one device function, filled in; with `split` it is given a workspace."""
    from irc.codegen.render import environment  # not needed, nor its imports, for launches that are stored

    arithmetic = ARITHMETIC[kernel.arithmetic]
    given = {
        "name": name, "kernel": kernel, "arithmetic": arithmetic, "registers": REGISTERS, "split": split,
        "members": (*members(kernel), *((WORKSPACE,) if split else ())), **context,
    }  # fmt: skip
    return environment().get_template(f"cuda/{template}.cu.j2").render(**given)
