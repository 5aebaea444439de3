"""Tile kernels in CUDA: one launch a side, or several where tensor cores do not hold all its results at once, each a
block for a tile of rows."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from irc.codegen import cuda_fragments, cuda_pairs, cuda_split, cuda_tiles, cuda_warpgroups
from irc.codegen.cuda_launch import Launch, before
from irc.codegen.expr import Expr, Load, loads, rebuild
from irc.codegen.kernel import (
    ColumnProduct,
    ColumnReduce,
    Kernel,
    LoopKernel,
    OnlineSoftmax,
    RowProduct,
    RowReduce,
    Side,
    TileKernel,
)
from irc.codegen.mirror import mirror


def tile_launches(kernel: TileKernel, architecture: str) -> tuple[Launch, ...]:
    """Those of one kernel, to be run one after another."""
    if kernel.order == "elements":
        found = cuda_pairs.launch(kernel, kernel.name, architecture)
        return (found,) if found else cuda_tiles.launches(kernel, kernel.name, architecture)
    sides = _by_side(_from_copies(kernel, architecture))
    return tuple(
        launch for side, own in sides for launch in _launches(own, f"{kernel.name}_{side}", side, architecture)
    )


def _launches(kernel: TileKernel, name: str, side: Side, architecture: str) -> tuple[Launch, ...]:
    """Those of one side. What finishes columns is not split: of these there are few where keys are."""
    apart = _parts(kernel, architecture)
    if len(apart) > 1:
        each = (_launches(part, f"{name}_{n}", side, architecture) for n, part in enumerate(apart))
        return tuple(launch for launches in each for launch in launches)
    whole = cuda_fragments.launches(kernel, name, architecture) or cuda_tiles.launches(kernel, name, architecture)
    if architecture == cuda_warpgroups.ARCHITECTURE:
        found = cuda_warpgroups.launch(kernel, f"{name}_warpgroups", side, whole[0])
        whole = (found,) if found else whole
    split = cuda_split.split(kernel) if side == "row" else None
    if split is None:
        return whole
    given = split.kernel, f"{name}_part", architecture, split
    return (
        *(cuda_split.unsplit(launch, split) for launch in whole),
        *(cuda_fragments.launches(*given) or cuda_tiles.launches(*given)),
    )


def copied(kernel: Kernel, architecture: str) -> tuple[str, ...]:
    """Results of a kernel that it also reads, in panels, and that one launch writes before another reads them."""
    if isinstance(kernel, LoopKernel) or kernel.order == "elements" or len(_apart(kernel, architecture)) == 1:
        return ()
    read = {load.tensor for panel in kernel.panels for load in loads(panel.value)}
    return tuple(t.name for t in kernel.tensors if t.written and t.name in read)


def _apart(kernel: TileKernel, architecture: str) -> tuple[TileKernel, ...]:
    """One for each launch, but for those of few rows."""
    return tuple(part for _, own in _by_side(kernel) for part in _parts(own, architecture))


@lru_cache(maxsize=256)
def _parts(kernel: TileKernel, architecture: str) -> tuple[TileKernel, ...]:
    """A kernel of row results alone; or where these are too many for tensor cores at once, kernels of some of them
    each, which compute tile values once more."""
    results = [step for step in kernel.body if isinstance(step, RowProduct | RowReduce)]
    softmax = any(isinstance(step, OnlineSoftmax) for step in kernel.body)
    if len(results) < 2 or softmax or cuda_fragments.fits(kernel, architecture):
        return (kernel,)
    half = len(results) // 2
    each = (
        replace(kernel, body=tuple(step for step in kernel.body if step not in others))
        for others in (results[half:], results[:half])
    )
    parts = tuple(part for own in each for part in _parts(own, architecture))
    return parts if all(cuda_fragments.fits(part, architecture) for part in parts) else (kernel,)


def _from_copies(kernel: TileKernel, architecture: str) -> TileKernel:
    """The kernel with panels read from such copies."""
    names = copied(kernel, architecture)

    def fn(part: Expr) -> Expr | None:
        return replace(part, tensor=before(part.tensor)) if isinstance(part, Load) and part.tensor in names else None

    copies = tuple(replace(t, name=before(t.name), written=False) for t in kernel.tensors if t.name in names)
    panels = tuple(replace(p, value=rebuild(p.value, fn)) for p in kernel.panels)
    return replace(kernel, tensors=kernel.tensors + copies, panels=panels)


def _by_side(kernel: TileKernel) -> tuple[tuple[Side, TileKernel], ...]:
    """One kernel for the results of each side, which walks the other and so needs no sum of another block: tile values
    are made once more instead. Each has row results alone."""
    rows, columns = (RowProduct | RowReduce | OnlineSoftmax), (ColumnProduct | ColumnReduce)
    found: list[tuple[Side, TileKernel]] = []
    if any(isinstance(step, rows) for step in kernel.body):
        own = replace(kernel, body=tuple(s for s in kernel.body if not isinstance(s, columns)))
        found.append(("row", own if kernel.order == "rows" else _across(own)))
    if any(isinstance(step, columns) for step in kernel.body):
        own = replace(kernel, body=tuple(s for s in kernel.body if not isinstance(s, rows)))
        found.append(("column", mirror(own if kernel.order == "columns" else _across(own))))
    return tuple(found)


def _across(kernel: TileKernel) -> TileKernel:
    """The kernel where its other side is walked; where nothing is said of that, verdicts still skip tiles."""
    spans, searches = kernel.across or (None, ())
    return replace(kernel, spans=spans, searches=searches)
