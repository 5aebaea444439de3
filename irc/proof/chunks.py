"""Tokens that are a part of a dimension, as of `x[B,(P N),D]`: chunks of one sequence that follow each other, or heads.

Nothing says which. Within its own part an output entry is before what it is before along the whole dimension, so both
readings mean the same as long as nothing reads another part, and parts lie in the same order everywhere. What holds
only of one sequence is proved of that alone, and what holds only of separate parts is not decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from irc.codegen.expr import Axis, Expr, flat, loads, op
from irc.graph.ir import Graph, product, shape
from irc.graph.size import polynomial, split, text
from irc.proof import chained
from irc.proof.decide import is_proved
from irc.proof.flow import Chain, Undecided, own_axes, parts
from irc.proof.places import Output, in_place
from irc.proof.tokens import Tokens, factors


@dataclass(frozen=True, slots=True)
class Part:
    """A token dimension that a chain reads, longer than the tokens of a core: its parts, and which are the tokens."""

    chain: Chain
    size: Expr
    index: Expr
    axes: tuple[Axis, ...]
    token: Axis

    @property
    def sizes(self) -> tuple[Expr, ...]:
        return tuple(a.size for a in self.axes)

    @property
    def others(self) -> list[tuple[Expr, Expr]]:
        """The size and the index of each part that is no token."""
        every = zip(self.axes, parts(self.index, self.axes), strict=True)
        return [(a.size, e) for a, e in every if a != self.token]

    @property
    def long(self) -> str:
        return f"tokens of `{self.chain.tensor}` lie in a dimension of {text(self.size)}"


def parts_read(found: Tokens, read: Sequence[Chain]) -> tuple[Part, ...]:
    out = []
    for chain in read:
        for dim, index in zip(found.of(chain.tensor), chain.indices, strict=False):
            size = shape(found.graph[chain.tensor])[dim]
            token, axes = found.token(chain.tensor, dim), factors(size)
            if token in axes and len(axes) > 1:
                out.append(Part(chain, size, index, axes, token))
    return tuple(out)


def other_part(found: Tokens, graph: Graph, name: str, at: Output, read: Sequence[Part]) -> Part | None:
    """The first that need not be the output's own part of what it reads: an axis of the output is its part, the same in
    all that it reads, and where its tokens lie in a folded dimension an axis of that."""
    own: dict[int, list[Axis]] = {}
    for part in read:
        for k, (axis, index) in enumerate(zip(part.axes, parts(part.index, part.axes), strict=True)):
            if axis == part.token:
                continue
            axes = own.get(k, at.along[k : k + 1] if len(at.along) > 1 else own_axes(graph[name]))
            goals = [(a, op("eq", index, a.index)) for a in axes if found.same(a.size, axis.size)]
            of = [(a, chained.claim(graph, name, part.chain, goal, "", ())) for a, goal in goals]
            own[k] = [a for a, claim in of if is_proved(claim, graph)]
            if not own[k]:
                return part
    return None


def in_one_order(found: Tokens, at: Output, read: Sequence[Part], distances: bool) -> bool:
    """Whether parts lie alike in all that is read and in the output; with `distances`, tokens next to each other."""
    orders = [p.sizes for p in read] + ([tuple(a.size for a in at.along)] if len(at.along) > 1 else [])
    alike = all(_alike(found, orders[0], other) for other in orders)
    return alike and not (distances and any(p.token != p.axes[-1] for p in read))


def sequence(found: Tokens, name: str, at: Output, read: Sequence[Part]) -> Output:
    """Where the output's entry sits along the whole dimension. Raises Undecided where that is not told."""
    for core in (c for c in found.cores.values() if not in_place(c)):
        for place, row in zip(core.position, core.rows, strict=False):
            offset = polynomial(place, found.definitions) - polynomial(row.index, found.definitions)
            _, rest = split(offset, polynomial(row.size, found.definitions))
            if rest.terms or loads(place):
                raise Undecided(f"{read[0].long}, and `{core.name}` places its queries elsewhere")
    if len(at.along) > 1:
        along, size = flat(tuple((a.index, a.size) for a in at.along)), product(tuple(a.size for a in at.along))
        return Output(along, None, {}, [size], at.along, True)
    if not all(_alike(found, read[0].sizes, other.sizes) for other in read):
        raise Undecided(f"{read[0].long}, and of `{read[-1].chain.tensor}` in one of {text(read[-1].size)}")
    own = [a for a in own_axes(found.graph[name]) if a not in at.along]
    whole: list[tuple[Expr, Expr]] = []
    for axis in read[0].axes:
        alike = at.along if axis == read[0].token else [a for a in own if found.same(a.size, axis.size)]
        if len(alike) != 1 or not found.same(alike[0].size, axis.size):
            raise Undecided(f"{read[0].long}: nothing says which of its parts of {text(axis.size)} the output is")
        whole.append((alike[0].index, axis.size))
    return Output(flat(tuple(whole)), None, {}, [read[0].size], at.along, True)


def _alike(found: Tokens, a: Sequence[Expr], b: Sequence[Expr]) -> bool:
    return len(a) == len(b) and all(found.same(x, y) for x, y in zip(a, b, strict=True))
