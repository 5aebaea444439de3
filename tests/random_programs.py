"""Random programs of the language with small sizes, inputs, and what they should give, by a formula of their own.

For differential testing: `programs()` is a hypothesis strategy of `RandomProgram`. The formula (`reference`) is dense
numpy, written from the pieces that were drawn and not from the text, so it shares nothing with the compiler.

    program  = core | core core          apart, one feeding the other, or their difference
    core     = positions, three operands (random_operands), stages and masks (random_terms), statistics
    result   = the outputs of the cores | heads merged | a projection
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from tests.random_cores import Chance, Core, core, heads, positions
from tests.random_operands import weight
from tests.random_terms import Array, Tensor, Values

ARRANGEMENTS = ("align", "grid", "unbatched", "layout", "packed", "grouped", "projected", "paged", "second", "merge")
STAGES = ("scale", "bias", "map", "mask", "normaliser", "gain", "drop", "sink", "rotary", "lse", "peak", "entropy")
FEATURES = frozenset((*ARRANGEMENTS, *STAGES))
LENGTHS = (1, 2, 3, 4, 5, 7, 8, 9)


@dataclass(frozen=True, slots=True)
class RandomProgram:
    """A text, its sizes, and how to make its inputs (float64, int64, bool; scalars without dimensions).

    `later` are other sizes of those that are `OPEN`.
    """

    text: str
    sizes: dict[str, int]
    later: dict[str, int]
    outputs: tuple[str, ...]
    tensors: tuple[Tensor, ...] = field(repr=False)
    formula: Callable[[Values], dict[str, Array]] = field(repr=False)

    def make_inputs(self, rng: np.random.Generator, sizes: dict[str, int]) -> dict[str, Array]:
        return {t.name: t.make(rng, sizes) for t in self.tensors}

    def reference(self, inputs: Mapping[str, Array], sizes: dict[str, int]) -> dict[str, Array]:
        """Every output by name, in float64."""
        with np.errstate(all="ignore"):
            return self.formula({"B": 1, **sizes, **inputs})

    @property
    def floating(self) -> tuple[str, ...]:
        """Names of the tensors that receive gradients."""
        return tuple(t.name for t in self.tensors if t.type == "float" and t.role in ("input", "param"))


@dataclass(frozen=True, slots=True)
class Result:
    """What a program returns first: the outputs of its cores, or one result of `merge`."""

    names: tuple[str, ...]
    lines: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    value: Callable[[Values], Array] = field(repr=False)  # of the one result of `merge`


@st.composite
def programs(
    draw: st.DrawFn,
    features: frozenset[str] = FEATURES,
    lengths: tuple[int, ...] = LENGTHS,
    widths: tuple[int, ...] = (1, 2, 3, 4, 8, 5),
    empty: bool = True,
) -> RandomProgram:
    """`features` limits what may occur; `lengths` and `widths` are those of sequences and heads; `empty` lets a size
    that is no width of keys be 0 now and then."""
    chance = Chance(draw, features)
    at, shared = positions(chance), heads(chance)
    first = core(chance, at, shared, None)
    cores = (first, core(chance, at, shared, first)) if chance.has("second", 4) else (first,)
    result = draw_result(chance, cores)
    tensors = tuple({t.name: t for c in cores for t in (*c.tensors, *result.tensors)}.values())
    facts = dict.fromkeys(f for c in cores for f in c.facts)
    mentioned = set(re.findall(r"[A-Z]\w*", " ".join(d for t in tensors for d in t.dims)))
    names = [n for n in SIZES if n in mentioned]
    pool = {**dict.fromkeys("DVREF", widths), "P": (1, 2, 3, 16), "B": (1, 2), "N": (1, 2, 4)}
    pool |= dict.fromkeys("YXM", tuple(n for n in lengths if n <= 9))
    positive = {n for n in names if any(f"2 * {n}" in d for t in tensors for d in t.dims)}  # tables of size 2 n - 1
    groups = chance.one(1, 2) if shared.repeat > 1 else chance.one(1, 2, 3)

    def sizes(fixed: dict[str, int]) -> dict[str, int]:
        found = {n: fixed.get(n, draw(st.sampled_from(pool.get(n, lengths)))) for n in names}
        found |= {n: count for n, count in (("H", groups * shared.repeat), ("G", groups)) if n in names}
        free = [n for n in names if n in EMPTY and n not in fixed and n not in positive]
        if empty and free and chance.one(*range(10)) == 0:
            found[chance.one(*free)] = 0
        return found

    now = sizes({})
    return RandomProgram(
        text=write(names, tensors, facts, cores, result),
        sizes=now,
        later=sizes({n: size for n, size in now.items() if n not in OPEN}),
        outputs=(*result.names, *(o for c in cores for o in c.outputs[1:])),
        tensors=tensors,
        formula=lambda e: formula(cores, result, e),
    )


SIZES = ("B", "H", "G", "S", "Sq", "Sk", "Y", "X", "M", "N", "P", "D", "V", "R", "E", "F")
OPEN = ("B", "S", "Sq", "Sk", "Y", "M")  # told by the shapes of a call, whatever the layouts
EMPTY = (*OPEN, "E", "F")


def write(
    sizes: list[str], tensors: tuple[Tensor, ...], facts: Mapping[str, None], cores: tuple[Core, ...], result: Result
) -> str:
    """The text of a program."""
    projections = dict.fromkeys(line for c in cores for o in c.operands.values() for line in o.lines)
    lines = [f"size {', '.join(sizes)}", *(t.text for t in tensors)]
    lines += [f"assume {', '.join(facts)}"] if facts else []
    lines += ["project {", *(f"  {line}" for line in projections), "}"] if projections else []
    lines += [line for c in cores for line in c.text()]
    lines += ["merge {", *(f"  {line}" for line in result.lines), "}"] if result.lines else []
    returned = (*result.names, *(o for c in cores for o in c.outputs[1:]))
    lines.append(f"return {', '.join(returned)}")
    return "attention random {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def formula(cores: tuple[Core, ...], result: Result, e: Values) -> dict[str, Array]:
    """What a program gives, by dense numpy."""
    found: dict[str, Array] = {}
    for c in cores:
        found |= c.formula({**e, **found})
    return found | ({result.names[0]: result.value({**e, **found})} if result.lines else {})


def draw_result(chance: Chance, cores: tuple[Core, ...]) -> Result:
    """The outputs as they are, or merged: heads into one axis, or projected by weights [(H V), F]; of two cores, first
    their difference."""
    last, at = cores[-1], cores[-1].at
    merged = chance.has("merge")
    if (len(cores) == 1 and not merged) or (len(cores) == 2 and chance.one(True, False)):
        count = 1 if merged else len(cores)
        return Result(tuple(c.name for c in cores[-count:]), (), (), lambda e: e[last.name])
    names = {"b": "b", "h": "h", "s": at.token, "d": "d"}
    lines: list[str] = []
    tensors: list[Tensor] = []
    read = last.out.write(last.name, names)
    if len(cores) == 2:
        other = cores[0].out.write(cores[0].name, names)
        own = f"z[{at.batch}h,{at.token},d]"
        lines.append(f"{own} = {other} - ratio[h] * {read}")
        tensors.append(Tensor("param", "ratio", ("H",)))
        read = own

    def combined(e: Values) -> Array:
        heads: Array = e[f"{last.name}.heads"]
        return heads if len(cores) == 1 else e["o.heads"] - e["ratio"][:, None, None] * heads

    def unbatched(y: Array) -> Array:
        return y if at.batched else y[0]

    if not merged:
        return Result(("z",), tuple(lines), tuple(tensors), lambda e: unbatched(combined(e)))
    left = f"y[{at.batch}{at.token}"
    if chance.one(True, False):
        lines.append(f"{left},(h d)] = {read}")

        def joined(e: Values) -> Array:
            z = combined(e).swapaxes(1, 2)
            return unbatched(z.reshape(*z.shape[:2], z.shape[2] * z.shape[3]))

        return Result(("y",), tuple(lines), tuple(tensors), joined)
    lines.append(f"{left},f] = {read} * Wo[(h d),f] + bo[f]")
    tensors += [weight("Wo", (f"(H {last.values})", "F")), Tensor("param", "bo", ("F",))]

    def product(e: Values) -> Array:
        z = combined(e)
        w = e["Wo"].reshape(z.shape[1], z.shape[3], e["F"])
        return unbatched(np.einsum("bhid,hdf->bif", z, w) + e["bo"])

    return Result(("y",), tuple(lines), tuple(tensors), product)
