"""Random programs of the language with small sizes, inputs, and what they should give, by a formula of their own.

For differential testing: `programs()` is a hypothesis strategy of `RandomProgram`. The formula (`reference`) is dense
numpy, written from the pieces that were drawn and not from the text, so it shares nothing with the compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from tests.random_terms import Array, Tensor, Term, Values, bias_terms, map_terms, predicates, scale_terms


@dataclass(frozen=True, slots=True)
class Layout:
    """The order of the axes of a tensor: batch, head, sequence, feature; the last two together where `packed`."""

    order: str
    packed: bool = False

    def write(self, names: dict[str, str], separator: str) -> str:
        return separator.join(self.dims(names))

    def dims(self, names: dict[str, str]) -> tuple[str, ...]:
        each = [names[letter] for letter in self.order]
        return (*each[:-2], f"({each[-2]} {each[-1]})") if self.packed else tuple(each)

    def canonical(self, array: Array, sizes: dict[str, int]) -> Array:
        """[B, H, S, D]; `sizes` by letter."""
        apart = array.reshape([sizes[letter] for letter in self.order])
        return apart.transpose([self.order.index(letter) for letter in "bhsd"])

    def stored(self, array: Array) -> Array:
        """From [B, H, S, D], not packed."""
        return array.transpose(["bhsd".index(letter) for letter in self.order])


PLAIN = [Layout("bhsd"), Layout("bshd"), Layout("sbhd")]
PACKED = Layout("bshd", packed=True)


@dataclass(frozen=True, slots=True)
class RandomProgram:
    """A text, its sizes, and how to make its inputs (float64, int64, bool; scalars without dimensions)."""

    text: str
    sizes: dict[str, int]
    outputs: tuple[str, ...]
    tensors: tuple[Tensor, ...] = field(repr=False)
    formula: Callable[[Values], dict[str, Array]] = field(repr=False)

    def make_inputs(self, rng: np.random.Generator) -> dict[str, Array]:
        return {t.name: t.make(rng, self.sizes) for t in self.tensors}

    def reference(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by name, in float64."""
        with np.errstate(all="ignore"):
            return self.formula({**self.sizes, **inputs})

    @property
    def floating(self) -> tuple[str, ...]:
        """Names of the tensors that receive gradients."""
        return tuple(t.name for t in self.tensors if t.type == "float" and t.role in ("input", "param"))


@dataclass(frozen=True, slots=True)
class Pieces:
    """What was drawn for one core."""

    same: bool  # rows and keys run over one size S
    place: str  # how the text writes a row's place among the keys
    align: str  # first, last or offset 2, where rows and keys differ
    layouts: dict[str, Layout]  # of q, k, v, o
    repeat: int  # query heads to each key head
    head: str  # how the text writes the key head
    stages: tuple[tuple[str, Term], ...]  # scale, bias, map, in order
    masks: tuple[tuple[str, Term], ...]  # allow or block, in order
    sink: bool
    rotary: bool  # a second product in the score, of keys that all heads share
    stats: tuple[str, ...]  # lse, peak
    merge: bool  # an output projection after the core


@st.composite
def pieces(draw: st.DrawFn, features: frozenset[str]) -> Pieces:
    def maybe(feature: str, odds: int = 3) -> bool:
        return feature in features and draw(st.integers(1, odds)) == 1

    same = draw(st.booleans()) or "align" not in features
    place = "i" if same else "pos(i)"
    align = "first" if same else draw(st.sampled_from(["first", "last", "offset 2"]))
    layout = st.sampled_from(PLAIN if "layout" in features else PLAIN[:1])
    repeat = draw(st.sampled_from([2, 3])) if maybe("grouped") else 1
    head = draw(st.sampled_from(["h // (H // G)", f"h // {repeat}"])) if repeat > 1 else "h"
    layouts = {name: draw(layout) for name in "qkvo"}
    if maybe("packed"):
        layouts["q"] = PACKED
        if repeat == 1:
            layouts |= {"k": PACKED, "v": PACKED}
    kinds = [k for k, odds in (("scale", 1), ("bias", 2), ("map", 3)) if maybe(k, odds)]
    pool = {"scale": scale_terms(), "bias": bias_terms(place, same), "map": map_terms()}
    stages = tuple((kind, draw(st.sampled_from(pool[kind]))) for kind in draw(st.permutations(kinds)))
    count = draw(st.sampled_from([0, 1, 1, 1, 2])) if "mask" in features else 0
    polarity = st.sampled_from(["allow", "allow", "block"])
    masks = tuple((draw(polarity), draw(predicates(place, same))) for _ in range(count))
    sink = maybe("sink", 4)
    stats = tuple(s for s in ("lse", "peak") if maybe(s, 2) and not (s == "peak" and sink))
    rotary, merge = maybe("rotary", 4), maybe("merge", 4)
    return Pieces(same, place, align, layouts, repeat, head, stages, masks, sink, rotary, stats, merge)


FEATURES = frozenset(
    ("align", "layout", "packed", "grouped", "scale", "bias", "map", "mask", "sink", "lse", "peak", "rotary", "merge")
)
LENGTHS = (1, 2, 3, 4, 5, 7, 8, 9)


@st.composite
def programs(
    draw: st.DrawFn,
    features: frozenset[str] = FEATURES,
    lengths: tuple[int, ...] = LENGTHS,
    widths: tuple[int, ...] = (1, 2, 3, 4, 8, 5),
    empty: bool = True,
) -> RandomProgram:
    """Programs of one core. `features` limits what may occur; `lengths` and `widths` are those of sequences and heads;
    `empty` lets a batch or sequence have length 0 now and then."""
    p = draw(pieces(features))
    length = st.sampled_from(lengths)
    width = st.sampled_from(widths)
    groups = draw(st.integers(1, 2 if p.repeat > 1 else 3))
    sizes = {"B": draw(st.integers(1, 2)), "H": groups * p.repeat}
    if p.repeat > 1:
        sizes["G"] = groups
    sizes |= {"S": draw(length)} if p.same else {"Sq": draw(length), "Sk": draw(length)}
    sizes |= {"D": draw(width), "V": draw(width)}
    if p.rotary:
        sizes["R"] = draw(width)
    if p.merge:
        sizes["F"] = draw(width)
    table = any(t.name == "T" for _, term in p.stages for t in term.tensors)  # its size, 2 S - 1, needs S >= 1
    if empty and not table and draw(st.integers(1, 15)) == 1:
        sizes[draw(st.sampled_from([n for n in sizes if n in ("B", "S", "Sq", "Sk")]))] = 0
    tensors = declared(p)
    return RandomProgram(write(p, tensors, sizes), sizes, outputs(p), tensors, lambda e: formula(p, e))


def outputs(p: Pieces) -> tuple[str, ...]:
    return (("y" if p.merge else "o"), *p.stats)


def letters(p: Pieces, what: str) -> dict[str, str]:
    """The size of each axis of q, k, v or o by the letter of the layout."""
    rows, keys = ("S", "S") if p.same else ("Sq", "Sk")
    key_heads = "G" if p.repeat > 1 else "H"
    return {
        "b": "B",
        "h": "H" if what in "qo" else key_heads,
        "s": rows if what in "qo" else keys,
        "d": "D" if what in "qk" else "V",
    }


def declared(p: Pieces) -> tuple[Tensor, ...]:
    """Every tensor of the program, each once."""
    rows, keys = letters(p, "q")["s"], letters(p, "k")["s"]
    every = [Tensor("input", name, p.layouts[name].dims(letters(p, name))) for name in "qkv"]
    if p.rotary:
        every += [Tensor("input", "qr", ("B", "H", rows, "R")), Tensor("input", "kr", ("B", keys, "R"))]
    if p.sink:
        every.append(Tensor("param", "sink", ("H",)))
    if p.merge:
        every += [Tensor("param", "Wo", ("(H V)", "F")), Tensor("param", "bo", ("F",))]
    every += [t for _, term in p.stages + p.masks for t in term.tensors]
    return tuple({t.name: t for t in every}.values())


def write(p: Pieces, tensors: tuple[Tensor, ...], sizes: dict[str, int]) -> str:
    """The text of the program."""
    lines = [f"size {', '.join(sizes)}", *(t.text for t in tensors)]
    facts = [f for _, term in p.masks for f in term.assume] + (["H % G == 0"] if p.repeat > 1 else [])
    if p.repeat > 1 and p.head != "h // (H // G)":
        facts.append(f"H == {p.repeat} * G")
    lines += [f"assume {', '.join(dict.fromkeys(facts))}"] if facts else []
    query, key = {"b": "b", "h": "h", "s": "i", "d": "c"}, {"b": "b", "h": p.head, "s": "j", "d": "c"}
    core = []
    if not p.same:
        core.append(f"align {p.align}")
    more = " + qr[b,h,i,r] * kr[b,j,r]" if p.rotary else ""
    core.append(f"score q[{p.layouts['q'].write(query, ',')}] * k[{p.layouts['k'].write(key, ',')}]{more}")
    core += [f"{kind} {term.text}" for kind, term in p.stages + p.masks]
    core.append("softmax j with sink[h]" if p.sink else "softmax j")
    core += ["stat peak[b,h,i] = max"] if "peak" in p.stats else []
    core.append(f"matmul v[{p.layouts['v'].write(key | {'d': 'd'}, ',')}]")
    out = p.layouts["o"].write({"b": "b", "h": "h", "s": "i", "d": "d"}, ",")
    header = f"core o[{out}]{', lse[b,h,i]' if 'lse' in p.stats else ''}"
    lines += [f"{header} {{", *(f"  {line}" for line in core), "}"]
    if p.merge:
        lines += ["merge {", f"  y[b,i,f] = o[{out}] * Wo[(h d),f] + bo[f]", "}"]
    lines.append(f"return {', '.join(outputs(p))}")
    return "attention random {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def formula(p: Pieces, e: Values) -> dict[str, Array]:
    """What the program gives, by dense numpy."""

    def heads_first(name: str) -> Array:
        by_letter = {letter: e[size] for letter, size in letters(p, name).items()}
        return p.layouts[name].canonical(e[name], by_letter)

    q, k, v = heads_first("q"), *(np.repeat(heads_first(n), p.repeat, axis=1) for n in "kv")
    score = np.einsum("bhic,bhjc->bhij", q, k)
    if p.rotary:
        score = score + np.einsum("bhir,bjr->bhij", e["qr"], e["kr"])
    b, h, i, j = np.ogrid[tuple(slice(n) for n in score.shape)]
    offset = {"first": 0, "last": score.shape[3] - score.shape[2], "offset 2": 2}[p.align]
    points = {**e, "b": b, "h": h, "i": i, "j": j, "p": i + offset}
    for kind, term in p.stages:
        x = term.value({**points, "score": score})
        score = {"scale": score * x, "bias": score + x, "map": x}[kind]
    allowed = np.ones(score.shape, np.bool_)
    for kind, term in p.masks:
        holds = term.value(points)
        allowed = allowed & (holds if kind == "allow" else ~holds)
    score = np.where(allowed, score, -np.inf)
    peak = score.max(axis=-1, initial=-np.inf)
    top = np.where(np.isfinite(peak), peak, 0.0)
    if p.sink:
        top = np.maximum(top, e["sink"][:, None])
    weight = np.exp(score - top[..., None])
    total = weight.sum(-1) + (np.exp(e["sink"][:, None] - top) if p.sink else 0.0)
    o = np.einsum("bhij,bhjd->bhid", weight, v) / np.where(total > 0, total, 1.0)[..., None]
    y = p.layouts["o"].stored(o)
    if p.merge:
        y = np.einsum("bhid,hdf->bif", o, e["Wo"].reshape(e["H"], e["V"], e["F"])) + e["bo"]
    every = {outputs(p)[0]: y, "lse": np.log(total) + top, "peak": peak}
    return {name: every[name] for name in outputs(p)}
