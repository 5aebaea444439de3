"""The CUDA dialect: kernels as device functions and their launches. Meaning first: every kernel in one plain form."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from irc.codegen import loops
from irc.codegen.cuda_launch import FLAGS, LEAST, NUMBER, REGISTERS, Arrays, Launch, Rendered, rendered
from irc.codegen.cuda_sides import copied, tile_launches
from irc.codegen.expr import Axis, Expr, flat, indices, integer, op
from irc.codegen.kernel import Kernel, Loop, LoopKernel, Target
from irc.codegen.narrow import MOST as MOST_POSITIONS
from irc.codegen.positions import extent, size, tiles_of, unflatten
from irc.codegen.printer import print_scalar
from irc.codegen.ptx import header
from irc.codegen.render import TEMPLATES, environment

__all__ = ["FLAGS", "LEAST", "MOST_POSITIONS", "REGISTERS", "Launch", "launches", "made", "render"]

HEADERS = ("sines.cuh", "draws.cuh", "fragments.cuh", "fragments_float.cuh", "distances.cuh")
WARPGROUPS = ("warpgroups.cuh",)
LOOP_THREADS = 128
PLACES = 32  # elements of each feature that a block of a scatter adds up
STEPS = 4  # points that a thread of it looks at, beside those of other threads
NEIGHBOURS = 4  # terms of a running sum that a thread adds up by itself
SHORT = 64  # rows of terms that one thread adds up


@lru_cache(maxsize=256)
def launches(kernel: Kernel, architecture: str = LEAST) -> tuple[Launch, ...]:
    """The device functions that make one kernel on an architecture, to be run one after another. Rendered once: the
    source and every run of it ask."""
    if isinstance(kernel, LoopKernel):
        return _loop_launches(kernel)
    return tile_launches(kernel, architecture)


def made(kernel: Kernel, architecture: str = LEAST) -> Rendered:
    """All that a run of the kernel needs to know of it."""
    return Rendered(launches(kernel, architecture), copied(kernel, architecture))


def render(kernels: Sequence[Kernel], name: str, spec: str, architecture: str = LEAST) -> str:
    """A CUDA source that needs no file of ours, with every launch of the kernels."""
    made = [(kernel, launches(kernel, architecture)) for kernel in kernels]
    widths = {width for _, each in made for launch in each for width in launch.widths}
    parts = HEADERS + (WARPGROUPS if widths else ())
    return (
        environment()
        .get_template("cuda/program.cu.j2")
        .render(
            name=name,
            spec=spec,
            head=header(widths),
            scalar=_on_device((TEMPLATES / "cpu" / "scalar.h").read_text(encoding="utf-8")),
            headers=[(TEMPLATES / "cuda" / name).read_text(encoding="utf-8") for name in parts],
            kernels=made,
        )
    )


def _on_device(text: str) -> str:
    """The scalar functions of the C++ dialect as device functions."""
    return text.replace("inline ", "DEVICE ").replace("> constexpr T", "> DEVICE constexpr T")


def _loop_launches(kernel: LoopKernel) -> tuple[Launch, ...]:
    nests = list(kernel.loops)
    if kernel.zero is not None:
        nests.insert(0, loops.cleared(kernel))
    return tuple(_launch(kernel, nest, f"{kernel.name}_{n}") for n, nest in enumerate(nests))


def _launch(kernel: LoopKernel, loop: Loop, name: str) -> Launch:
    if loop.reduce == "running":
        return _running_launch(kernel, loop, name)
    shape = next(t.shape for t in kernel.tensors if t.name == loop.target.tensor)
    if shape is not None and loops.meet(loop):
        return _scatter_launch(kernel, loop, shape, name)
    return _loop_launch(kernel, loop, name)


def _loop_launch(kernel: LoopKernel, loop: Loop, name: str) -> Launch:
    outer = tuple(axis for axis in loop.axes if axis.name in loop.parallel)
    text = rendered(
        "loop",
        name,
        kernel,
        threads=LOOP_THREADS,
        points=extent(outer) if outer else "1",
        indices=unflatten(outer, "point_at") if outer else (),
        inner=loops.counters(tuple(axis for axis in loop.axes if axis not in outer)),
        nest=loops.plain_nest(loop),
    )
    return Launch(name, size(outer), LOOP_THREADS, LOOP_THREADS, 0, text)


def _running_launch(kernel: LoopKernel, loop: Loop, name: str) -> Launch:
    """Running sums: a block for each row of terms, or where these are short a thread."""
    rows = tuple(axis for axis in loop.axes if axis.name in loop.parallel)
    (along,) = (axis for axis in loop.axes if axis not in rows)
    totals, warps = Arrays(), LOOP_THREADS // 32
    totals.add("T", "totals", 2 * warps, NUMBER[kernel.arithmetic])
    text = rendered(
        "running",
        name,
        kernel,
        threads=LOOP_THREADS,
        warps=warps,
        neighbours=NEIGHBOURS,
        short=SHORT,
        row_extent=extent(rows) if rows else "1",
        indices=unflatten(rows, "row_at") if rows else (),
        axis=loops.counters((along,))[0],
        nest=loops.plain_nest(loop),
    )
    tasks = op("where", op("le", along.size, integer(SHORT)), tiles_of(rows, LOOP_THREADS), size(rows))
    return Launch(name, tasks, 1, LOOP_THREADS, totals.bytes, text)


def _scatter_launch(kernel: LoopKernel, loop: Loop, shape: tuple[Expr, ...], name: str) -> Launch:
    """Sums into elements where points meet, which tables tell: each element is added up by the thread that owns it.
    What the tables are read by, and no point, is of the batch; indices that play no part in this are features."""
    points = loop.serial
    moving = {axis.name for axis in points}
    told = [d for d, index in enumerate(loop.target.indices) if indices(index) & moving]
    read = indices(loop.where) if loop.where is not None else frozenset()
    read = read.union(*(indices(loop.target.indices[d]) for d in told))
    shared_out = [axis for axis in loop.axes if axis not in points]
    batch, features = (tuple(a for a in shared_out if (a.name in read) == is_read) for is_read in (True, False))
    places = tuple(Axis(f"own.place{d}", shape[d]) for d in told)
    own = {d: axis.index for d, axis in zip(told, places, strict=True)}
    target = Target(loop.target.tensor, tuple(own.get(d, index) for d, index in enumerate(loop.target.indices)))
    shared, warps, number = Arrays(), LOOP_THREADS // 32, NUMBER[kernel.arithmetic]
    shared.add("T", "sums", PLACES * LOOP_THREADS, number)
    shared.add("int32_t", "point_of_found", STEPS * LOOP_THREADS, 4)
    shared.add("int32_t", "place_of_found", STEPS * LOOP_THREADS, 4)
    shared.add("int32_t", "counts", 2 * STEPS * warps, 4)
    nest = loops.plain_nest(loop)
    text = rendered(
        "scatter",
        name,
        kernel,
        threads=LOOP_THREADS,
        warps=warps,
        places=PLACES,
        steps=STEPS,
        shared=shared.arrays,
        place_extent=extent(places),
        feature_extent=extent(features),
        point_extent=extent(points),
        batch=unflatten(batch, "batch_at") if batch else (),
        features=unflatten(features, "feature_at") if features else (),
        place_names=unflatten(places, "place_at"),
        points=unflatten(points, "point_at"),
        place=print_scalar(flat(tuple((loop.target.indices[d], shape[d]) for d in told))),
        target=loops.lvalue(target),
        where=nest.where or "true",
        body=nest.body,
    )
    blocks = op("mul", tiles_of(places, PLACES), tiles_of(features, LOOP_THREADS))
    return Launch(name, op("mul", size(batch), blocks), 1, LOOP_THREADS, shared.bytes, text)
