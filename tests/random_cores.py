"""Random attention cores: their pieces, their text, and what they give by dense numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from hypothesis import strategies as st

from irc.graph.philox import uniform
from tests.random_operands import Layout, Names, Operand, Projection, argument, earlier, paged
from tests.random_terms import (
    Array,
    Positions,
    Tensor,
    Term,
    Values,
    bias_terms,
    map_terms,
    predicates,
    scale_terms,
)

T = TypeVar("T")
RATE, SEED = 0.25, 7
STATISTICS = {"lse": "logsumexp", "peak": "max", "entropy": "entropy"}


@dataclass(frozen=True, slots=True)
class Heads:
    """`repeat` query heads to each key head; `key` is how the text writes the key head of query head h."""

    repeat: int
    key: str
    facts: tuple[str, ...]

    def spread(self, array: Array) -> Array:
        """Key heads to query heads: [B, G, S, D] -> [B, H, S, D]."""
        return np.tile(array, (1, self.repeat, 1, 1)) if "%" in self.key else np.repeat(array, self.repeat, axis=1)


@dataclass(frozen=True, slots=True)
class Core:
    """What was drawn for one core. `suffix` ends the names of what belongs to it alone."""

    suffix: str
    at: Positions
    heads: Heads
    operands: Mapping[str, Operand]  # q, k, v
    values: str  # the size of a value: V, or D
    out: Layout
    stages: tuple[tuple[str, Term], ...]  # scale, bias, map, in order
    masks: tuple[tuple[str, Term], ...]  # allow or block, in order
    normaliser: str
    below: tuple[str, ...]  # gain, drop: what becomes of the weights, in order
    sink: bool
    rotary: bool  # a second product in the score, of keys that all heads share
    statistics: Mapping[str, str]  # the order of the axes of each, of b, h, s

    @property
    def name(self) -> str:
        return f"o{self.suffix}"

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.name, *(s + self.suffix for s in self.statistics))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        at = self.at
        found = [t for o in self.operands.values() for t in o.tensors]
        if self.rotary:
            found += [Tensor("input", "qr", at.dims("H", at.rows, "R")), Tensor("input", "kr", at.dims(at.keys, "R"))]
        found += [Tensor("param", "sink", ("H",))] if self.sink else []
        found += [Tensor("param", "weighing", ("H",))] if "gain" in self.below else []
        return (*found, *(t for _, term in self.stages + self.masks for t in term.tensors))

    @property
    def facts(self) -> tuple[str, ...]:
        stated = [f for _, term in self.masks for f in term.assume] + [*self.heads.facts]
        return (*stated, *(f for o in self.operands.values() for f in o.facts))

    def text(self) -> list[str]:
        at, suffix = self.at, self.suffix
        query = {"b": "b", "h": "h", "s": at.row, "d": "c"}
        key = {"b": "b", "h": self.heads.key, "s": at.key, "d": "c"}
        q, k, v = (self.operands[n].write(names) for n, names in (("q", query), ("k", key), ("v", key | {"d": "d"})))
        stats = {n: f"{n}{suffix}[{','.join(query[x] for x in order)}]" for n, order in self.statistics.items()}
        first = stats.pop("lse", None)
        over = f" over j: {at.keys}" if "M" in at.keys else ""
        lines = [] if at.same else [f"align {at.align}"]
        more = f" + qr[{at.batch}h,{at.row},r] * kr[{at.batch}{at.key},r]" if self.rotary else ""
        lines += [f"score {q} * {k}{more}", *(f"{kind} {term.text}" for kind, term in self.stages + self.masks)]
        lines += [f"{self.normaliser} {at.key}{' with sink[h]' if self.sink else ''}"]
        lines += [{"gain": "map weighing[h] * weight ^ 2", "drop": f"drop {RATE} seed {SEED}"}[b] for b in self.below]
        lines += [f"matmul {v}"]
        lines += [f"stat {written} = {STATISTICS[n]}" for n, written in stats.items()]
        header = f"core {self.out.write(self.name, query | {'d': 'd'})}{f', {first}' if first else ''}{over}"
        return [f"{header} {{", *(f"  {line}" for line in lines), "}"]

    def formula(self, e: Values) -> dict[str, Array]:
        """The output as `o.heads` [B, H, S, D] and in its layout, and the statistics."""
        q, k, v = (self.operands[n].value(e) for n in "qkv")
        k, v = self.heads.spread(k), self.heads.spread(v)
        score = np.einsum("bhic,bhjc->bhij", q, k)
        if self.rotary:
            rows, keys = e["qr"].reshape(*q.shape[:3], e["R"]), e["kr"].reshape(len(k), k.shape[2], e["R"])
            score = score + np.einsum("bhir,bjr->bhij", rows, keys)
        points = self.at.points(e, score.shape[1])
        for kind, term in self.stages:
            x = term.value({**points, "score": score})
            score = {"scale": score * x, "bias": score + x, "map": x}[kind]
        allowed = np.ones(score.shape, np.bool_)
        for kind, term in self.masks:
            holds = term.value(points)
            allowed = allowed & (holds if kind == "allow" else ~holds)
        peak = np.where(allowed, score, -np.inf).max(axis=-1, initial=-np.inf)
        top = np.where(np.isfinite(peak), peak, 0.0)
        if self.sink:
            top = np.maximum(top, e["sink"][:, None])
        weight = np.exp(np.where(allowed, score - top[..., None], -np.inf))
        total = weight.sum(-1) + (np.exp(e["sink"][:, None] - top) if self.sink else 0.0)
        weight = weight / np.where(total > 0, total, 1.0)[..., None]
        lse = np.log(total) + top
        entropy = np.where(allowed, weight * (lse[..., None] - score), 0.0).sum(-1)
        if self.normaliser != "softmax":
            weight = weights(self.normaliser, score, allowed)
        for kind in self.below:
            weight = e["weighing"][:, None, None] * weight**2 if kind == "gain" else dropped(weight)
        heads = np.einsum("bhij,bhjd->bhid", weight, v)
        every = {"lse": lse, "peak": peak, "entropy": entropy}
        found = {n + self.suffix: arranged(every[n], order) for n, order in self.statistics.items()}
        return {f"{self.name}.heads": heads, self.name: self.out.stored(heads), **found}


def weights(normaliser: str, score: Array, allowed: Array) -> Array:
    """Those of the normalisers that see a row's sum at most."""
    kept = np.where(allowed, score, 0.0)
    match normaliser:
        case "sigmoid":
            return np.where(allowed, 1 / (1 + np.exp(-kept)), 0.0)
        case "relu":
            return np.maximum(kept, 0.0)
        case "linear":
            return kept
        case _:
            return kept / np.maximum(np.abs(kept.sum(-1, keepdims=True)), 1.0)


def dropped(weight: Array) -> Array:
    b, h, i, j = np.ogrid[tuple(slice(n) for n in weight.shape)]
    draws = uniform(np.asarray(SEED), b * weight.shape[1] + h, i, j)
    return np.where(draws < RATE, 0.0, weight / (1 - RATE))


def arranged(statistic: Array, order: str) -> Array:
    """A row statistic [B, H, S] with its axes in this order."""
    apart, plain = (statistic, "bhs") if "b" in order else (statistic[0], "hs")
    return apart.transpose([plain.index(letter) for letter in order])


# what is drawn


@dataclass(frozen=True, slots=True)
class Chance:
    """Draws what a program has, among the `features` that it may have."""

    draw: st.DrawFn
    features: frozenset[str]

    def has(self, feature: str, odds: int = 3) -> bool:
        return feature in self.features and self.draw(st.integers(1, odds)) == 1

    def one(self, *options: T) -> T:
        return self.draw(st.sampled_from(options))


def positions(chance: Chance) -> Positions:
    batched = not chance.has("unbatched", 5)
    if chance.has("grid", 6):
        return Positions("(yi xi)", "(yj xj)", "(Y X)", "(Y X)", batched=batched)
    if not chance.has("align", 2):
        return Positions("i", "j", "S", "S", batched=batched)
    keys = "M * P" if chance.has("paged") else "Sk"
    return Positions("i", "j", "Sq", keys, "pos(i)", chance.one("first", "last", "offset 2"), batched)


def heads(chance: Chance) -> Heads:
    if not chance.has("grouped"):
        return Heads(1, "h", ())
    repeat = chance.one(2, 3)
    key = chance.one("h // (H // G)", f"h // {repeat}", "h % G")
    return Heads(repeat, key, ("H % G == 0", *([f"H == {repeat} * G"] if str(repeat) in key else [])))


def layout(chance: Chance, at: Positions, axes: Names) -> Layout:
    """Heads and features stand in one axis only where a head is read by a plain index."""
    packed = axes["h"] == "H" and chance.has("packed", 4)
    order = "bshd" if packed else chance.one(*("bhsd", "bshd", "sbhd")[: 3 if "layout" in chance.features else 1])
    return Layout(order if at.batched else order.replace("b", ""), packed)


def operands(chance: Chance, at: Positions, heads: Heads, first: Core | None) -> tuple[dict[str, Operand], str]:
    """Queries, keys and values, and the size of values; of a second core perhaps some of the first, or its output."""
    suffix = "" if first is None else "2"
    fed, shared = "", ""
    if first is not None:
        fed = chance.one("", "q", *("kv" if at.same and heads.repeat == 1 else ""))
        shared = "" if fed == "v" else chance.one("", "v")
    values = chance.one("V", "V", "D") if first is None else first.values
    width = values if fed and fed in "qk" else "D"
    axes: dict[str, Names] = {}
    for name, d in (("q", width), ("k", width), ("v", values)):
        s, h = (at.rows, "H") if name == "q" else (at.keys, "H" if heads.repeat == 1 else "G")
        axes[name] = {"b": "B", "h": h, "s": s, "d": d}
    found: dict[str, Operand] = {}
    if first is not None:
        found |= {fed: earlier(first.name, first.out)} if fed else {}
        found |= {shared: first.operands[shared]} if shared else {}
    mostly = chance.has("projected")
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in (n for n in "qkv" if n not in found):
        own = name + suffix
        if at.keys == "M * P" and name != "q" and chance.one(True, True, False):
            found[name] = paged(f"{own}pool", at, axes[name], chance.one(True, False))
        elif mostly and chance.one(True, True, False):
            alone = own if chance.one(True, False) else ""
            groups.setdefault((*axes[name].values(), alone), []).append(name)
        else:
            found[name] = argument(own, axes[name], layout(chance, at, axes[name]))
    for names in groups.values():
        tokens = "tokens" if at.same or names == ["q"] else "memory"
        out, choices = layout(chance, at, axes[names[0]]), [chance.one(True, False) for _ in range(3)]
        own_names = tuple(n + suffix for n in names)
        projection = Projection(own_names, at, tokens, axes[names[0]], out, *choices)
        found |= dict(zip(names, projection.operands(), strict=True))
    return found, values


def core(chance: Chance, at: Positions, heads: Heads, first: Core | None) -> Core:
    kinds = [k for k, odds in (("scale", 1), ("bias", 2), ("map", 3)) if chance.has(k, odds)]
    pool = {"scale": scale_terms(), "bias": bias_terms(at), "map": map_terms()}
    stages = tuple((kind, chance.one(*pool[kind])) for kind in chance.draw(st.permutations(kinds)))
    count = chance.one(0, 1, 1, 1, 2) if "mask" in chance.features else 0
    masks = tuple((chance.one("allow", "allow", "block"), chance.draw(predicates(at))) for _ in range(count))
    order = ["bhs", "bsh", "hsb"] if at.batched else ["hs", "sh"]
    normaliser = chance.one("sigmoid", "relu", "normalize", "linear") if chance.has("normaliser", 4) else "softmax"
    sink = chance.has("sink", 4) and normaliser == "softmax"
    below = tuple(b for b in chance.draw(st.permutations(("gain", "drop"))) if chance.has(b, 6))
    wanted = [
        s
        for s in STATISTICS
        if (normaliser == "softmax" or s == "peak") and chance.has(s) and not (s == "peak" and "map" in kinds)
    ]  # saturated, it is a tie
    read, values = operands(chance, at, heads, first)
    return Core(
        suffix="" if first is None else "2",
        at=at,
        heads=heads,
        operands=read,
        values=values,
        out=layout(chance, at, {"h": "H"}),
        stages=stages,
        masks=masks,
        normaliser=normaliser,
        below=below,
        sink=sink,
        rotary=chance.has("rotary", 4),
        statistics={s: chance.one(*order) for s in wanted},
    )
