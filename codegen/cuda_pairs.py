"""Kernels whose only results are an element for each pair, such as the gradient of a bias, on tensor cores: what
pairs.cu.j2 needs of them. A sum over other indices stays in registers until it is whole."""

from __future__ import annotations

from dataclasses import dataclass, replace

from irc.codegen import loops
from irc.codegen.cuda_forms import FLOAT, REGISTERS, ROWS, WARPS, form, read_panels, scalars
from irc.codegen.cuda_fragments import live, panel_text, values_of
from irc.codegen.cuda_launch import Arrays, Launch, most_shared, rendered
from irc.codegen.cuda_tiles import walk_context
from irc.codegen.expr import Local, op
from irc.codegen.kernel import Accumulate, Dot, InnerSum, TileKernel, TileOp, Value
from irc.codegen.names import identifier
from irc.codegen.positions import size, tiles_of


@dataclass(frozen=True, slots=True)
class AddText:
    """target += what a tile has for the pair."""

    tile: str
    target: str


def launch(kernel: TileKernel, name: str, architecture: str) -> Launch | None:
    """The kernel as a launch; None where pairs may share elements, where floats would have to be multiplied in parts,
    and where registers or memory are too few."""
    kernel = live(_named(kernel))
    kept_as = form(kernel)
    if kept_as is None or kept_as is FLOAT or not _is_apart(kernel):
        return None
    outer, serial = kernel.batch, kernel.serial
    kernel = replace(kernel, batch=(*outer, *serial), serial=(), spans=None, searches=())
    hoisted, hoists, values = values_of(kernel, kept_as, factored=False)
    read = read_panels(kernel)
    if any(p.side == "distance" for p in read):
        return None
    adds = [s for s in hoisted.body if isinstance(s, Accumulate)]
    tiles = sum(isinstance(s, Dot) for s in hoisted.body) + len(adds)
    for columns in kept_as.columns:
        shared = Arrays()
        panels = [panel_text(p, kernel, kept_as, columns) for p in read]
        for text in panels:
            shared.add(kept_as.type, text.name, text.tokens * text.step, kept_as.bytes)
        hoists.reserve(shared, ROWS, columns)
        registers = next((r for r, fits in REGISTERS if tiles * columns // 2 + scalars(kernel) <= fits), None)
        if registers is not None and shared.bytes <= most_shared(architecture):
            break
    else:
        return None
    source = rendered(
        "pairs",
        name,
        hoisted,
        **walk_context(replace(hoisted, batch=outer), hoists.narrow),
        **values.context,
        shared=shared.arrays,
        ROWS=ROWS,
        COLUMNS=columns,
        WARPS=WARPS,
        registers=registers,
        unit=16 // kept_as.bytes,
        serial=loops.counters(serial),
        row_panels=[p for p in panels if p.side == "row"],
        column_panels=[p for p in panels if p.side == "column"],
        adds=[AddText(identifier(s.value.name), loops.lvalue(s.target)) for s in adds if isinstance(s.value, Local)],
    )
    tasks = op("mul", size(outer), op("mul", tiles_of(kernel.rows, ROWS), tiles_of(kernel.columns, columns)))
    return Launch(name, tasks, 1, 32 * WARPS, shared.bytes, source, registers, bounded=tuple(hoists.narrow.bounded))


def _named(kernel: TileKernel) -> TileKernel:
    """The kernel with names for what is added."""
    body = list[TileOp]()
    for number, step in enumerate(kernel.body):
        match step:
            case Accumulate((), value, _) if not isinstance(value, Local):
                name = f"added {number}"
                body += Value(name, value, kernel.support is not None), replace(step, value=Local(name))
            case _:
                body.append(step)
    return replace(kernel, body=tuple(body))


def _is_apart(kernel: TileKernel) -> bool:
    """Whether all that is made are elements, one for each point of the batch and pair, none for each serial point."""
    own = {a.index for axes in (kernel.batch, kernel.rows, kernel.columns) for a in axes}
    for step in kernel.body:
        match step:
            case Accumulate(over, _, target):
                if over or not own.issuperset(target.indices) or len(target.indices) != len(own):
                    return False
            case Dot() | Value() | InnerSum():
                pass
            case _:
                return False
    return True
