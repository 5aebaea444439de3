"""What is measured: cases, their operands, their useful work."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import ml_dtypes
import numpy as np

from benchmarks.variants import VARIANTS, Array, Shape, Variant

Pass = Literal["forward", "backward", "forward+backward", "decode"]
Dtype = Literal["f32", "bf16", "f16"]
PASSES: tuple[Pass, ...] = ("forward", "backward", "forward+backward")
DTYPES: Mapping[str, np.dtype[Any]] = {
    "f32": np.dtype(np.float32),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f16": np.dtype(np.float16),
}
PRODUCTS = {"forward": 2, "backward": 5, "forward+backward": 7}  # matrix products of which each costs 2 D a pair

MAIN = Shape(1, 8, 2048, 64)
SHAPES = (
    MAIN,
    Shape(1, 8, 1024, 64),
    Shape(1, 8, 2048, 128),
    Shape(1, 4, 4096, 64),
    Shape(4, 12, 512, 64),
    Shape(1, 8, 1000, 80),
    Shape(2, 6, 1537, 96),
)
DECODE_HEADS, DECODE_GROUPS, DECODE_WIDTH = 32, 8, 128
DECODE_BATCHES = (1, 4, 16)
DECODE_KEYS = (4096, 16384)
DECODE_CACHED = 2 * DECODE_GROUPS * DECODE_WIDTH  # elements of a token
DECODE_MOST = 2**30  # bytes of keys and values: some peers copy them, one to four times over


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table: a variant at a shape, an element type, a pass, a number of threads.

    Of a decode step (`work` is "decode"), `shape` is (batch, query heads, keys, width), and one new token attends to
    all keys, in groups of four query heads.
    """

    variant: str
    work: Pass
    dtype: Dtype
    shape: Shape
    threads: int

    @property
    def name(self) -> str:
        """What `--only` selects by, and the key of a stored result."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        what = self.work if self.work == "decode" else f"{self.variant} {self.work}"
        return f"{what} {self.dtype} {self.shape} {threads}"

    @property
    def decodes(self) -> bool:
        return self.work == "decode"


@dataclass(frozen=True)
class Problem:
    """A case's operands as numpy arrays, the same for everyone; made when first asked for."""

    case: Case
    seed: int = 0

    @property
    def variant(self) -> Variant:
        return VARIANTS[self.case.variant]

    @property
    def scale(self) -> float:
        return 1 / math.sqrt(self.case.shape.width)

    @cached_property
    def operands(self) -> dict[str, Array]:
        """q, k, v, and the output's cotangent g: [B,H,S,D]; of a decode step q [B,H,1,D], k and v [B,G,S,D]."""
        b, h, s, d = self.case.shape.batch, self.case.shape.heads, self.case.shape.tokens, self.case.shape.width
        rng = np.random.default_rng(self.seed)
        shapes = {name: (b, h, s, d) for name in "qkvg"}
        if self.case.decodes:
            shapes = {"q": (b, h, 1, d), "k": (b, DECODE_GROUPS, s, d), "v": (b, DECODE_GROUPS, s, d)}
        return {n: rng.standard_normal(shape, np.float32).astype(self.dtype) for n, shape in shapes.items()}

    @cached_property
    def tables(self) -> dict[str, Array]:
        """What the variant reads beside q, k and v; floating tables in the case's element type."""
        made = self.variant.tables(self.case.shape, np.random.default_rng(self.seed + 1))
        return {n: a.astype(self.dtype) if a.dtype == np.float32 else a for n, a in made.items()}

    def bias(self, masked: bool) -> Array:
        """[B,H,S,S], or 1 in place of B and H: what the variant adds to scores; `masked`: -inf for blocked pairs."""
        shape, variant = self.case.shape, self.variant
        at: Any = np.ogrid[: shape.batch, : shape.heads, : shape.tokens, : shape.tokens]
        bias: Any = np.zeros((1, 1, 1, 1), np.float32)
        if variant.score is not None:
            bias = variant.score(bias, at, {n: a.astype(np.float32) for n, a in self.tables.items()}, np)
        if masked and variant.allowed is not None:
            bias = np.where(variant.allowed(at, self.tables), bias, np.float32(-np.inf))
        return np.asarray(bias).astype(self.dtype)

    @property
    def dtype(self) -> np.dtype[Any]:
        return DTYPES[self.case.dtype]

    @property
    def work(self) -> float:
        """Useful floating-point operations of one run; of a decode step, bytes of keys and values."""
        shape = self.case.shape
        if self.case.decodes:
            return 2.0 * shape.batch * DECODE_GROUPS * shape.tokens * shape.width * self.dtype.itemsize
        return 2.0 * PRODUCTS[self.case.work] * shape.heads * shape.width * self.variant.pairs(shape, self.tables)


def choose(
    only: Iterable[str] = (),
    shapes: Iterable[Shape] = (),
    dtypes: Iterable[Dtype] = (),
    threads: Iterable[int] = (),
) -> list[Case]:
    """The cases to measure, most threads first; an argument that is empty leaves the standard choice.

    only: texts; a case is taken when its name has every word of one of them. shapes: every variant and pass at these.
    """
    texts = [set(text.split()) for text in only]
    made = [case for count in sorted(threads or (1, 2), reverse=True) for case in _cases(shapes, dtypes, count)]
    return [case for case in made if not texts or any(words <= set(case.name.split()) for words in texts)]


def _cases(shapes: Iterable[Shape], dtypes: Iterable[Dtype], threads: int) -> list[Case]:
    some: tuple[Dtype, ...] = tuple(dtypes) or ("f32", "bf16")
    decode = [
        Case("full", "decode", dtype, Shape(batch, DECODE_HEADS, keys, DECODE_WIDTH), threads)
        for keys in DECODE_KEYS
        for batch in DECODE_BATCHES
        for dtype in some
        if batch * keys * DTYPES[dtype].itemsize * DECODE_CACHED <= DECODE_MOST
    ]
    chosen = tuple(shapes)
    everything = itertools.product(chosen or (MAIN,), VARIANTS, some, PASSES)
    cases = [Case(variant, work, dtype, shape, threads) for shape, variant, dtype, work in everything]
    if chosen:
        return cases + [case for case in decode if case.shape in chosen]
    cases += decode
    if threads > 1:  # other shapes and half precision are measured with threads alone: a run is to take minutes
        cases += [
            Case(v, w, t, shape, threads)
            for shape in SHAPES[1:]
            for v in ("full", "causal")
            for t in some
            for w in ("forward", "backward")
        ]
        if not tuple(dtypes):
            cases += [Case(v, w, "f16", MAIN, threads) for v in ("full", "causal") for w in ("forward", "backward")]
    return cases
