"""The pieces of random programs: masks, biases, scales and maps, each as text and as a numpy formula of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Array = NDArray[Any]
Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A declaration; `draw` gives its contents from a generator, its shape and the sizes."""

    role: str
    name: str
    dims: tuple[str, ...]
    type: str = "float"
    draw: Callable[[np.random.Generator, tuple[int, ...], dict[str, int]], Any] = field(
        default=lambda rng, shape, sizes: rng.normal(size=shape), repr=False
    )

    @property
    def text(self) -> str:
        brackets = f"[{', '.join(self.dims)}]" if self.dims else ""
        kind = "" if self.type == "float" and self.role != "scalar" else f": {self.type}"
        return f"{self.role} {self.name}{brackets}{kind}"

    def make(self, rng: np.random.Generator, sizes: dict[str, int]) -> Array:
        made = self.draw(rng, tuple(extent(d, sizes) for d in self.dims), sizes)
        return np.asarray(made, {"float": np.float64, "int": np.int64, "bool": np.bool_}[self.type])


def extent(dim: str, sizes: Values) -> int:
    """The value of a declared dimension: `S`, `5`, `2 * S - 1`, or a product axis `(H D)`."""
    python = " * ".join(dim[1:-1].split()) if dim.startswith("(") else dim
    return int(eval(python, {}, dict(sizes)))


def integers(low: int, high: int | str) -> Callable[[np.random.Generator, tuple[int, ...], dict[str, int]], Any]:
    """Uniform integers, both ends included; `high` may be a dimension."""
    return lambda rng, shape, sizes: rng.integers(low, extent(str(high), sizes) + 1, shape)


def documents(rng: np.random.Generator, shape: tuple[int, ...], sizes: dict[str, int]) -> Any:
    return np.sort(rng.integers(0, 3, shape), axis=-1)


@dataclass(frozen=True, slots=True)
class Term:
    """A piece of expression: its text, the tensors it reads, and its value by numpy.

    `value` gets the tensors and sizes by name, and the indices (`Positions.points`) as arrays that broadcast to
    [B, H, rows, keys].
    """

    text: str
    value: Callable[[Values], Any] = field(repr=False)
    tensors: tuple[Tensor, ...] = ()
    assume: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Positions:
    """How a program writes its queries and keys (`i`, or a product axis), their sizes, and a query's place among the
    keys; `batched` where tensors have a batch axis."""

    row: str
    key: str
    rows: str
    keys: str
    place: str = "i"
    align: str = "first"  # first, last or offset 2
    batched: bool = True

    @property
    def same(self) -> bool:
        return self.rows == self.keys

    @property
    def grid(self) -> bool:
        return self.row != "i"

    @property
    def token(self) -> str:
        """A position outside cores."""
        return "(y x)" if self.grid else "s"

    @property
    def batch(self) -> str:
        """The batch index and a comma, where there is one."""
        return "b," if self.batched else ""

    def dims(self, *dims: str) -> tuple[str, ...]:
        """The dimensions of a tensor, after the batch axis where there is one."""
        return ("B", *dims) if self.batched else dims

    def points(self, e: Values, heads: int) -> Values:
        """`e` with `b`, `h`, `i`, `j`, `p` (the row's place), and `yi`, `xi`, `yj`, `xj` on a grid."""
        rows, keys = extent(self.rows, e), extent(self.keys, e)
        b, h, i, j = np.ogrid[: e["B"], :heads, :rows, :keys]
        offset = {"first": 0, "last": keys - rows, "offset 2": 2}[self.align]
        across = max(e["X"], 1) if self.grid else 1
        apart = {"yi": i // across, "xi": i % across, "yj": j // across, "xj": j % across}
        return {**e, "b": b, "h": h, "i": i, "j": j, "p": i + offset, **apart}


def mask_terms(at: Positions) -> list[Term]:
    window = Tensor("scalar", "window", (), "int", integers(1, 5))
    near = Tensor("input", "near", ("H",), "int", integers(0, 4))
    half = Tensor("input", "allowed", (at.rows, at.keys), "bool", lambda rng, shape, sizes: rng.random(shape) < 0.5)
    terms = [Term(f"allowed[{at.row},{at.key}]", lambda e: e["allowed"][e["i"], e["j"]], (half,))]
    if at.same:
        group = Tensor("input", "group", at.dims(at.rows), "int", integers(0, 2))
        text = f"group[{at.batch}{at.row}] == group[{at.batch}{at.key}]"
        terms.append(Term(text, equal(at, "group", "group"), (group,)))
    return terms + (grid_masks(window, near) if at.grid else line_masks(at, window, near))


def grid_masks(window: Tensor, near: Tensor) -> list[Term]:
    """Predicates over positions in the plane."""

    def distance(e: Values) -> Any:
        return np.maximum(abs(e["yi"] - e["yj"]), abs(e["xi"] - e["xj"]))

    return [
        Term("abs(yi - yj) <= window and abs(xi - xj) <= window", lambda e: distance(e) <= e["window"], (window,)),
        Term("max(abs(yi - yj), abs(xi - xj)) <= near[h]", lambda e: distance(e) <= e["near"][e["h"]], (near,)),
        Term("yj <= yi", lambda e: e["yj"] <= e["yi"]),
        Term("yj < yi or (yj == yi and xj <= xi)", lambda e: e["j"] <= e["i"]),
        Term("(xi - xj) % 2 == 0", lambda e: (e["xi"] - e["xj"]) % 2 == 0),
        Term(
            "yi // 2 == yj // 2 and xi // 3 == xj // 3",
            lambda e: (e["yi"] // 2 == e["yj"] // 2) & (e["xi"] // 3 == e["xj"] // 3),
        ),
    ]


def line_masks(at: Positions, window: Tensor, near: Tensor) -> list[Term]:
    """Predicates over positions in a line."""
    p = at.place
    prefix = Tensor("scalar", "prefix", (), "int", integers(0, 4))
    terms = [
        Term(f"j <= {p}", lambda e: e["j"] <= e["p"]),
        Term(f"j < {p}", lambda e: e["j"] < e["p"]),
        Term(
            f"{p} - window < j and j <= {p}", lambda e: (e["p"] - e["window"] < e["j"]) & (e["j"] <= e["p"]), (window,)
        ),
        Term(f"{p} - 3 <= j < {p} + 2", lambda e: (e["p"] - 3 <= e["j"]) & (e["j"] < e["p"] + 2)),
        Term(f"abs({p} - j) <= window", lambda e: abs(e["p"] - e["j"]) <= e["window"], (window,)),
        Term(f"abs({p} - j) <= near[h]", lambda e: abs(e["p"] - e["j"]) <= e["near"][e["h"]], (near,)),
        Term(f"j <= {p} or j < prefix", lambda e: (e["j"] <= e["p"]) | (e["j"] < e["prefix"]), (prefix,)),
        Term(f"j // 2 <= {p} // 2", lambda e: e["j"] // 2 <= e["p"] // 2),
        Term(f"j // 4 == {p} // 4", lambda e: e["j"] // 4 == e["p"] // 4),
        Term(f"({p} - j) % 2 == 0", lambda e: (e["p"] - e["j"]) % 2 == 0),
        Term("j != 1", lambda e: e["j"] != 1),
    ]
    offsets = Tensor(
        "input", "cu", at.dims("N + 1"), "int", lambda rng, shape, sizes: np.sort(rng.integers(-1, 9, shape))
    )
    row = "cu[b]" if at.batched else "cu"
    fact = f"nondecreasing cu[{at.batch}n] over n"
    terms.append(Term(f"segment({row}, i) == segment({row}, j)", same_segment(at), (offsets,), (fact,)))
    if at.batched:
        length = Tensor("input", "len", ("B",), "int", integers(0, at.keys))
        fact = f"0 <= len[b] <= {at.keys}"
        terms.append(Term("j < len[b]", lambda e: e["j"] < e["len"][e["b"]], (length,), (fact,)))
    if at.same:
        doc = Tensor("input", "doc", at.dims(at.rows), "int", documents)
        fact = f"nondecreasing doc[{at.batch}s] over s"
        terms.append(Term(f"doc[{at.batch}i] == doc[{at.batch}j]", equal(at, "doc", "doc"), (doc,), (fact,)))
    else:
        of_row = Tensor("input", "rowdoc", at.dims(at.rows), "int", integers(0, 2))
        of_key = Tensor("input", "keydoc", at.dims(at.keys), "int", integers(0, 2))
        text = f"rowdoc[{at.batch}i] == keydoc[{at.batch}j]"
        terms.append(Term(text, equal(at, "rowdoc", "keydoc"), (of_row, of_key)))
    return terms


def equal(at: Positions, row: str, key: str) -> Callable[[Values], Any]:
    if at.batched:
        return lambda e: e[row][e["b"], e["i"]] == e[key][e["b"], e["j"]]
    return lambda e: e[row][e["i"]] == e[key][e["j"]]


def same_segment(at: Positions) -> Callable[[Values], Any]:
    def segment(e: Values, position: Array) -> Array:
        table = e["cu"][e["b"], 1:] if at.batched else e["cu"][1:]
        return np.asarray((table <= position[..., None]).sum(axis=-1))

    return lambda e: segment(e, e["i"]) == segment(e, e["j"])


@st.composite
def predicates(draw: st.DrawFn, at: Positions) -> Term:
    """A term of the pool, its negation, or two terms joined."""
    pool = st.sampled_from(mask_terms(at))
    a = draw(pool)
    match draw(st.sampled_from(["one", "one", "one", "not", "and", "or"])):
        case "not":
            return replace(a, text=f"not ({a.text})", value=lambda e: ~a.value(e))
        case "and":
            b = draw(pool)
            return both(f"({a.text}) and ({b.text})", a, b, lambda e: a.value(e) & b.value(e))
        case "or":
            b = draw(pool)
            return both(f"({a.text}) or ({b.text})", a, b, lambda e: a.value(e) | b.value(e))
        case _:
            return a


def both(text: str, a: Term, b: Term, value: Callable[[Values], Any]) -> Term:
    return Term(text, value, a.tensors + b.tensors, a.assume + b.assume)


def bias_terms(at: Positions) -> list[Term]:
    slope = Tensor("const", "slope", ("H",), draw=lambda rng, shape, sizes: rng.random(shape))
    full = Tensor("input", "bias", at.dims("H", at.rows, at.keys))
    shared = Tensor("param", "shared", ("H", at.rows, at.keys))
    columns = Tensor("const", "columns", at.dims(at.keys))
    terms = [
        Term(f"bias[{at.batch}h,{at.row},{at.key}]", lambda e: e["bias"], (full,)),
        Term(f"shared[h,{at.row},{at.key}]", lambda e: e["shared"], (shared,)),
        Term(f"columns[{at.batch}{at.key}]", lambda e: e["columns"].reshape(e["B"], 1, 1, e["j"].size), (columns,)),
    ]
    return terms + (grid_biases(slope) if at.grid else line_biases(at, slope))


def grid_biases(slope: Tensor) -> list[Term]:
    table = Tensor("param", "T2", ("H", "2 * Y - 1", "2 * X - 1"))
    return [
        Term(
            "-slope[h] * (abs(yi - yj) + abs(xi - xj))",
            lambda e: -e["slope"][e["h"]] * (abs(e["yi"] - e["yj"]) + abs(e["xi"] - e["xj"])),
            (slope,),
        ),
        Term(
            "T2[h, yi - yj + Y - 1, xi - xj + X - 1]",
            lambda e: e["T2"][e["h"], e["yi"] - e["yj"] + e["Y"] - 1, e["xi"] - e["xj"] + e["X"] - 1],
            (table,),
        ),
    ]


def line_biases(at: Positions, slope: Tensor) -> list[Term]:
    p = at.place
    clipped = Tensor("param", "table", ("H", "5"))
    terms = [
        Term(f"slope[h] * (j - {p})", lambda e: e["slope"][e["h"]] * (e["j"] - e["p"]), (slope,)),
        Term(
            f"table[h, clamp(j - {p}, -2, 2) + 2]",
            lambda e: e["table"][e["h"], np.clip(e["j"] - e["p"], -2, 2) + 2],
            (clipped,),
        ),
    ]
    if at.same:
        table = Tensor("param", "T", ("H", "2 * S - 1"))
        terms.append(Term("T[h, i - j + S - 1]", lambda e: e["T"][e["h"], e["i"] - e["j"] + e["S"] - 1], (table,)))
    return terms


def scale_terms() -> list[Term]:
    temperature = Tensor("scalar", "temperature", (), draw=lambda rng, shape, sizes: 0.5 + rng.random())
    gain = Tensor("param", "gain", ("H",))
    return [
        Term("1 / sqrt(D)", lambda e: 1 / np.sqrt(e["D"])),
        Term("1 / sqrt(D)", lambda e: 1 / np.sqrt(e["D"])),
        Term("0.3", lambda e: 0.3),
        Term("temperature", lambda e: e["temperature"], (temperature,)),
        Term("gain[h] / sqrt(D)", lambda e: e["gain"][e["h"]] / np.sqrt(e["D"]), (gain,)),
    ]


def map_terms() -> list[Term]:
    cap = Tensor("scalar", "cap", (), draw=lambda rng, shape, sizes: 1.0 + 4.0 * rng.random())
    learned = Tensor("param", "softness", (), draw=lambda rng, shape, sizes: 1.0 + rng.random())
    return [
        Term("cap * tanh(score / cap)", lambda e: e["cap"] * np.tanh(e["score"] / e["cap"]), (cap,)),
        Term("2.5 * tanh(score / 2.5)", lambda e: 2.5 * np.tanh(e["score"] / 2.5)),
        Term("softness * sigmoid(score)", lambda e: e["softness"] / (1 + np.exp(-e["score"])), (learned,)),
        Term("score - 0.1 * score * score", lambda e: e["score"] - 0.1 * e["score"] ** 2),
    ]
