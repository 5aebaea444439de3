"""What the cores of random programs read as queries, keys and values: arguments in many layouts, projections of
tokens with weights apart or fused, paged pools, the output of an earlier core."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from tests.random_terms import Array, Positions, Tensor, Values, extent

Names = Mapping[str, str]  # by letter: b batch, h head, s position, d feature


@dataclass(frozen=True, slots=True)
class Layout:
    """The order of the axes of a tensor, by letter; the last two together where `packed`. There may be no batch."""

    order: str
    packed: bool = False

    def write(self, name: str, at: Names) -> str:
        return f"{name}[{','.join(self.dims(at))}]"

    def dims(self, names: Names) -> tuple[str, ...]:
        each = [names[letter] for letter in self.order]
        return (*each[:-2], f"({each[-2]} {each[-1]})") if self.packed else tuple(each)

    def canonical(self, array: Array, axes: Names, sizes: Values) -> Array:
        """[B, H, S, D]."""
        order = self.order if "b" in self.order else "b" + self.order
        apart = array.reshape([extent(axes[letter], sizes) for letter in order])
        return apart.transpose([order.index(letter) for letter in "bhsd"])

    def stored(self, array: Array) -> Array:
        """From [B, H, S, D]."""
        order = self.order if "b" in self.order else "b" + self.order
        apart = array.transpose(["bhsd".index(letter) for letter in order])
        dims = apart.shape[len(order) - len(self.order) :]
        return apart.reshape((*dims[:-2], dims[-2] * dims[-1]) if self.packed else dims)


@dataclass(frozen=True, slots=True)
class Operand:
    """`write` gives its text at the indices of a core, `value` [B, heads, positions, features]; `lines` stand in
    `project`, `facts` in `assume`."""

    write: Callable[[Names], str] = field(repr=False)
    value: Callable[[Values], Array] = field(repr=False)
    tensors: tuple[Tensor, ...] = ()
    lines: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()


def argument(name: str, axes: Names, layout: Layout) -> Operand:
    return Operand(
        lambda at: layout.write(name, at),
        lambda e: layout.canonical(e[name], axes, e),
        (Tensor("input", name, layout.dims(axes)),),
    )


def paged(name: str, at: Positions, axes: Names, heads_first: bool) -> Operand:
    """Position j stands in page `page[b, j // P]` of a common pool, at `j % P`."""
    dims = ("N", axes["h"], "P", axes["d"]) if heads_first else ("N", "P", axes["h"], axes["d"])
    table = Tensor("input", "page", at.dims("M"), "int", lambda rng, shape, sizes: rng.integers(0, sizes["N"], shape))

    def write(n: Names) -> str:
        inside = f"{n['h']}, {n['s']} % P" if heads_first else f"{n['s']} % P, {n['h']}"
        return f"{name}[page[{at.batch}{n['s']} // P], {inside}, {n['d']}]"

    def value(e: Values) -> Array:
        pool = e[name].swapaxes(1, 2) if heads_first else e[name]
        j = np.arange(e["M"] * e["P"])
        return pool[e["page"].reshape(e["B"], e["M"])[:, j // max(e["P"], 1)], j % max(e["P"], 1)].swapaxes(1, 2)

    fact = f"0 <= page[{at.batch}m] < N"
    return Operand(write, value, (Tensor("input", name, dims), table), (), (fact,))


def weight(name: str, dims: tuple[str, ...]) -> Tensor:
    """A projection's weights, of a variance that keeps that of the tokens."""
    return Tensor("param", name, dims, draw=lambda rng, s, _: rng.normal(size=s) / np.sqrt(max(s[0], 1)))


@dataclass(frozen=True, slots=True)
class Projection:
    """Operands of the same axes from one input `tokens`: one of them, or several by fused weights.

    The weights have a product axis [E, (3 H D)], or where `apart` axes of their own; several operands are `split` by
    assignments, or read in place.
    """

    names: tuple[str, ...]
    at: Positions
    tokens: str
    axes: Names
    out: Layout
    apart: bool
    biased: bool
    split: bool

    @property
    def fused(self) -> str:
        return "".join(self.names)

    def operands(self) -> tuple[Operand, ...]:
        return tuple(Operand(self._writer(k), self._value(k), self._tensors(), self._lines()) for k in self._parts)

    @property
    def _parts(self) -> range:
        return range(len(self.names))

    @property
    def _whole(self) -> Layout:
        return Layout("bhsd" if self.at.batched else "hsd") if len(self.names) > 1 else self.out

    def _tensors(self) -> tuple[Tensor, ...]:
        dims = (*([str(len(self.names))] if len(self.names) > 1 else []), self.axes["h"], self.axes["d"])
        together = (f"({' '.join(dims)})",)
        tokens = Tensor("input", self.tokens, self.at.dims(self.axes["s"], "E"))
        offset = (Tensor("param", f"c{self.fused}", together),) if self.biased else ()
        return tokens, weight(f"W{self.fused}", ("E", *(dims if self.apart else together))), *offset

    def _lines(self) -> tuple[str, ...]:
        """The projection, and the assignments that split it."""
        at = {"b": "b", "h": "h", "s": self.at.token, "d": "d"}
        each = ["h", "d"] if len(self.names) == 1 else ["t", "h", "d"]
        together = f"({' '.join(each)})"
        read = f"W{self.fused}[e,{','.join(each) if self.apart else together}]"
        more = f" + c{self.fused}[{together}]" if self.biased else ""
        product = f"{self.tokens}[{self.at.batch}{self.at.token},e] * {read}{more}"
        if len(self.names) == 1:
            return (f"{self.out.write(self.fused, at)} = {product}",)
        split = [f"{self.out.write(n, at)} = {self._part(k, at)}" for k, n in enumerate(self.names) if self.split]
        return f"{self._part('t', at)} = {product}", *split

    def _part(self, part: int | str, at: Names) -> str:
        return self._whole.write(self.fused, at).replace("[", f"[{part},", 1)

    def _writer(self, part: int) -> Callable[[Names], str]:
        if len(self.names) == 1 or self.split:
            return lambda at: self.out.write(self.names[part], at)
        return lambda at: self._part(part, at)

    def _value(self, part: int) -> Callable[[Values], Array]:
        def value(e: Values) -> Array:
            positions, heads, width = (extent(self.axes[letter], e) for letter in "shd")
            w = e[f"W{self.fused}"].reshape(e["E"], len(self.names), heads, width)[:, part]
            y = np.einsum("bse,ehd->bhsd", e[self.tokens].reshape(e["B"], positions, e["E"]), w)
            return y + e[f"c{self.fused}"].reshape(len(self.names), heads, 1, width)[part] if self.biased else y

        return value


def earlier(name: str, layout: Layout) -> Operand:
    """The output of an earlier core; its value is kept as `name`, [B, H, S, D]."""
    return Operand(lambda at: layout.write(name, at), lambda e: e[f"{name}.heads"])
