"""What the template of a LoopKernel sees: each loop nest with its expressions printed."""

from __future__ import annotations

from dataclasses import dataclass

from irc.codegen.cpu import prologue
from irc.codegen.expr import Axis, Const, Expr, Kind, Op, indices, loads
from irc.codegen.kernel import Loop, LoopKernel, Target
from irc.codegen.printer import element, identifier, print_scalar, scalar_leaf
from irc.codegen.segments import Lookup, Lookups


@dataclass(frozen=True, slots=True)
class Counter:
    """A printed loop: its variable and its bound."""

    name: str
    bound: str


@dataclass(frozen=True, slots=True)
class Nest:
    """A printed Loop. Threads share out `outer`, then `lanes` block by block; `inner` runs inside, then `over`, and
    inside of that the lanes of a block, each with its own sum: for sums down the columns of a matrix. `segments` are
    those that are the same all through the inner loops."""

    outer: tuple[Counter, ...]
    segments: tuple[Lookup, ...]
    inner: tuple[Counter, ...]
    lanes: Counter | None
    over: tuple[Counter, ...]
    reduce: str
    body: str
    where: str | None
    init: str | None
    target: str
    zero: str
    add: bool

    @property
    def points(self) -> str:
        """How many there are."""
        lanes = () if self.lanes is None else (self.lanes,)
        return " * ".join(f"({c.bound})" for c in (*self.outer, *lanes, *self.inner, *self.over))


def counters(axes: tuple[Axis, ...]) -> tuple[Counter, ...]:
    return tuple(Counter(identifier(axis.name), print_scalar(axis.size)) for axis in axes)


def lvalue(target: Target) -> str:
    return element(target.tensor, target.indices, scalar_leaf, lazy=True)


def _order(loop: Loop) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
    """Axes shared out by threads, and the others. The last axis stays innermost, where the compiler vectorises it,
    unless nothing else can be shared out."""
    outer = tuple(axis for axis in loop.axes if axis.name in loop.parallel)
    if len(outer) > 1 and not loop.reduce and outer[-1] == loop.axes[-1]:
        outer = outer[:-1]
    return outer, tuple(axis for axis in loop.axes if axis not in outer)


def _last(index: Expr) -> Expr:
    """The part of an index expression that runs fastest."""
    return index.args[-2] if isinstance(index, Op) and index.name == "flat" else index


def _runs_down_columns(loop: Loop) -> bool:
    """Whether the last axis, and no axis that is reduced, runs along the neighbouring elements of what is read."""
    if loop.reduce != "sum" or not loop.axes or loop.axes[-1].name not in loop.parallel:
        return False
    fastest = [_last(load.indices[-1]) for load in loads(loop.body) if load.indices]
    reduced = {axis.name for axis in loop.over}
    return loop.axes[-1].index in fastest and not any(reduced & indices(e) for e in fastest)


def nest(loop: Loop, plain: bool = False) -> Nest:
    outer, inner = (loop.axes, ()) if plain else _order(loop)
    lanes = loop.axes[-1:] if not plain and _runs_down_columns(loop) else ()
    outer = tuple(axis for axis in outer if axis not in lanes)
    outside = Lookups(() if plain else outer)

    def printed(expr: Expr) -> str:
        return print_scalar(outside.replaced(expr))

    return Nest(
        outer=counters(outer),
        inner=counters(inner),
        lanes=counters(lanes)[0] if lanes else None,
        over=counters(loop.over),
        reduce=loop.reduce,
        body=printed(loop.body),
        where=None if loop.where is None else printed(loop.where),
        init=None if loop.init is None else printed(loop.init),
        target=lvalue(outside.target(loop.target)),
        segments=outside.texts,  # of all that has been printed
        zero=print_scalar(Const({Kind.BOOL: False, Kind.INT: 0, Kind.FLOAT: 0.0}[loop.body.kind], loop.body.kind)),
        add=loop.add,
    )


def plain_nest(loop: Loop) -> Nest:
    """The loop where each point of its axes is on its own: nothing is shared by points that follow each other."""
    return nest(loop, plain=True)


def cleared(kernel: LoopKernel) -> Loop:
    """What clears the kernel's target as a loop of its own."""
    tensor = next(t for t in kernel.tensors if t.name == kernel.zero)
    if tensor.shape is None:
        raise ValueError(f"loops: kernel {kernel.name} clears {kernel.zero}, whose shape is not given")
    axes = tuple(Axis(f"zero_{d}", size) for d, size in enumerate(tensor.shape))
    target = Target(tensor.name, tuple(axis.index for axis in axes))
    zero = Const(0.0, Kind.FLOAT)
    return Loop(axes, (), "", zero, None, None, target, False, tuple(axis.name for axis in axes))


def context(kernel: LoopKernel) -> dict[str, object]:
    zero = cleared(kernel) if kernel.zero is not None else None
    return {
        "kernel": kernel,
        "prologue": prologue(kernel),
        "nests": tuple(nest(loop) for loop in kernel.loops),
        "zero": None if zero is None else lvalue(zero.target),
        "zero_axes": () if zero is None else counters(zero.axes),
    }
