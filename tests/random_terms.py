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


def extent(dim: str, sizes: dict[str, int]) -> int:
    """The value of a declared dimension: `S`, `5`, `2 * S - 1`, or a product axis `(H D)`."""
    python = " * ".join(dim[1:-1].split()) if dim.startswith("(") else dim
    return int(eval(python, {}, sizes))


def integers(low: int, high: int | str) -> Callable[[np.random.Generator, tuple[int, ...], dict[str, int]], Any]:
    """Uniform integers, both ends included; `high` may be a size."""
    return lambda rng, shape, sizes: rng.integers(low, (high if isinstance(high, int) else sizes[high]) + 1, shape)


def documents(rng: np.random.Generator, shape: tuple[int, ...], sizes: dict[str, int]) -> Any:
    return np.sort(rng.integers(0, 3, shape), axis=-1)


@dataclass(frozen=True, slots=True)
class Term:
    """A piece of expression: its text, the tensors it reads, and its value by numpy.

    `value` gets the tensors and sizes by name, and `b`, `h`, `i`, `j` and `p` (the row's place among the keys) as
    arrays that broadcast to [B, H, Sq, Sk].
    """

    text: str
    value: Callable[[Values], Any] = field(repr=False)
    tensors: tuple[Tensor, ...] = ()
    assume: tuple[str, ...] = ()


def mask_terms(p: str, same: bool) -> list[Term]:
    """Predicates; `p` is how the text writes the row's place, `same` whether rows and keys run over one size S."""
    keys = "S" if same else "Sk"
    rows = "S" if same else "Sq"
    window = Tensor("scalar", "window", (), "int", integers(1, 5))
    prefix = Tensor("scalar", "prefix", (), "int", integers(0, 4))
    near = Tensor("input", "near", ("H",), "int", integers(0, 4))
    length = Tensor("input", "len", ("B",), "int", integers(0, keys))
    half = Tensor("input", "allowed", (rows, keys), "bool", lambda rng, shape, sizes: rng.random(shape) < 0.5)
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
        Term("j < len[b]", lambda e: e["j"] < e["len"][e["b"]], (length,), (f"0 <= len[b] <= {keys}",)),
        Term("j != 1", lambda e: e["j"] != 1),
        Term("allowed[i,j]", lambda e: e["allowed"][e["i"], e["j"]], (half,)),
    ]
    if same:
        arbitrary = Tensor("input", "group", ("B", "S"), "int", integers(0, 2))
        ordered = Tensor("input", "doc", ("B", "S"), "int", documents)
        terms += [
            Term("group[b,i] == group[b,j]", equal("group", "group"), (arbitrary,)),
            Term("doc[b,i] == doc[b,j]", equal("doc", "doc"), (ordered,), ("nondecreasing doc[b,s] over s",)),
        ]
    else:
        of_row = Tensor("input", "rowdoc", ("B", "Sq"), "int", integers(0, 2))
        of_key = Tensor("input", "keydoc", ("B", "Sk"), "int", integers(0, 2))
        terms.append(Term("rowdoc[b,i] == keydoc[b,j]", equal("rowdoc", "keydoc"), (of_row, of_key)))
    return terms


def equal(row: str, key: str) -> Callable[[Values], Any]:
    return lambda e: e[row][e["b"], e["i"]] == e[key][e["b"], e["j"]]


@st.composite
def predicates(draw: st.DrawFn, p: str, same: bool) -> Term:
    """A term of the pool, its negation, or two terms joined."""
    pool = st.sampled_from(mask_terms(p, same))
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


def bias_terms(p: str, same: bool) -> list[Term]:
    rows, keys = ("S", "S") if same else ("Sq", "Sk")
    slope = Tensor("const", "slope", ("H",), draw=lambda rng, shape, sizes: rng.random(shape))
    full = Tensor("input", "bias", ("B", "H", rows, keys))
    shared = Tensor("param", "shared", ("H", rows, keys))
    columns = Tensor("const", "columns", ("B", keys))
    clipped = Tensor("param", "table", ("H", "5"))
    terms = [
        Term(f"slope[h] * (j - {p})", lambda e: e["slope"][e["h"]] * (e["j"] - e["p"]), (slope,)),
        Term("bias[b,h,i,j]", lambda e: e["bias"], (full,)),
        Term("shared[h,i,j]", lambda e: e["shared"], (shared,)),
        Term("columns[b,j]", lambda e: e["columns"][e["b"], e["j"]], (columns,)),
        Term(
            f"table[h, clamp(j - {p}, -2, 2) + 2]",
            lambda e: e["table"][e["h"], np.clip(e["j"] - e["p"], -2, 2) + 2],
            (clipped,),
        ),
    ]
    if same:
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
