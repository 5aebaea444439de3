"""Pictures of cores, in characters or as an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from irc.error import InputError
from irc.mask.visits import PARTIAL
from irc.show.plot import Numbers, Picture, Tiles

SHADES = {"empty": "0.93", "partial, blocked": "moccasin", "partial, allowed": "tab:orange", "full": "tab:blue"}
LEVELS = " ░▒▓█"  # of weights and scores, from the least to the greatest
BLOCKED = "0.88"


def text(picture: Picture) -> str:
    """The picture in characters: a filled square is an allowed pair, or with tiles a full one; a hollow square is a
    partial tile. Scores and weights are shades, the darker the greater."""
    head = [picture.title, f"rows: query {picture.rows}, columns: key {picture.columns}"]
    if picture.tiles is not None:
        head.append(f"{picture.tiles.summary} (·, □, ■)")
        return "\n".join([*head, *("".join("·□■"[s] for s in row) for row in picture.tiles.states)])
    if picture.numbers is None or picture.shown == "pairs":
        return "\n".join([*head, *("".join("■" if cell else "·" for cell in row) for row in picture.allowed)])
    if picture.numbers.against is not None:
        raise InputError("a map is drawn as an image: give its file with -o")
    values = picture.numbers.values
    inside = values[picture.allowed]
    least, most = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 0.0)
    level = np.clip((values - least) / max(most - least, 1e-300) * len(LEVELS), 0, len(LEVELS) - 1)
    cells = np.where(picture.allowed, np.array(list(LEVELS))[np.nan_to_num(level).astype(int)], "·")
    return "\n".join([*head, f"shades: {least:.3g} to {most:.3g}", *("".join(row) for row in cells)])


def draw(shown: tuple[Picture, ...], path: Path) -> None:
    """The pictures side by side in an image file; blocked pairs are grey, numbers are colours."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.backend_bases import FigureCanvasBase
    from matplotlib.patches import Patch

    formats = FigureCanvasBase.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        raise InputError(f"{path}: expected a name that ends in an image's format ({', '.join(formats)})")
    with plt.rc_context({"font.size": 9, "axes.titlesize": 9}):
        size = (3.7 * len(shown), 3.5)
        figure, grid = plt.subplots(1, len(shown), figsize=size, squeeze=False, layout="constrained")
        for axes, picture in zip(grid[0], shown, strict=True):
            axes.set(title=_title(picture), xlabel=f"key {picture.columns}", ylabel=f"query {picture.rows}")
            if picture.tiles is not None:
                _draw_tiles(axes, picture, picture.tiles)
            elif picture.numbers is None:
                axes.imshow(picture.allowed, cmap=_colours([BLOCKED, "tab:blue"]), vmin=0, vmax=1, aspect="auto")
            elif picture.numbers.against is not None:
                _draw_map(figure, axes, picture, picture.numbers, picture.numbers.against)
                axes.set_ylim(*_margins(_range(shown, picture)))
            else:
                _draw_numbers(figure, axes, picture, picture.numbers, _range(shown, picture))
        if any(picture.tiles is not None for picture in shown):
            legend = [Patch(color=colour, label=name) for name, colour in SHADES.items()]
            figure.legend(handles=legend, loc="outside lower center", ncols=4 if len(shown) > 1 else 2, frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
        plt.close(figure)
    if path.suffix.lower() == ".png":
        _shrink(path)


def _title(picture: Picture) -> str:
    """Two lines: which core, where; what there is to say of it."""
    first = picture.name + (f" at {picture.where}" if picture.where else "")
    return "\n".join([first, picture.note, *([picture.tiles.summary] if picture.tiles is not None else [])])


def _range(shown: tuple[Picture, ...], picture: Picture) -> tuple[float, float]:
    """The least and the greatest number of a core, at all the points that are shown: its pictures share a scale."""
    inside = [p.numbers.values[p.allowed] for p in shown if p.numbers is not None and p.name == picture.name]
    values = np.concatenate([a[np.isfinite(a)] for a in inside])
    return (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)


def _margins(limits: tuple[float, float]) -> tuple[float, float]:
    least, most = limits
    space = 0.05 * (most - least) or 1.0
    return least - space, most + space


def _colours(names: list[str]) -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap(names)


def _draw_numbers(figure: Any, axes: Any, picture: Picture, numbers: Numbers, limits: tuple[float, float]) -> None:
    """Weights on a scale of square roots, so that those of long rows are seen beside those of short ones; numbers of
    both signs in two colours."""
    from matplotlib.colors import Normalize, PowerNorm

    inside, (least, most) = np.where(picture.allowed, numbers.values, np.nan), limits
    scale: dict[str, Any] = {"cmap": "viridis", "norm": Normalize(least, most)}
    if least < 0 < most and picture.shown != "pairs":
        scale = {"cmap": "RdBu_r", "norm": Normalize(-max(-least, most), max(-least, most))}
    elif picture.shown == "weights":
        scale["norm"] = PowerNorm(0.5, 0.0, most or 1.0)
    axes.set_facecolor(BLOCKED)
    shade = axes.imshow(inside, aspect="auto", interpolation="nearest", **scale)
    figure.colorbar(shade, ax=axes, label=numbers.name)


def _draw_map(figure: Any, axes: Any, picture: Picture, numbers: Numbers, against: Any) -> None:
    """A point a pair, in the colour of its query."""
    rows = np.broadcast_to(np.arange(len(against))[:, None], against.shape)
    at = picture.allowed
    points = axes.scatter(against[at], numbers.values[at], c=rows[at], s=6, cmap="viridis", linewidths=0)
    axes.set(xlabel="q·k", ylabel=numbers.name)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    figure.colorbar(points, ax=axes, label=f"query {picture.rows}")


def _draw_tiles(axes: Any, picture: Picture, tiles: Tiles) -> None:
    """Each pair in the colour of its tile, darker where it is allowed, and lines between tiles."""
    state = np.repeat(np.repeat(tiles.states, tiles.shape[0], 0), tiles.shape[1], 1)
    rows, columns = picture.allowed.shape
    kinds = np.where(state[:rows, :columns] == PARTIAL, 1 + picture.allowed, np.where(state[:rows, :columns], 3, 0))
    axes.imshow(kinds, cmap=_colours([*SHADES.values()]), vmin=0, vmax=3, aspect="auto", interpolation="nearest")
    axes.hlines(np.arange(0, rows, tiles.shape[0]) - 0.5, -0.5, columns - 0.5, color="white", linewidth=0.8)
    axes.vlines(np.arange(0, columns, tiles.shape[1]) - 0.5, -0.5, rows - 0.5, color="white", linewidth=0.8)


def _shrink(path: Path) -> None:
    """A palette of 64 colours, which such a picture does not exceed to the eye, at a third of the bytes."""
    from PIL import Image  # matplotlib depends on it

    with Image.open(path) as image:
        small = image.convert("RGB").quantize(64, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
