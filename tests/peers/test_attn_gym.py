"""Every mask and score function of the package attn-gym against the program that says the same, pair by pair.

With values that are unit vectors, one a key, the output is the matrix of weights: the package's function is evaluated
on the grid of all pairs, and softmax of what it makes of the scores must be that matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import attn_gym.masks as masks
import attn_gym.mods as mods
import numpy as np
import pytest
import torch

import irc

ROOT = Path(__file__).parents[2]
Function = Callable[..., torch.Tensor]
RNG = np.random.default_rng(3)
B, H = 2, 4


@dataclass(frozen=True)
class Twin:
    """`make` makes the package's function from our arguments `set`; `sizes` are those that no shape tells."""

    path: str
    make: Callable[[dict[str, Any]], Function]
    queries: int = 24
    keys: int = 24
    set: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    heads: int = H


def tensor(x: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(x))


def ints(*shape: int, high: int) -> np.ndarray:
    return RNG.integers(0, high, shape).astype(np.int32)


def z_order(side: int) -> dict[str, Any]:
    """Rows and columns along Morton's curve over a square of that side."""
    code = np.arange(side * side)
    row, column = (sum((code >> 2 * n + first & 1) << n for n in range(8)) for first in (1, 0))
    return {"row": np.asarray(row, np.int32), "column": np.asarray(column, np.int32), "Y": side, "X": side}


def tree() -> np.ndarray:
    return np.asarray(masks.build_tree_ancestor_matrix([-1, 0, 0, 1, 1, 2], device="cpu"))


OFFSETS = np.array([0, 7, 12, 18, 24], np.int32)
DOCUMENT = np.repeat(np.arange(4), np.diff(OFFSETS)).astype(np.int32)
ROOTS = np.array([0, 0, 2, 2], np.int32)
TILES = (
    np.stack([[RNG.permutation(4)[:2] for _ in range(4)] for _ in range(B * H)]).reshape(B, H, 4, 2).astype(np.int32)
)
FULL = np.array([6, 4, 6, 3], np.int32)
GLOBAL = np.isin(np.arange(24), (0, 11, 17))

MASKS = {
    "causal_mask": Twin("masks/causal", lambda v: masks.causal_mask),
    "generate_sliding_window": Twin(
        "masks/sliding", lambda v: masks.generate_sliding_window(v["window"] - 1), set={"window": 6}
    ),
    "generate_dilated_sliding_window": Twin(
        "masks/dilated_both",
        lambda v: masks.generate_dilated_sliding_window(v["r"], v["step"]),
        set={"r": 10, "step": 3},
    ),
    "generate_global_sliding_window": Twin(
        "masks/global_table",
        lambda v: masks.generate_global_sliding_window(v["r"], tensor(v["everywhere"])),
        set={"r": 2, "everywhere": GLOBAL},
    ),
    "generate_prefix_lm_mask": Twin(
        "masks/prefix",
        lambda v: masks.generate_prefix_lm_mask(int(v["prefix"][0])),
        set={"prefix": np.full(B, 7, np.int32)},
    ),
    "generate_block_diffusion_mask": Twin(
        "masks/block_diffusion",
        lambda v: masks.generate_block_diffusion_mask(12, v["block"]),
        set={"block": 4},
        sizes={"N": 12},
    ),
    "batchify_mask_mod": Twin(
        "masks/folded_batch", lambda v: masks.batchify_mask_mod(masks.causal_mask, v["length"]), set={"length": 8}
    ),
    "generate_doc_mask_mod": Twin(
        "masks/documents",
        lambda v: masks.generate_doc_mask_mod(masks.causal_mask, tensor(OFFSETS)),
        set={"doc": np.broadcast_to(DOCUMENT, (B, 24)).copy()},
    ),
    "generate_packed_causal_doc_mask_mod": Twin(
        "masks/documents",
        lambda v: masks.generate_packed_causal_doc_mask_mod(tensor(OFFSETS)),
        set={"doc": np.broadcast_to(DOCUMENT, (B, 24)).copy()},
    ),
    "generate_shared_prefix_mask_mod": Twin(
        "masks/shared_prefixes",
        lambda v: masks.generate_shared_prefix_mask_mod(tensor(OFFSETS), tensor(ROOTS)),
        set={"doc": DOCUMENT, "root": ROOTS},
    ),
    "generate_vision_cross_attention_mask_mod": Twin(
        "masks/image_intervals",
        lambda v: masks.generate_vision_cross_attention_mask_mod(
            torch.stack([tensor(v["first"]), tensor(v["last"])], 1), 6
        ),
        queries=18,
        set={"first": np.array([1, 4, 9, 14], np.int32), "last": np.array([9, 9, 17, 17], np.int32)},
        sizes={"N": 4, "P": 6},
    ),
    "generate_jetspec_tree_causal_mask_mod": Twin(
        "masks/tree",
        lambda v: masks.generate_jetspec_tree_causal_mask_mod(18, tensor(v["anc"])),
        queries=6,
        set={"anc": tree()},
    ),
    "generate_jetspec_training_mask_mod": Twin(
        "masks/draft_blocks",
        lambda v: masks.generate_jetspec_training_mask_mod(8, v["block"]),
        queries=16,
        set={"block": 4},
        sizes={"P": 8},
    ),
    "generate_natten": Twin(
        "masks/natten",
        lambda v: masks.generate_natten(6, 6, 2 * v["r"] + 1, 2 * v["r"] + 1),
        36,
        36,
        {"r": 1},
        {"Y": 6, "X": 6},
    ),
    "generate_tiled_natten": Twin(
        "masks/natten_tiles",
        lambda v: masks.generate_tiled_natten(9, 6, 2 * v["r"] + 1, 2 * v["r"] + 1, 3, 2),
        54,
        54,
        {"r": 1},
        {"Y": 3, "X": 3, "P": 2, "R": 3},
    ),
    "generate_morton_natten": Twin(
        "masks/natten_curve",
        lambda v: masks.generate_morton_natten(8, 8, 2 * v["r"] + 1, 2 * v["r"] + 1),
        64,
        64,
        {"r": 1, **z_order(8)},
    ),
    "generate_sta_mask_mod_2d": Twin(
        "masks/sliding_tiles",
        lambda v: masks.generate_sta_mask_mod_2d((6, 8), (4, 4), (2, 2), v["text"]),
        56,
        56,
        {"a": 1, "z": 0, "text": 5},
        {"Y": 3, "X": 4, "M": 4},
    ),
    "generate_sta_mask_mod_3d": Twin(
        "masks/sliding_tiles_video",
        lambda v: masks.generate_sta_mask_mod_3d((4, 6, 6), (3, 6, 6), (1, 2, 2), v["text"]),
        150,
        150,
        {"a": 1, "z": 1, "text": 4},
        {"T": 4, "Y": 3, "X": 3, "M": 4},
    ),
    "generate_spatial_head_mask_mod": Twin(
        "masks/video_near",
        lambda v: masks.generate_spatial_head_mask_mod(v["prompt"], 3, 7, 1, attn_sink=True, round_width=4),
        set={"prompt": 3, "first": 10, "width": 4},
    ),
    "generate_temporal_head_mask_mod": Twin(
        "masks/video_across",
        lambda v: masks.generate_temporal_head_mask_mod(v["prompt"], 3, v["frame"], 1),
        set={"prompt": 3, "frame": 7, "width": 2},
    ),
    "generate_vsa_mask_mod": Twin(
        "variants/topk_tiles",
        lambda v: masks.generate_vsa_mask_mod(tensor(v["top"]), 6, tensor(v["full"])),
        set={"top": TILES, "full": FULL},
        sizes={"N": 4, "M": 6},
    ),
}

SLOPES = 2.0 ** -(np.arange(1, H + 1) * 8.0 / H)
ADJACENT = torch.from_numpy(RNG.random((B, 24, 24)) < 0.1)
DISTANCE = np.asarray(mods.shortest_path_distances(ADJACENT, 4))
PATHS, HOPS = (np.asarray(x) for x in mods.shortest_path_edge_types(ADJACENT, tensor(ints(B, 24, 24, high=5)), 3))
SIMILARITY = np.cos(np.abs(np.arange(-23, 24))[:, None] / 10000 ** (2 * np.arange(64) / 128)).sum(-1)

SCORES = {
    "generate_alibi_bias": Twin("alibi", lambda v: mods.generate_alibi_bias(H), set={"slope": SLOPES}),
    "generate_tanh_softcap": Twin(
        "variants/softcap_learned", lambda v: mods.generate_tanh_softcap(2), set={"cap": np.full(H, 2.0)}
    ),
    "generate_sandwich_bias": Twin(
        "variants/sandwich",
        lambda v: mods.generate_sandwich_bias(H, 24),
        set={"similarity": SIMILARITY, "ratio": H / (8.0 * np.arange(1, H + 1))},
    ),
    "generate_graphormer_spatial_bias": Twin(
        "variants/graph_distances",
        lambda v: mods.generate_graphormer_spatial_bias(tensor(v["T"]), tensor(v["dist"])),
        set={"T": RNG.standard_normal((H, 6)), "dist": DISTANCE},
    ),
    "generate_graphormer_edge_bias": Twin(
        "variants/graph_edges",
        lambda v: mods.generate_graphormer_edge_bias(tensor(v["T"]), tensor(v["edge"]), tensor(v["hops"])),
        set={"T": RNG.standard_normal((H, 3, 5)), "edge": PATHS, "hops": HOPS},
    ),
}
CAUSAL = {"alibi", "variants/softcap_learned", "variants/sandwich"}


def on_grid(function: Function, shape: tuple[int, int, int, int], *score: torch.Tensor) -> torch.Tensor:
    """The function at every (b, h, i, j), with what it takes first as a tensor of that shape."""
    for axis in (3, 2, 1, 0):
        places = tuple(0 if at == axis else None for at in range(4))
        function = torch.vmap(function, in_dims=(0,) * len(score) + places)
    return function(*score, *(torch.arange(n) for n in shape))


def weights(twin: Twin, q: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Our weights [B,H,i,j]."""
    unit = np.broadcast_to(np.eye(twin.keys), (B, twin.heads, twin.keys, twin.keys)).copy()
    program = irc.compile(ROOT / "examples" / f"{twin.path}.attn", sizes=twin.sizes, target="reference")
    return np.asarray(program.forward(q=q, k=k, v=unit, **twin.set).outputs["o"])


def operands(twin: Twin) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    return rng.standard_normal((B, H, twin.queries, twin.keys)), rng.standard_normal((B, H, twin.keys, twin.keys))


@pytest.mark.parametrize("name", MASKS)
def test_mask(name: str) -> None:
    twin = MASKS[name]
    ours = weights(twin, *operands(twin))
    theirs = on_grid(twin.make(twin.set), ours.shape).numpy()
    assert np.array_equal(ours > 0, np.broadcast_to(theirs, ours.shape))


@pytest.mark.parametrize("name", SCORES)
def test_score(name: str) -> None:
    twin = SCORES[name]
    q, k = operands(twin)
    score = tensor(q @ np.swapaxes(k, -1, -2) / np.sqrt(twin.keys))
    changed = on_grid(twin.make(twin.set), tuple(score.shape), score)
    if twin.path in CAUSAL:
        changed = changed.masked_fill(~torch.ones(24, 24, dtype=torch.bool).tril(), -torch.inf)
    assert np.allclose(weights(twin, q, k), torch.softmax(changed, -1), rtol=1e-4, atol=1e-6)  # their biases are f32


def test_latent_attention() -> None:
    """`generate_mla_rope_score_mod`: an identity expands the latent vectors, so that all heads share the keys."""
    rng = np.random.default_rng(5)
    q, qr = rng.standard_normal((2, B, H, 24, 24))
    latent, kr = np.broadcast_to(np.eye(24), (B, 24, 24)).copy(), rng.standard_normal((B, 24, 24))
    expand = np.tile(np.eye(24), H)
    program = irc.compile(ROOT / "examples/variants/latent_expanded.attn", sizes={"H": H}, target="reference")
    ours = program.forward(q=q, qr=qr, latent=latent, kr=kr, Wk=expand, Wv=expand).outputs["o"]
    function = mods.generate_mla_rope_score_mod(tensor(qr), tensor(kr[:, None]), H, scale=1 / np.sqrt(48))
    changed = on_grid(function, (B, H, 24, 24), tensor(q / np.sqrt(48)))
    expected = torch.softmax(changed.masked_fill(~torch.ones(24, 24, dtype=torch.bool).tril(), -torch.inf), -1)
    assert np.allclose(ours, expected, atol=1e-12)


def test_activation_in_place_of_softmax() -> None:
    rng = np.random.default_rng(6)
    q, k, v = rng.standard_normal((3, B, H, 24, 8))
    ours = irc.compile(ROOT / "examples/variants/gelu.attn", target="reference").forward(q=q, k=k, v=v).outputs["o"]
    score = tensor(q @ np.swapaxes(k, -1, -2) / np.sqrt(8))
    changed = on_grid(mods.generate_activation_score_mod(), tuple(score.shape), score)
    out, lse = torch.softmax(changed, -1) @ tensor(v), torch.logsumexp(changed, -1)
    expected = mods.undo_softmax(out, lse, tensor(v).sum(-2, keepdim=True))
    assert np.allclose(ours, expected, atol=1e-12)


def test_page_names_every_function() -> None:
    page = (ROOT / "docs" / "attn_gym.md").read_text(encoding="utf-8")
    for module in (masks, mods):
        for name in dir(module):
            if callable(getattr(module, name)) and not name.startswith("_"):
                assert f"`{name}`" in page, name
    for name, twin in {**MASKS, **SCORES}.items():
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{name}`")]
        assert f"(../examples/{twin.path}.attn)" in line, name
