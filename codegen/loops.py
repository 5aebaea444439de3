"""What the template of a LoopKernel sees: each loop nest with its expressions printed."""

from __future__ import annotations

from dataclasses import dataclass

from irc.codegen.cpu import prologue
from irc.codegen.expr import Axis, Const, Expr, Kind, Load, Op, indices, loads, walk
from irc.codegen.kernel import Loop, LoopKernel, Target
from irc.codegen.names import identifier
from irc.codegen.outside import Constant, Outside, calls, is_long
from irc.codegen.positions import points
from irc.codegen.printer import element, print_scalar, scalar_leaf
from irc.codegen.slopes import slope
from irc.codegen.stretches import Named, Stretch, Stretches

BLOCK = 256  # points of an axis of which threads share out blocks
UNROLLED = 16  # points of loops that the compiler unrolls
# What it costs vectors that an index goes up by one: the same element, neighbours, those backwards, or others. Another
# index than the last is innermost where that saves more than MARGIN.
SAME, NEIGHBOURS, BACKWARDS, APART, LASTING, MARGIN = 0.5, 1.0, 1.5, 8.0, 20.0, 0.25


@dataclass(frozen=True, slots=True)
class Counter:
    """A printed loop: its variable, and where it begins and ends."""

    name: str
    bound: str
    first: str = "0"


@dataclass(frozen=True, slots=True)
class Level:
    """A printed loop, and what is named inside of it: it stays the same all through the loops inside. `vector`: its
    points lie in the lanes of vectors, for the loops inside are unrolled: the compiler does not find that by itself."""

    counter: Counter
    constants: tuple[Constant, ...]
    vector: bool


@dataclass(frozen=True, slots=True)
class Nest:
    """A printed Loop. `constants` come first. Threads share out blocks of the axis `blocks`, which is the first inner
    one, then `outer`, then `lanes` block by block; `inner` runs inside, then `over`, and inside of that the lanes of a
    block, each with its own sum: for sums down the columns of a matrix. `short`: `over` is unrolled. Where there are
    `stretches` the innermost loop is these, between `cuts`, and `where` is known in each."""

    points: str
    constants: tuple[Constant, ...]
    blocks: Counter | None
    outer: tuple[Level, ...]
    inner: tuple[Level, ...]
    lanes: Counter | None
    over: tuple[Counter, ...]
    short: bool
    reduce: str
    body: str
    where: str | None
    init: str | None
    target: str
    zero: str
    add: bool
    cuts: tuple[Named, ...]
    stretches: tuple[Stretch, ...]


def counters(axes: tuple[Axis, ...]) -> tuple[Counter, ...]:
    return tuple(Counter(identifier(axis.name), print_scalar(axis.size)) for axis in axes)


def lvalue(target: Target) -> str:
    return element(target.tensor, target.indices, scalar_leaf, lazy=True)


def are_few(axes: tuple[Axis, ...]) -> bool:
    """Whether the axes have a few points, a number that is known."""
    number = points(axes)
    return number is not None and number <= UNROLLED


def meet(loop: Loop) -> bool:
    """Whether many points are added to elements that an index of theirs tells, where several may meet."""
    moving = {axis.name for axis in loop.serial}
    told = any(indices(index) & moving for index in loop.target.indices)
    return loop.add and told and not are_few(loop.serial)


def _vector(loop: Loop, order: tuple[Axis, ...], shared: int) -> int | None:
    """Of points that are each by itself: the number of the innermost axis with more of them than a few, if there are
    loops inside of it."""
    if loop.reduce or loop.add or _reads_itself(loop):
        return None
    inside = len(order)
    while inside > shared and are_few(order[inside - 1 :]):
        inside -= 1
    return None if inside in (shared, len(order)) else inside - 1


def _reads_itself(loop: Loop) -> bool:
    """Whether points read what others have written: those along an axis that is not `parallel`, in its order."""
    return any(load.tensor == loop.target.tensor for load in loads(loop.body))


def _order(loop: Loop) -> tuple[tuple[Axis, ...], int, bool]:
    """Axes from the outermost to the innermost, how many of them threads share out, and whether blocks of the next too.
    The last axis stays innermost, where the compiler vectorises it, unless nothing else can be shared out or a long
    reduction is inside of it."""
    outer = _shared(loop)
    if len(outer) > 1 and are_few(loop.over) and outer[-1] == loop.axes[-1]:
        outer = outer[:-1]
    order = (*outer, *(axis for axis in loop.axes if axis not in outer))
    return (order, len(outer), False) if loop.add or _reads_itself(loop) else _by_calls(loop, order, len(outer))


def _shared(loop: Loop) -> tuple[Axis, ...]:
    return tuple(axis for axis in loop.axes if axis.name in loop.parallel)


def _by_calls(loop: Loop, order: tuple[Axis, ...], shared: int) -> tuple[tuple[Axis, ...], int, bool]:
    """The same with the axes of long calls outermost, those of the most calls first. What is shared out ends where the
    first calls are known."""
    read = {indices(call) for expr in (loop.body, loop.where) if expr is not None for call in calls(expr)}
    read = {names for names in read if names and names < {axis.name for axis in (*order, *loop.over)}}
    order = tuple(sorted(order, key=lambda axis: -sum(axis.name in names for names in read)))
    places = {axis.name: number for number, axis in enumerate(order, 1)}
    known = min((max(places.get(name, len(order)) for name in names) for names in read), default=shared)
    return order, min(shared, known), known < shared


def _last(index: Expr) -> Expr:
    """The part of an index expression that runs fastest."""
    return index.args[-2] if isinstance(index, Op) and index.name == "flat" else index


def _lanes(loop: Loop) -> Axis | None:
    """The last axis of more than a few points that runs along the neighbouring elements of what the sum reads, where no
    axis that is reduced does: of tensors with this axis and such a one those tell that are read at the most indices."""
    if loop.reduce != "sum" or are_few(loop.over):
        return None
    over = {axis.name for axis in loop.over}
    for axis in (a for a in reversed(_shared(loop)) if not are_few((a,))):
        along = [load for load in loads(loop.body) if axis.name in indices(load) and over & indices(load)]
        most = max((len(indices(load)) for load in along), default=0)
        if most and all(_last(load.indices[-1]) == axis.index for load in along if len(indices(load)) == most):
            return axis
    return None


def _cost(loop: Loop, axis: Axis) -> float:
    """Of a vector of points along the axis: what they read, and what takes long, which loops over others make before
    them."""
    made = {e for e in walk(loop.body) if is_long(e) and axis.name in indices(e)}
    return LASTING * len(made) + sum(_cost_of(load, axis) for load in loads(loop.body))


def _cost_of(load: Load, axis: Axis) -> float:
    if axis.name not in indices(load):
        return SAME
    *others, last = load.indices
    if isinstance(last, Op) and last.name == "flat":
        others += last.args[:-2]
    if any(axis.name in indices(index) for index in others):
        return APART
    return {1: NEIGHBOURS, -1: BACKWARDS}.get(slope(_last(last), axis.name) or 0, APART)


def _innermost(loop: Loop) -> tuple[Axis | None, tuple[Axis, ...]]:
    """The axis whose points are lanes, if any, and the order of those that are reduced."""
    lanes = _lanes(loop)
    if lanes or loop.reduce != "sum" or are_few(loop.over):
        return lanes, loop.over
    long = [a for a in loop.over if not are_few((a,))] or [loop.over[-1]]
    last = min(reversed(long), key=lambda a: _cost(loop, a))
    if loop.over[-1] in long and _cost(loop, loop.over[-1]) <= _cost(loop, last) + MARGIN:
        last = loop.over[-1]
    side = min((a for a in _shared(loop) if not are_few((a,))), key=lambda a: _cost(loop, a), default=None)
    if side and _cost(loop, side) + MARGIN < _cost(loop, last):
        return side, loop.over
    return None, (*(a for a in loop.over if a != last), last)


def nest(loop: Loop, plain: bool = False) -> Nest:
    order, shared, cut = (loop.axes, 0, False) if plain else _order(loop)
    lanes, over = (None, loop.over) if plain else _innermost(loop)
    if lanes:
        outer = tuple(a for a in _shared(loop) if a != lanes)
        order, shared, cut = (*outer, *(a for a in loop.axes if a not in (*outer, lanes))), len(outer), False
    outside = Outside(order, shared)
    inside = 0 if plain else len(order) + (1 if loop.over else 0)

    def printed(expr: Expr) -> str:
        return print_scalar(outside.replaced(expr, inside))

    loops = list(counters(order))
    blocks = loops[shared] if cut else None
    if blocks is not None:
        end = f"std::min<int64_t>(block + {BLOCK}, {blocks.bound})"
        loops[shared] = Counter(blocks.name, end, "block")
    zero = Const({Kind.BOOL: False, Kind.INT: 0, Kind.FLOAT: 0.0}[loop.body.kind], loop.body.kind)
    innermost = lanes if lanes or plain or loop.reduce or shared == len(order) else order[-1]
    vector = _vector(loop, order, shared)
    if lanes:
        along, ends = innermost, ("block", "block_end")
    elif loop.reduce == "sum" and not plain and not are_few(over):
        along, ends = over[-1], ("0", print_scalar(over[-1].size))
    else:
        along, ends = innermost, (loops[-1].first, loops[-1].bound) if loops else ("", "")
    stretches: Stretches | None = None
    if along and not are_few((along,)) and vector is None:
        nothing = zero if loop.reduce or loop.add else None
        stretches = Stretches(along, loop.target, nothing, printed, lambda t: lvalue(outside.target(t, inside)))
        stretches.divide(loop.body, loop.where, zero, *ends)
    divided = bool(stretches and stretches.loops)
    body = "" if divided else printed(loop.body)
    where = None if divided or loop.where is None else print_scalar(outside.condition(loop.where, inside))
    init = None if loop.init is None else printed(loop.init)
    target = lvalue(outside.target(loop.target, inside))
    levels = tuple(Level(c, outside.constants(number + 1), number == vector) for number, c in enumerate(loops))
    return Nest(
        points=" * ".join(f"({print_scalar(axis.size)})" for axis in (*loop.axes, *loop.over)),
        constants=outside.constants(0),
        blocks=blocks,
        outer=levels[:shared],
        inner=levels[shared:],
        lanes=counters((lanes,))[0] if lanes else None,
        over=counters(over),
        short=are_few(loop.over),
        reduce=loop.reduce,
        body=body,
        where=where,
        init=init,
        target=target,
        zero=print_scalar(zero),
        add=loop.add,
        cuts=tuple(stretches.cuts) if stretches else (),
        stretches=tuple(stretches.loops) if stretches else (),
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
        "block": BLOCK,
        "nests": tuple(nest(loop) for loop in kernel.loops),
        "zero": None if zero is None else lvalue(zero.target),
        "zero_axes": () if zero is None else counters(zero.axes),
    }
