"""What a core's mask looks like: allowed, blocked and bias over (query, key), for chosen sizes.

The graph's own predicate is evaluated, not a rendering of it: what is drawn is what the kernels compute with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irc.codegen.expr import TRUE, Axis, Expr, Load, Size, indices, loads, number, rebuild, substitute
from irc.codegen.kernel import Side
from irc.error import InputError
from irc.interpret import DTYPES, Grid, evaluate, size_value
from irc.ir import Core, Graph, Map, Reduce, is_tile, position
from irc.mask.analyse import analyse
from irc.mask.visits import EMPTY, FULL, PARTIAL, Visits
from irc.runtime.sizes import open_term


@dataclass(frozen=True, slots=True)
class Tiles:
    """What kernels find in each tile of `shape` rows and columns: [row tiles, column tiles], EMPTY, PARTIAL or FULL."""

    shape: tuple[int, int]
    states: NDArray[np.int8]

    @property
    def summary(self) -> str:
        count = [int((self.states == state).sum()) for state in (EMPTY, PARTIAL, FULL)]
        return "tiles of {} × {}: {} empty, {} partial, {} full".format(*self.shape, *count)


@dataclass(frozen=True, slots=True)
class Picture:
    """One core at one point of its batch axes. `bias` is the score where every dot product is 0: [rows, columns] or
    None where there is none, or where it needs a tensor (`lacking`) that was not given."""

    title: str
    rows: str
    columns: str
    allowed: NDArray[np.bool_]
    bias: NDArray[np.float64] | None
    lacking: tuple[str, ...] = ()
    tiles: Tiles | None = None


def pictures(
    graph: Graph,
    sizes: Mapping[str, int],
    values: Mapping[str, Any],
    at: Mapping[str, int],
    tile: tuple[int, int] | None = None,
) -> Iterator[Picture]:
    """Every core of the program. `sizes` must determine all axes of the cores; `values` holds the scalars and tensors
    that the mask reads (missing ones raise `InputError`); `at` the point of the batch axes, 0 where it says nothing.
    With `tile`, rows and columns, what kernels find in tiles of that shape."""
    arrays = {n.name: np.asarray(values[n.name], DTYPES[n.kind]) for n in graph.inputs if n.name in values}
    for core in graph.cores:
        yield _picture(graph, core, sizes, arrays, at, tile)


def _picture(
    graph: Graph,
    core: Core,
    sizes: Mapping[str, int],
    values: Mapping[str, NDArray[Any]],
    at: Mapping[str, int],
    tile: tuple[int, int] | None,
) -> Picture:
    axes = (*core.batch, *core.rows, *core.columns)
    ranges = tuple(_range(axis, sizes, at) for axis in axes)
    grid = Grid(tuple(a.name for a in axes), sizes, values, ranges)
    extent = [int(np.prod([size_value(a.size, sizes) for a in side])) for side in (core.rows, core.columns)]

    support = inlined(graph, core.support if core.support is not None else TRUE)
    missing = _missing(support, values)
    if missing:
        raise InputError(f"the mask of '{graph.name}' reads {_names(missing)}: give it with --set or --inputs")
    allowed = np.broadcast_to(evaluate(support, grid), grid.shape).reshape(extent)

    score = inlined(graph, core.score)
    lacking = _missing(score, values)
    bias = None
    if not lacking:
        with np.errstate(all="ignore"):
            drawn = evaluate(score, grid.only(np.broadcast_to(evaluate(support, grid), grid.shape)))
        bias = np.broadcast_to(drawn, grid.shape).reshape(extent).astype(np.float64)
        if not allowed.any() or np.ptp(bias[allowed]) == 0:
            bias = None  # one number everywhere: the softmax does not see it
    seen = indices(support) if bias is None else indices(support) | indices(score)
    point = [(a.name, r.start) for a, r in zip(axes, ranges, strict=True) if not a.role and a.name in seen]
    where = ", ".join(f"{name} = {start}" for name, start in point)
    share = f"{allowed.sum()} of {allowed.size} pairs allowed"
    title = f"{graph.name}: {share}" + (f" at {where}" if where else "")
    tiles = None
    if tile is not None:
        given = analyse(support, core.rows, core.columns, "column", graph.facts)
        sides: dict[Side, int] = {"row": tile[0], "column": tile[1]}
        place = {a.name: r.start for a, r in zip(axes, ranges, strict=True) if not a.role}
        visits = Visits(given, {"row": core.rows, "column": core.columns}, "column", sizes, values, place, sides, sides)
        tiles = Tiles(tile, visits.states())
    return Picture(title, _label(core.rows), _label(core.columns), allowed, bias, lacking, tiles)


def _range(axis: Axis, sizes: Mapping[str, int], at: Mapping[str, int]) -> range:
    size = size_value(axis.size, sizes)
    if axis.role:
        return range(size)
    point = at.get(axis.name, 0)
    if not 0 <= point < size:
        raise InputError(f"index '{axis.name}' runs from 0 to {size - 1}, not to {point}")
    return range(point, point + 1)


def inlined(graph: Graph, expr: Expr) -> Expr:
    """The expression in terms of arguments alone: tile values replaced by their definition, dot products by 0."""

    def replace(e: Expr) -> Expr | None:
        if not isinstance(e, Load):
            return None
        node = graph.by_name.get(e.tensor)
        if isinstance(node, Reduce) and is_tile(node):
            return number(0.0)
        if isinstance(node, Map) and position(node.axes, node.groups) == tuple(a.index for a in node.axes):
            body = substitute(node.body, dict(zip((a.index for a in node.axes), e.indices, strict=True)))
            return inlined(graph, body)
        return None

    return rebuild(expr, replace)


def _missing(expr: Expr, values: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(load.tensor for load in loads(expr) if load.tensor not in values))


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _label(axes: tuple[Axis, ...]) -> str:
    return axes[0].name if len(axes) == 1 else f"({' '.join(a.name for a in axes)})" if axes else "(one)"


def sizes_for(graph: Graph, given: Mapping[str, int], values: Mapping[str, Any]) -> dict[str, int]:
    """Every size: as given, else as the given tensors or the definition have it, else 32 along queries and keys and 1
    along the rest, which is enough to draw a mask."""
    sizes = dict(given)
    unknown = sorted(set(given) - {name for name, _ in graph.sizes})
    if unknown:
        raise InputError(f"{_names(tuple(unknown))} is no size of '{graph.name}'")
    for node in graph.inputs:
        for whole, dim in zip(np.shape(values[node.name]), node.shape, strict=True) if node.name in values else ():
            term, extent = open_term(dim, whole, sizes)
            if isinstance(term, Size) and sizes.setdefault(term.name, extent) != extent:
                raise InputError(f"'{node.name}' has {extent} along {term.name}, which is {sizes[term.name]} elsewhere")
    long = {
        e
        for node in graph
        if isinstance(node, Map | Reduce)
        for axis in (*node.axes, *(node.over if isinstance(node, Reduce) else ()))
        if axis.role
        for e in (axis.size,)
    }
    names = {getattr(e, "name", "") for e in long}
    for name, definition in graph.sizes:
        if name not in sizes:
            default = 32 if name in names else 1
            sizes[name] = default if definition is None else size_value(definition, sizes)
    return sizes


def text(picture: Picture) -> str:
    """The picture in characters: a filled square is an allowed pair, or with tiles a full one; a hollow square is a
    partial tile."""
    head = [picture.title, f"rows: query {picture.rows}, columns: key {picture.columns}"]
    if picture.tiles is None:
        return "\n".join([*head, *("".join("■" if cell else "·" for cell in row) for row in picture.allowed)])
    return "\n".join(
        [*head, f"{picture.tiles.summary} (·, □, ■)", *("".join("·□■"[s] for s in row) for row in picture.tiles.states)]
    )


def draw(shown: tuple[Picture, ...], path: Path) -> None:
    """The pictures side by side in an image file; blocked pairs are grey, the bias is a colour."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    figure, grid = plt.subplots(1, len(shown), figsize=(6 * len(shown), 5.4), squeeze=False, layout="constrained")
    for axes, picture in zip(grid[0], shown, strict=True):
        if picture.tiles is not None:
            _draw_tiles(axes, picture, picture.tiles)
            continue
        axes.set(title=picture.title, xlabel=f"key {picture.columns}", ylabel=f"query {picture.rows}")
        if picture.bias is None:
            axes.imshow(picture.allowed, cmap=ListedColormap(["0.88", "tab:blue"]), vmin=0, vmax=1, aspect="auto")
        else:
            axes.set_facecolor("0.88")
            shade = axes.imshow(np.where(picture.allowed, picture.bias, np.nan), cmap="viridis", aspect="auto")
            figure.colorbar(shade, ax=axes, label="score where q·k = 0")
    if any(picture.tiles is not None for picture in shown):
        legend = [Patch(color=colour, label=name) for name, colour in SHADES.items()]
        figure.legend(handles=legend, loc="outside lower center", ncols=4, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


SHADES = {"empty": "0.93", "partial, blocked": "moccasin", "partial, allowed": "tab:orange", "full": "tab:blue"}


def _draw_tiles(axes: Any, picture: Picture, tiles: Tiles) -> None:
    """Each pair in the colour of its tile, darker where it is allowed, and lines between tiles."""
    from matplotlib.colors import ListedColormap

    state = np.repeat(np.repeat(tiles.states, tiles.shape[0], 0), tiles.shape[1], 1)
    rows, columns = picture.allowed.shape
    kinds = np.where(state[:rows, :columns] == PARTIAL, 1 + picture.allowed, np.where(state[:rows, :columns], 3, 0))
    axes.imshow(
        kinds, cmap=ListedColormap(list(SHADES.values())), vmin=0, vmax=3, aspect="auto", interpolation="nearest"
    )
    axes.hlines(np.arange(0, rows, tiles.shape[0]) - 0.5, -0.5, columns - 0.5, color="white", linewidth=0.8)
    axes.vlines(np.arange(0, columns, tiles.shape[1]) - 0.5, -0.5, rows - 0.5, color="white", linewidth=0.8)
    title = f"{picture.title}\n{tiles.summary}"
    axes.set(title=title, xlabel=f"key {picture.columns}", ylabel=f"query {picture.rows}")
