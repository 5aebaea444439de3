"""The masks of examples/masks once more, by dense numpy formulas of their own, and arguments to try them on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from irc.grammar.source import Source
from irc.graph.ir import Graph
from irc.pipeline import front

FOLDER = Path(__file__).parent.parent / "examples" / "masks"
Array = np.ndarray[Any, Any]
Values = dict[str, Any]
Rng = np.random.Generator
Formula = Callable[[Values, Array, Array], Array]


@dataclass(frozen=True)
class Case:
    """`values` draws the scalars and tables for given sizes; `formula` says of rows i [Sq,1] and columns j [Sk], as
    flattened positions, which pairs are allowed, [Sq,Sk] or with batch and head in front."""

    formula: Formula
    sizes: dict[str, int]
    values: Callable[[Rng, Values], Values] = lambda rng, s: {}


SELF = {"B": 2, "H": 2, "S": 37, "D": 8}
CACHE = {"B": 2, "H": 2, "Sq": 21, "Sk": 37, "D": 8}
IMAGE = {"B": 1, "H": 2, "Y": 6, "X": 7, "D": 8}


def whole(rng: Rng, low: int, high: int, shape: tuple[int, ...] = ()) -> Array:
    """Uniform in low … high, both included."""
    return np.asarray(rng.integers(low, high + 1, shape), np.int32)


def pairs(table: Array) -> tuple[Array, Array]:
    """A vector a batch entry [B,S] as rows [B,1,S,1] and as columns [B,1,1,S]."""
    return table[:, None, :, None], table[:, None, None, :]


def documents(v: Values, i: Array, j: Array) -> Array:
    mine, other = pairs(v["doc"])
    return (mine == other) & (j <= i)


def groups(v: Values, i: Array, j: Array) -> Array:
    mine, other = pairs(v["group"])
    return mine == other


def packed(v: Values, i: Array, j: Array) -> Array:
    entry = v["entry"]
    return (entry[:, None] == entry) & (j <= i) & (i - j < v["window"])


def offsets(rng: Rng, count: int, total: int) -> Array:
    """Where `count` sequences of random lengths begin, and where the last one ends."""
    return np.asarray([0, *np.sort(rng.integers(0, total + 1, count - 1)), total], np.int32)


def sequence(table: Array, length: int) -> Array:
    """The number of the sequence of each token."""
    return np.repeat(np.arange(len(table) - 1), np.diff(table))[:length]


def packed_offsets(v: Values, i: Array, j: Array) -> Array:
    mine = sequence(v["cu"], v["T"])
    return (mine[:, None] == mine) & (j <= i)


def packed_cache(v: Values, i: Array, j: Array) -> Array:
    """Tokens that are as far from the end of their sequence, or further, than the query is."""
    mine, other = sequence(v["cu_q"], v["Tq"])[:, None], sequence(v["cu_k"], v["Tk"])
    return (mine == other) & (v["cu_k"][other + 1] - j >= v["cu_q"][mine + 1] - i)


def packed_cross(v: Values, i: Array, j: Array) -> Array:
    return sequence(v["cu_q"], v["Tq"])[:, None] == sequence(v["cu_k"], v["Tk"])


def packed_prefix(v: Values, i: Array, j: Array) -> Array:
    mine = sequence(v["cu"], v["T"])
    within = np.concatenate([np.arange(n) for n in np.diff(v["cu"])])
    return (mine[:, None] == mine) & ((j <= i) | (within < v["prefix"][mine]))


def two_tables(rng: Rng, s: Values) -> Values:
    """Every sequence has as many keys as queries, or more."""
    queries = offsets(rng, s["N"], s["Tq"])
    return {"cu_q": queries, "cu_k": queries + offsets(rng, s["N"], s["Tk"] - s["Tq"])}


def no_sequence_empty(rng: Rng, s: Values) -> Values:
    ends = np.sort(rng.permutation(s["Tk"] - 1)[: s["N"] - 1] + 1)
    return {"cu_q": offsets(rng, s["N"], s["Tq"]), "cu_k": np.asarray([0, *ends, s["Tk"]], np.int32)}


def shared_prefix(v: Values, i: Array, j: Array) -> Array:
    mine, other = pairs(v["branch"])
    return (j <= i) & ((j < v["prompt"]) | (mine == other))


def image_text(v: Values, i: Array, j: Array) -> Array:
    image, seen = j // v["patches"], v["seen"][:, None, :, None]
    return (image <= seen) & (image > seen - v["window"])


def neighbourhood(v: Values, i: Array, j: Array) -> Array:
    (yi, xi), (yj, xj) = np.divmod(i, v["X"]), np.divmod(j, v["X"])
    return np.maximum(abs(yi - yj), abs(xi - xj)) <= v["r"]


def natten(v: Values, i: Array, j: Array) -> Array:
    """By the first pixel of the window, as the paper has it."""
    inside = True
    for mine, other, length in zip(np.divmod(i, v["X"]), np.divmod(j, v["X"]), (v["Y"], v["X"]), strict=True):
        first = np.minimum(np.maximum(mine - v["r"], 0), length - (2 * v["r"] + 1))
        inside = inside & (other >= first) & (other < first + 2 * v["r"] + 1)
    return np.asarray(inside)


def natten_tiled(v: Values, i: Array, j: Array) -> Array:
    (yi, xi), (yj, xj) = np.divmod(i, v["X"]), np.divmod(j, v["X"])
    return np.maximum(abs(yi // v["t"] - yj // v["t"]), abs(xi // v["t"] - xj // v["t"])) <= v["r"]


def volume(v: Values, i: Array, j: Array) -> Array:
    frame = v["Y"] * v["X"]
    near = neighbourhood(v, i % frame, j % frame)
    return near & (j // frame <= i // frame) & (i // frame - j // frame <= v["r"])


def block_diffusion(v: Values, i: Array, j: Array) -> Array:
    n = v["N"]
    mine, other = i % n // v["block"], j % n // v["block"]
    noisy, from_noisy = i < n, j < n
    return np.where(from_noisy, noisy & (mine == other), np.where(noisy, other < mine, other <= mine))


def tree(v: Values, i: Array, j: Array) -> Array:
    before = v["S"] - v["T"]
    return np.concatenate([np.ones((v["T"], before), bool), v["anc"]], axis=1)


def ancestors(rng: Rng, v: Values) -> Values:
    """A random tree: each draft has an earlier one, or the text, as its parent."""
    seen = np.eye(v["T"], dtype=bool)
    for node in range(1, v["T"]):
        parent = int(rng.integers(-1, node))
        if parent >= 0:
            seen[node] |= seen[parent]
    return {"anc": seen}


def topk_blocks(v: Values, i: Array, j: Array) -> Array:
    chosen = np.zeros((*v["top"].shape[:3], v["M"]), bool)
    np.put_along_axis(chosen, v["top"], True, axis=-1)
    return (j <= i) & chosen[:, :, i[:, 0] // 8][..., j // 8]


def different(rng: Rng, s: Values) -> Values:
    shape = (s["B"], s["H"], s["M"], s["M"])
    return {"top": rng.permuted(np.broadcast_to(np.arange(s["M"], dtype=np.int32), shape), axis=-1)[..., : s["K"]]}


def window_start(at: Array, before: int, after: int, length: int) -> Array:
    """The first of `before + 1 + after` places around `at`, moved inwards at the border."""
    return np.minimum(np.maximum(at - before, 0), length - before - after - 1)


def natten_tiles(v: Values, i: Array, j: Array) -> Array:
    """Coordinates of all tokens in the order in which they lie, then as in `natten`."""
    y, x, p, u = np.indices((v["Y"], v["X"], v["P"], v["R"])).reshape(4, -1)
    return curve(v | {"row": y * v["P"] + p, "column": x * v["R"] + u}, (v["Y"] * v["P"], v["X"] * v["R"]))


def curve(v: Values, extents: tuple[int, int]) -> Array:
    inside = True
    for table, length in zip((v["row"], v["column"]), extents, strict=True):
        first = window_start(table, v["r"], v["r"], length)[:, None]
        inside = inside & (table >= first) & (table <= first + 2 * v["r"])
    return np.asarray(inside)


def sliding_tiles(v: Values, i: Array, j: Array) -> Array:
    extents = tuple(v[n] for n in ("T", "Y", "X") if n in v)
    image = int(np.prod(extents)) * v["M"]
    inside = True
    for mine, other, length in zip(
        *(np.unravel_index(np.minimum(x // v["M"], image // v["M"] - 1), extents) for x in (i, j)), extents, strict=True
    ):
        first = window_start(mine, v["a"], v["z"], length)
        inside = inside & (other >= first) & (other <= first + v["a"] + v["z"])
    return (j < image + v["text"]) & ((i >= image) | (j >= image) | inside)


def video_across(v: Values, i: Array, j: Array) -> Array:
    place = (np.arange(v["S"]) - v["prompt"]) % v["frame"]
    near = abs(place[:, None] - place) < v["width"]
    near[: v["prompt"]] = near[:, : v["prompt"]] = True
    return near


def shared_prefixes(v: Values, i: Array, j: Array) -> Array:
    doc, root = v["doc"], v["root"][v["doc"]]
    own = (doc[:, None] == doc) & (j <= i)
    return own | ((doc != root)[:, None] & (doc == root[:, None]))


def rollouts(rng: Rng, s: Values) -> Values:
    """Documents of random lengths, each continuing itself or an earlier prompt."""
    root = np.arange(s["N"], dtype=np.int32)
    root[1::2] = 0
    return {"doc": np.sort(whole(rng, 0, s["N"] - 1, (s["S"],))), "root": root}


CASES: dict[str, Case] = {
    "block_causal": Case(lambda v, i, j: j < (i // v["block"] + 1) * v["block"], SELF, lambda r, s: {"block": 6}),
    "block_diagonal": Case(lambda v, i, j: i // v["block"] == j // v["block"], SELF, lambda r, s: {"block": 6}),
    "block_diffusion": Case(block_diffusion, {"B": 1, "H": 2, "N": 19, "D": 8}, lambda r, s: {"block": 4}),
    "causal": Case(lambda v, i, j: j <= i, SELF),
    "causal_cache": Case(lambda v, i, j: j <= i + v["Sk"] - v["Sq"], CACHE),
    "dilated": Case(
        lambda v, i, j: np.isin(i - j, v["step"] * np.arange(v["count"])), SELF, lambda r, s: {"step": 3, "count": 4}
    ),
    "documents": Case(documents, SELF, lambda r, s: {"doc": np.sort(whole(r, 0, 3, (s["B"], s["S"])))}),
    "folded_batch": Case(
        lambda v, i, j: (j <= i) & (i // v["length"] == j // v["length"]), SELF, lambda r, s: {"length": 9}
    ),
    "given": Case(
        lambda v, i, j: v["seen"][..., i, j] & (j <= i + 16),
        CACHE,
        lambda r, s: {"seen": r.random((s["B"], 1, s["Sq"], s["Sk"])) < 0.6},
    ),
    "global_tokens": Case(
        lambda v, i, j: (np.minimum(i, j) < v["g"]) | (abs(i - j) <= v["r"]), SELF, lambda r, s: {"r": 3, "g": 2}
    ),
    "groups": Case(groups, SELF, lambda r, s: {"group": whole(r, 0, 3, (s["B"], s["S"]))}),
    "head_windows": Case(
        lambda v, i, j: (j <= i) & (i < j + v["w"][:, None, None]), SELF, lambda r, s: {"w": whole(r, 1, 9, (s["H"],))}
    ),
    "image_text": Case(
        image_text, CACHE, lambda r, s: {"patches": 5, "window": 2, "seen": whole(r, 0, 6, (s["B"], s["Sq"]))}
    ),
    "local": Case(lambda v, i, j: (i <= j + v["r"]) & (j <= i + v["r"]), SELF, lambda r, s: {"r": 4}),
    "lookahead": Case(lambda v, i, j: j - i <= v["ahead"], SELF, lambda r, s: {"ahead": 3}),
    "natten": Case(natten, IMAGE, lambda r, s: {"r": 2}),
    "natten_tiled": Case(natten_tiled, IMAGE, lambda r, s: {"t": 2, "r": 1}),
    "neighbourhood": Case(neighbourhood, IMAGE, lambda r, s: {"r": 2}),
    "packed": Case(
        packed,
        {"T": 37, "N": 4, "H": 2, "D": 8},
        lambda r, s: (
            {"entry": np.repeat([0, 1, 2, 3], [9, 1, 15, 12]).astype(np.int32)[: s["T"]]}
            | {"start": np.asarray([0, 9, 10, 25], np.int32), "window": 6}
        ),
    ),
    "packed_cache": Case(packed_cache, {"Tq": 21, "Tk": 37, "N": 4, "H": 2, "D": 8}, two_tables),
    "packed_cross": Case(packed_cross, {"Tq": 21, "Tk": 37, "N": 4, "H": 2, "D": 8}, no_sequence_empty),
    "packed_offsets": Case(
        packed_offsets, {"T": 37, "N": 4, "H": 2, "D": 8}, lambda r, s: {"cu": offsets(r, s["N"], s["T"])}
    ),
    "packed_prefix": Case(
        packed_prefix,
        {"T": 37, "N": 4, "H": 2, "D": 8},
        lambda r, s: {"cu": offsets(r, s["N"], s["T"]), "prefix": whole(r, 0, 9, (s["N"],))},
    ),
    "padding": Case(
        lambda v, i, j: j < v["len"][:, None, None, None], SELF, lambda r, s: {"len": whole(r, 1, s["S"], (s["B"],))}
    ),
    "prefix": Case(
        lambda v, i, j: j < np.maximum(i + 1, v["prefix"][:, None, None, None]),
        SELF,
        lambda r, s: {"prefix": whole(r, 0, s["S"] // 2, (s["B"],))},
    ),
    "ring": Case(
        lambda v, i, j: v["column"][j] <= v["row"][i],
        CACHE,
        lambda r, s: {
            "row": np.r_[10:20, 80:91].astype(np.int32),
            "column": np.r_[0:10, 90:100, 20:37].astype(np.int32),
        },
    ),
    "shared_prefix": Case(shared_prefix, SELF, lambda r, s: {"prompt": 7, "branch": whole(r, 0, 2, (s["B"], s["S"]))}),
    "sink_window": Case(
        lambda v, i, j: (
            np.where(j < v["sinks"], j <= i + v["Sk"] - v["Sq"], (j - i - v["Sk"] + v["Sq"]) % 1000 > 994)
            | (j == i + v["Sk"] - v["Sq"])
        ),
        CACHE,
        lambda r, s: {"sinks": 2, "window": 6},
    ),
    "sliding": Case(
        lambda v, i, j: np.isin(i + v["Sk"] - v["Sq"] - j, np.arange(v["window"])), CACHE, lambda r, s: {"window": 6}
    ),
    "strided": Case(
        lambda v, i, j: (j <= i) & ((i < j + v["stride"]) | np.isin(i - j, v["stride"] * np.arange(99))),
        SELF,
        lambda r, s: {"stride": 5},
    ),
    "topk_blocks": Case(topk_blocks, {"B": 2, "H": 2, "S": 40, "M": 5, "K": 3, "D": 8}, different),
    "tree": Case(tree, {"B": 2, "H": 2, "T": 12, "S": 37, "D": 8}, ancestors),
    "volume": Case(volume, {"B": 1, "H": 2, "T": 4, "Y": 3, "X": 4, "D": 8}, lambda r, s: {"r": 1}),
    "dilated_both": Case(
        lambda v, i, j: np.isin(i - j, np.arange(0, v["r"] + 1, v["step"]) * np.array([[1], [-1]])),
        SELF,
        lambda r, s: {"step": 3, "r": 10},
    ),
    "draft_blocks": Case(
        lambda v, i, j: (j < v["P"]) | ((j - v["P"] <= i) & (j - v["P"] >= i - i % v["block"])),
        {"B": 2, "H": 2, "P": 11, "S": 21, "D": 8},
        lambda r, s: {"block": 4},
    ),
    "global_table": Case(
        lambda v, i, j: v["everywhere"][:, None] | v["everywhere"] | (abs(i - j) <= v["r"]),
        SELF,
        lambda r, s: {"r": 3, "everywhere": r.random(s["S"]) < 0.1},
    ),
    "image_intervals": Case(
        lambda v, i, j: (i >= np.repeat(v["first"], v["P"])) & (i < np.repeat(v["last"], v["P"])),
        {"B": 2, "H": 2, "S": 37, "N": 4, "P": 5, "D": 8},
        lambda r, s: {
            "first": np.arange(s["N"], dtype=np.int32) * 9 + 2,
            "last": np.arange(s["N"], dtype=np.int32) * 9 + whole(r, 4, 20, (s["N"],)),
        },
    ),
    "natten_curve": Case(
        lambda v, i, j: curve(v, (v["Y"], v["X"])),
        SELF,
        lambda r, s: {"Y": 6, "X": 7, "r": 2, "row": whole(r, 0, 5, (s["S"],)), "column": whole(r, 0, 6, (s["S"],))},
    ),
    "natten_tiles": Case(natten_tiles, {"B": 1, "H": 2, "Y": 2, "X": 3, "P": 3, "R": 2, "D": 8}, lambda r, s: {"r": 2}),
    "shared_prefixes": Case(shared_prefixes, SELF | {"N": 5}, rollouts),
    "sliding_tiles": Case(
        sliding_tiles,
        {"B": 1, "H": 2, "Y": 3, "X": 4, "M": 4, "S": 55, "D": 8},
        lambda r, s: {"a": 1, "z": 0, "text": 5},
    ),
    "sliding_tiles_video": Case(
        sliding_tiles,
        {"B": 1, "H": 2, "T": 4, "Y": 3, "X": 3, "M": 2, "S": 80, "D": 8},
        lambda r, s: {"a": 1, "z": 1, "text": 6},
    ),
    "video_across": Case(video_across, SELF, lambda r, s: {"prompt": 4, "frame": 8, "width": 2}),
    "video_near": Case(
        lambda v, i, j: (np.minimum(i, j) < v["prompt"]) | (j < v["first"]) | (abs(i - j) < v["width"]),
        SELF,
        lambda r, s: {"prompt": 4, "first": 9, "width": 6},
    ),
}


def graph(name: str) -> Graph:
    path = FOLDER / f"{name}.attn"
    return front(Source(str(path), path.read_text()))


def allowed(name: str, sizes: dict[str, int], values: Values, queries: int, keys: int) -> Array:
    """[B, H, queries, keys] (or with leading 1s), by the formula."""
    found = np.asarray(CASES[name].formula({**sizes, **values}, np.arange(queries)[:, None], np.arange(keys)), bool)
    return found.reshape((1,) * (4 - found.ndim) + found.shape)
