"""The tiles that kernels visit for every mask of the gallery, in both orders, against those that hold a pair.

Brute force over all small sizes, random larger ones, several shapes of tile; tables are drawn anew each time.
"""

from __future__ import annotations

from functools import cache
from itertools import cycle, product
from math import prod
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from irc.codegen.expr import Index, integer, substitute
from irc.codegen.kernel import Side
from irc.graph.interpret import complete_sizes, evaluate, grid
from irc.graph.ir import Graph, Reduce
from irc.mask.analyse import Analysis, analyse
from irc.mask.visits import EMPTY, FULL, Visits
from tests.masks import CASES, FOLDER, graph

NAMES = sorted(path.stem for path in FOLDER.glob("*.attn"))
FIXED = {  # sizes that the case's own tables and scalars have
    "packed": ("T", "N"),
    "packed_cache": ("N",),
    "packed_cross": ("N",),
    "packed_offsets": ("N",),
    "packed_prefix": ("N",),
    "ring": ("Sq", "Sk"),
    "shared_prefixes": ("N",),
    "sliding_tiles": ("Y", "X", "M", "S"),
    "sliding_tiles_video": ("T", "Y", "X", "M", "S"),
    "natten_tiles": ("Y", "X"),
}
LONG = {"S": 700, "Sq": 300, "Sk": 700, "Tq": 300, "Tk": 700, "N": 350, "M": 80, "T": 60, "Y": 26, "X": 26}
LONGER = {"packed_offsets": {"T": 700}, "packed_prefix": {"T": 700}}  # where T are all tokens, and no frames
LOOSE = {"dilated": 1.05, "strided": 1.05, "neighbourhood": 1.05, "natten": 1.05, "natten_tiled": 1.05, "volume": 1.05}
"""Visited tiles over needed ones, at most, on large sizes; 1 for the others."""
UNBOUNDED = {
    "groups",
    "shared_prefix",
    "shared_prefixes",
    "topk_blocks",
    "tree",
    "image_text",
}  # tables of arbitrary entries


@cache
def core(name: str) -> tuple[Graph, Reduce]:
    of = graph(name)
    return of, next(n for n in of if isinstance(n, Reduce) and n.op == "logsumexp")


@cache
def analysis(name: str, walked: Side) -> Analysis:
    of, node = core(name)
    rows = tuple(a for a in node.axes if a.role == "row")
    assert node.where is not None
    return analyse(node.where, rows, node.over, walked, of.facts)


def counted(name: str, walked: Side, sizes: dict[str, int], tile: tuple[int, int], rng: np.random.Generator) -> Any:
    """(needed tiles, visited tiles), after asserting that no verdict is wrong."""
    of, node = core(name)
    known = complete_sizes(of, sizes)
    values = {n: np.asarray(v) for n, v in CASES[name].values(rng, dict(known)).items()}
    rows = tuple(a for a in node.axes if a.role == "row")
    point = {a.name: int(rng.integers(known[a.size.name])) for a in node.axes if not a.role}  # type: ignore[union-attr]
    tiles: dict[Side, int] = {"row": tile[0], "column": tile[1]}
    units: dict[Side, int] = {"row": max(tile[0] // 2, 1), "column": max(tile[1] // 8, 1)}
    axes: dict[Side, Any] = {"row": rows, "column": node.over}
    visits = Visits(analysis(name, walked), axes, walked, known, values, point, tiles, units)
    states = visits.states()
    allowed = pairs(node, rows, values, known, point)
    needed = 0
    for r, c in np.ndindex(states.shape):
        inside = allowed[r * tile[0] : (r + 1) * tile[0], c * tile[1] : (c + 1) * tile[1]]
        needed += bool(inside.any())
        assert states[r, c] != EMPTY or not inside.any(), (known, values, r, c)
        assert states[r, c] != FULL or inside.all(), (known, values, r, c)
    return needed, int((states != EMPTY).sum())


def pairs(node: Reduce, rows: Any, values: Any, sizes: Any, point: dict[str, int]) -> NDArray[np.bool_]:
    assert node.where is not None
    places = grid((*rows, *node.over), values, sizes)
    support = substitute(node.where, {Index(n): integer(at) for n, at in point.items()})
    return np.broadcast_to(evaluate(support, places), places.shape).reshape(prod(places.shape[: len(rows)]), -1)


def of_tokens(name: str) -> list[str]:
    """The sizes along tokens that may be any."""
    return [size for size in LONG if size in CASES[name].sizes and size not in FIXED.get(name, ())]


def settled(name: str, tokens: dict[str, int]) -> dict[str, int] | None:
    """All sizes of the case with these along tokens; None where the program refuses them."""
    sizes = CASES[name].sizes | tokens
    if name == "topk_blocks":
        sizes |= {"S": 8 * sizes["M"], "K": min(3, sizes["M"])}
    fits = sizes.get("Sq", 0) <= sizes.get("Sk", sizes.get("Sq", 0)) and sizes.get("T", 0) <= sizes.get("S", 999)
    fits = fits and sizes.get("Tq", 0) <= sizes.get("Tk", sizes.get("Tq", 0))
    fits = fits and (name != "packed_cross" or sizes["N"] <= sizes["Tk"])
    return sizes if (fits or name == "volume") and (name != "natten" or min(sizes["Y"], sizes["X"]) >= 5) else None


@pytest.mark.parametrize("walked", ["row", "column"])
@pytest.mark.parametrize("name", NAMES)
def test_no_pair_is_missed_for_any_small_size(name: str, walked: Side) -> None:
    rng = np.random.default_rng(1)
    names = of_tokens(name)
    most = {0: 1, 1: 10, 2: 6, 3: 3}[len(names)]
    shapes = cycle(((1, 1), (2, 3), (4, 2), (3, 8)))
    for extents in product(range(1, most + 1), repeat=len(names)):
        sizes = settled(name, dict(zip(names, extents, strict=True)))
        if sizes is not None:
            counted(name, walked, sizes, next(shapes), rng)


@pytest.mark.parametrize("walked", ["row", "column"])
@pytest.mark.parametrize("name", NAMES)
def test_visited_tiles_are_the_needed_ones(name: str, walked: Side) -> None:
    rng = np.random.default_rng(2)
    for tile in ((64, 64), (48, 96), (96, 192)):
        longest = LONG | LONGER.get(name, {})
        tokens = {size: int(rng.integers(longest[size] // 2, longest[size])) for size in of_tokens(name)}
        sizes = settled(name, tokens)
        assert sizes is not None
        needed, visited = counted(name, walked, sizes, tile, rng)
        assert needed <= visited
        if name not in UNBOUNDED:
            assert visited <= LOOSE.get(name, 1) * needed, (tile, needed, visited)
