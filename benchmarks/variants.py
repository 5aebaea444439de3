"""The variants measured: each once as lines of irc, once as functions of array indices that every peer is given.

`allowed` and `score` take the indices of batch, head, query and key and a mapping of tables, and work alike on numpy,
torch and jax arrays that broadcast, and on the scalars that FlexAttention passes. `pairs` counts the allowed pairs of
one head, over the whole batch, in closed form; useful work is counted by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

WINDOW = 256
CAP = 30.0
DOCUMENTS = 8

Array = np.ndarray[Any, Any]
Tables = Mapping[str, Any]
At = tuple[Any, Any, Any, Any]  # batch, head, query, key
Allowed = Callable[[At, Tables], Any]
Score = Callable[[Any, At, Tables, Any], Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """Batch, query heads, tokens, width."""

    batch: int
    heads: int
    tokens: int
    width: int

    def __str__(self) -> str:
        return f"({self.batch},{self.heads},{self.tokens},{self.width})"


@dataclass(frozen=True, slots=True)
class Variant:
    """A mask and a change of the score.

    declare, core: lines of irc, before the core and between `scale` and `softmax`. allowed: whether the pair exists
    (None: every pair does). score: the score (after the scale) changed; its last argument is the array library, for
    `tanh` (None: unchanged). additive: `score` only adds to the score, so that it can be written as a dense bias.
    tables: what `declare` declares, as float32 or int32. learned: those of them that receive a gradient.
    """

    name: str
    pairs: Callable[[Shape, Mapping[str, Array]], int]
    declare: str = ""
    core: str = ""
    allowed: Allowed | None = None
    score: Score | None = None
    additive: bool = False
    tables: Callable[[Shape, np.random.Generator], dict[str, Array]] = lambda shape, rng: {}
    learned: tuple[str, ...] = ()

    def spec(self) -> str:
        """The program in irc."""
        return SPEC.format(declare=self.declare, core=self.core)


SPEC = """
attention core {{
  size  B, H, S, D
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]
  {declare}
  core o[b,h,i,d] {{
    score  q[b,h,i,c] * k[b,h,j,c]
    scale  1 / sqrt(D)
    {core}
    softmax j
    matmul v[b,h,j,d]
  }}
  return o
}}
"""


def triangle(n: int) -> int:
    return n * (n + 1) // 2


def _lower(at: At, tables: Tables) -> Any:
    _, _, i, j = at
    return j <= i


def _window(at: At, tables: Tables) -> Any:
    _, _, i, j = at
    return (j <= i) & (i - j < WINDOW)


def _documents(at: At, tables: Tables) -> Any:
    b, _, i, j = at
    return (j <= i) & (tables["doc"][b, i] == tables["doc"][b, j])


def _alibi(s: Any, at: At, tables: Tables, library: Any) -> Any:
    _, h, i, j = at
    return s + tables["slope"][h] * (j - i)


def _softcap(s: Any, at: At, tables: Tables, library: Any) -> Any:
    return CAP * library.tanh(s / CAP)


def _relative(s: Any, at: At, tables: Tables, library: Any) -> Any:
    _, h, i, j = at
    table = tables["table"]
    return s + table[h, i - j + table.shape[1] // 2]


def _ids(shape: Shape, rng: np.random.Generator) -> dict[str, Array]:
    """Documents of unlike lengths, the same number in every batch entry."""
    count = min(DOCUMENTS, shape.tokens)
    ids = np.zeros((shape.batch, shape.tokens), np.int32)
    for row in ids:
        row[rng.choice(np.arange(1, shape.tokens), count - 1, replace=False)] = 1
    return {"doc": ids.cumsum(1, dtype=np.int32)}


def _slopes(shape: Shape, rng: np.random.Generator) -> dict[str, Array]:
    """Those of the paper (Press, Smith and Lewis 2022): a geometric sequence that ends at 2^-8."""
    return {"slope": 2 ** (np.arange(1, shape.heads + 1, dtype=np.float32) * (-8 / shape.heads))}


def _distances(shape: Shape, rng: np.random.Generator) -> dict[str, Array]:
    return {"table": rng.standard_normal((shape.heads, 2 * shape.tokens - 1)).astype(np.float32)}


def _triangles(shape: Shape, tables: Mapping[str, Array]) -> int:
    return shape.batch * triangle(shape.tokens)


def _window_pairs(shape: Shape, tables: Mapping[str, Array]) -> int:
    return shape.batch * (triangle(shape.tokens) - triangle(max(0, shape.tokens - WINDOW)))


def _document_pairs(shape: Shape, tables: Mapping[str, Array]) -> int:
    return sum(triangle(int(n)) for row in tables["doc"] for n in np.bincount(row))


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("full", lambda shape, tables: shape.batch * shape.tokens**2),
        Variant("causal", _triangles, core="allow  j <= i", allowed=_lower),
        Variant("window", _window_pairs, core=f"allow  j <= i and i - j < {WINDOW}", allowed=_window),
        Variant(
            "alibi",
            _triangles,
            declare="param slope[H]",
            core="bias   slope[h] * (j - i)\n    allow  j <= i",
            allowed=_lower,
            score=_alibi,
            additive=True,
            tables=_slopes,
            learned=("slope",),
        ),
        Variant(
            "softcap",
            _triangles,
            core=f"map    {CAP} * tanh(score / {CAP})\n    allow  j <= i",
            allowed=_lower,
            score=_softcap,
        ),
        Variant(
            "documents",
            _document_pairs,
            declare="input doc[B,S]: int\n  assume nondecreasing doc[b,s] over s",
            core="allow  j <= i and doc[b,i] == doc[b,j]",
            allowed=_documents,
            tables=_ids,
        ),
        Variant(
            "relative",
            _triangles,
            declare="param table[H, 2 * S - 1]",
            core="bias   table[h, i - j + S - 1]\n    allow  j <= i",
            allowed=_lower,
            score=_relative,
            additive=True,
            tables=_distances,
            learned=("table",),
        ),
    )
}
