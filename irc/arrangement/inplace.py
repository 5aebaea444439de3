"""Results in the memory of operands that die: `q` becomes `d.q`, element for element, where the kernel allows it.

A kernel allows it where it reads the operand only at the element that it then writes, and writes it later than every
such read: a loop without a reduction does, and a tile kernel for a matrix that it reads as a panel of the side on which
the result lies. On the outer side, that of tiles of rows (in the order "columns", of columns), a panel is read when its
tile starts, and results are written when it ends; on the walked side panels are read as long as the task runs, and
results are written when it ends. The operand's name then disappears from the kernel: it reads its own result.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from irc.arrangement.lifetimes import owners, reads, writes
from irc.codegen.expr import Axis, Expr, Index, Load, loads, rebuild
from irc.codegen.kernel import (
    ColumnProduct,
    Kernel,
    Loop,
    LoopKernel,
    Panel,
    RowProduct,
    Target,
    TileKernel,
)
from irc.fusion.tile import mentioned
from irc.graph.size import equal
from irc.runtime.plan import Allocate, Call, Operand, PlanTensor, Step, View


def in_place(
    steps: Sequence[Step], tensors: Mapping[str, PlanTensor], kernels: Mapping[str, Kernel], lasting: Collection[str]
) -> tuple[tuple[Step, ...], dict[str, Kernel]]:
    """The steps with allocations replaced by views of tensors that die, and the kernels that now read their results."""
    out, known = list(steps), dict(kernels)
    for number, step in enumerate(steps):
        if isinstance(step, Allocate) and not step.zero:
            found = _reused(step.tensor, out, number, tensors, known, lasting)
            if found is not None:
                out[number], kernel = found
                known[kernel.name] = kernel
    used = {n for s in out for n in reads(s, known)} | set(lasting)
    return tuple(s for s in out if not isinstance(s, View) or s.result in used), known


def _reused(
    made: str, steps: Sequence[Step], at: int, tensors: Mapping[str, PlanTensor], kernels: Mapping[str, Kernel],
    lasting: Collection[str],
) -> tuple[View, Kernel] | None:  # fmt: skip
    """The view that replaces the allocation of `made`, and the kernel that fills it, changed."""
    owner = owners(steps)

    def memory(name: str) -> str:
        return owner.get(name, name)

    def touches(step: Step, name: str) -> bool:
        return any(memory(n) == name for n in reads(step, kernels) | writes(step, kernels))

    first = next((n for n in range(at + 1, len(steps)) if isinstance(steps[n], Call) and touches(steps[n], made)), None)
    call = steps[first] if first is not None else None
    if first is None or not isinstance(call, Call):
        return None
    kernel = kernels[call.kernel]
    views = {s.result: s for s in steps if isinstance(s, View)}
    written = [t.name for t in kernel.tensors if t.written and memory(t.name) == made]
    stay = {memory(n) for n in lasting}
    for dying in dict.fromkeys(memory(t.name) for t in kernel.tensors if not t.written):
        if dying in stay or tensors[dying].role != "temporary" or any(touches(s, dying) for s in steps[first + 1 :]):
            continue
        operands = [t.name for t in kernel.tensors if memory(t.name) == dying]
        for place in (n for n in (dying, *views) if memory(n) == dying and _alike(tensors[n], tensors[made])):
            pairs = _pairs(written, made, operands, place, views)
            changed = None if pairs is None else _changed(kernel, pairs)
            if changed is not None and pairs:
                axes = tuple(Axis(f"i{k}", size) for k, size in enumerate(tensors[made].shape))
                return View(made, axes, Operand(place, tuple((a,) for a in axes))), changed
    return None


def _alike(a: PlanTensor, b: PlanTensor) -> bool:
    return (
        a.storage == b.storage
        and len(a.shape) == len(b.shape)
        and all(equal(x, y, {}) for x, y in zip(a.shape, b.shape, strict=True))
    )


_Path = tuple[tuple[int, ...] | int, ...]


def _path(name: str, base: str, views: Mapping[str, View]) -> _Path | None:
    """For each dimension of `base` what stands there in `name`: its axes by position, or a selected number."""
    if name == base:
        return ()
    view = views.get(name)
    if view is None or view.operand.tensor != base:
        return None
    return tuple(d if isinstance(d, int) else tuple(view.axes.index(a) for a in d) for d in view.operand.dims)


def _pairs(
    written: Sequence[str], made: str, operands: Sequence[str], place: str, views: Mapping[str, View]
) -> dict[str, str] | None:
    """Operand to the result that would have its memory, where no other result would have any of it."""
    pairs: dict[str, str] = {}
    for operand in operands:
        for result in written:
            a, b = _path(operand, place, views), _path(result, made, views)
            if a is None or b is None:
                return None
            if a == b:
                pairs[operand] = result
            elif not any(isinstance(x, int) and isinstance(y, int) and x != y for x, y in zip(a, b, strict=False)):
                return None
    return pairs


def _changed(kernel: Kernel, pairs: Mapping[str, str]) -> Kernel | None:
    """The kernel with each operand of `pairs` read from its result, None where an element could be read too late."""
    for operand, result in pairs.items():
        if not _fits(kernel, operand, result):
            return None

    def swap(expr: Expr) -> Expr:
        return rebuild(
            expr,
            lambda e: Load(pairs[e.tensor], e.indices, e.kind) if isinstance(e, Load) and e.tensor in pairs else None,
        )

    tensors = tuple(t for t in kernel.tensors if t.name not in pairs)
    if isinstance(kernel, LoopKernel):
        loops = tuple(replace(loop, body=swap(loop.body)) for loop in kernel.loops)
        return replace(kernel, tensors=tensors, loops=loops)
    return replace(kernel, tensors=tensors, panels=tuple(replace(p, value=swap(p.value)) for p in kernel.panels))


def _fits(kernel: Kernel, operand: str, result: str) -> bool:
    if isinstance(kernel, LoopKernel):
        return _fits_loop(kernel, operand, result)
    return _fits_tiles(kernel, operand, result)


def _fits_loop(kernel: LoopKernel, operand: str, result: str) -> bool:
    """One loop, each of whose points reads the operand where it writes the result."""
    match kernel.loops:
        case (Loop(_, (), "", body, where, _, Target(tensor, at), False, _),) if tensor == result:
            own = [load for load in loads(body) if load.tensor == operand]
            elsewhere = where is not None and any(load.tensor == operand for load in loads(where))
            return not elsewhere and all(load.indices == at for load in own)
    return False


def _fits_tiles(kernel: TileKernel, operand: str, result: str) -> bool:
    """The operand is read as panels of one side, each token's where the result has that token's."""
    sinks = [s for s in kernel.body if isinstance(s, RowProduct | ColumnProduct) and s.target.tensor == result]
    mine = [p for p in kernel.panels if any(load.tensor == operand for load in loads(p.value))]
    rest = replace(kernel, panels=tuple(p for p in kernel.panels if p not in mine), tensors=())
    if len(sinks) != 1 or operand in mentioned(rest)[0] or kernel.order == "elements":
        return False
    by_row = isinstance(sinks[0], RowProduct)
    side = kernel.rows if by_row else kernel.columns
    tokens = {a.name for a in (*kernel.batch, *side)}
    return all(
        p.side == ("row" if by_row else "column") and _own_tokens(p, operand, sinks[0].target.indices, tokens)
        for p in mine
    )


def _own_tokens(panel: Panel, operand: str, at: tuple[Expr, ...], tokens: set[str]) -> bool:
    """Whether the panel reads the operand at the tokens of `at` alone: the same indices, but for features' names."""
    features = {a.name for a in panel.features}
    for load in (e for e in loads(panel.value) if e.tensor == operand):
        for mine, theirs in zip(load.indices, at, strict=True):
            feature = isinstance(mine, Index) and mine.name in features
            if not feature and (mine != theirs or not isinstance(mine, Index) or mine.name not in tokens):
                return False
        if not tokens <= {e.name for e in load.indices if isinstance(e, Index)}:
            return False
    return True
