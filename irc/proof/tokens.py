"""Which dimensions of tensors are tokens: what is known of them (`reach.py` finds it), and which cores reach them."""

from __future__ import annotations

from dataclasses import dataclass, field

from irc.codegen.expr import Axis, Expr, Index, Load, Op, indices, loads
from irc.graph.ir import Core, Graph, Map, Node, Reduce, bodies, grouped, product, shape
from irc.graph.size import alike, equal, text
from irc.proof.flow import Undecided, core_of, own_axes, parts

Sides = frozenset[tuple[str, str]]  # (core, "row" or "column")
NOWHERE: Sides = frozenset()
Reached = dict[str, dict[int, Sides]]  # the dimensions of each tensor, and from which sides token indices reach them


@dataclass
class Tokens:
    """`cores` are those with query indices; `dims` are the token dimensions of every tensor; `reached` all dimensions
    that a token index reaches, `straight` through no table, `tabled` the tensors that one reaches through a table;
    `plain` the cores whose queries and keys come from one input of one size, so that a query sits where the key of the
    same index does, whatever `pos` says; `above` the dimensions of results that run over the rows of a core, `inside`
    the axes of results, by number, that run over one of its row indices; `alone` the tensors that a token index reaches
    which is not made of a row and a column both, as the distance of the two is; `picks` the cores whose keys are
    numbers of picks, each with elements of the tables that pick them, and `ranked` the
    tensors with an entry for each number; `apart` the cores whose keys are tokens of
    another sequence."""

    graph: Graph
    cores: dict[str, Core]
    definitions: dict[str, Expr | None]
    above: dict[str, dict[int, tuple[str, ...]]] = field(default_factory=dict)
    inside: dict[str, dict[int, tuple[tuple[str, int], ...]]] = field(default_factory=dict)
    dims: Reached = field(default_factory=dict)
    reached: Reached = field(default_factory=dict)
    straight: Reached = field(default_factory=dict)
    tabled: set[str] = field(default_factory=set)
    plain: set[str] = field(default_factory=set)
    alone: set[str] = field(default_factory=set)
    picks: dict[str, tuple[Load, ...]] = field(default_factory=dict)
    ranked: set[str] = field(default_factory=set)
    apart: set[str] = field(default_factory=set)

    def of(self, name: str) -> tuple[int, ...]:
        return tuple(sorted(self.dims.get(name, {})))

    def asked(self, name: str) -> tuple[int, ...]:
        """The dimensions that tell where an entry sits; through a table, all that token indices reach."""
        return self.of(name) or (tuple(sorted(self.reached[name])) if name in self.tabled else ())

    def same(self, a: Expr, b: Expr) -> bool:
        return equal(a, b, self.definitions)

    def rows(self, core: str) -> Expr:
        return product(tuple(a.size for a in self.cores[core].rows))

    def columns(self, core: str) -> Expr:
        return product(tuple(a.size for a in self.cores[core].columns))

    def placing(self, core: Core) -> Core:
        """The core that says where rows of this one sit: another of the same queries, where its own keys are another
        sequence."""
        others = (c for c in self.cores.values() if c.name not in self.apart)
        alike = (c for c in others if self.same(self.rows(c.name), self.rows(core.name)))
        return next(alike, core) if core.name in self.apart else core

    def square(self, core: str) -> bool:
        """Whether rows and columns run over the same size."""
        return self.same(self.rows(core), self.columns(core))

    def batches(self) -> list[Expr]:
        """The first dimension of each output, where that is not tokens."""
        lengths = [n for c in self.cores for n in (self.rows(c), self.columns(c))]
        first = [sizes[0] for _, name in self.graph.outputs if (sizes := shape(self.graph[name]))]
        return [s for s in first if not any(alike(s, n, self.definitions) for n in lengths)]

    def has_batch(self, node: Node) -> bool:
        """Whether a dimension, or a part of one, runs over the batch or its first part."""
        whole = self.batches()
        batch = [*whole, *(factors(s)[0].size for s in whole)]
        parts = [part for s in shape(node) for part in (s, *(a.size for a in factors(s)))]
        return any(self.same(part, s) for part in parts for s in batch)

    def token_factor(self, size: Expr, core: str) -> Axis | None:
        """The part of a dimension's size that rows or columns of the core run over; None where there is none."""
        ends = (self.rows(core), self.columns(core))
        found = [a for a in factors(size) if any(self.same(a.size, e) for e in ends)]
        whole = any(self.same(size, e) for e in ends)
        return Axis("whole", size) if whole else found[0] if len(found) == 1 else None

    def token(self, name: str, dim: int) -> Axis:
        """The part of a token dimension that runs over tokens: all of it, if any core that reaches it runs over all.
        Raises Undecided where cores run over different parts."""
        size = shape(self.graph[name])[dim]
        found = {t for c, _ in self.dims[name][dim] if (t := self.token_factor(size, c)) is not None}
        whole = {t for t in found if t.name == "whole"} or found
        if len(whole) > 1:
            said = " and over ".join(sorted(text(t.size) for t in whole))
            raise Undecided(f"of `{name}`, {text(size)} long, cores run over {said}: an entry has no one position")
        return next(iter(whole))

    def entry(self, name: str, dim: int, index: Expr) -> Expr:
        """The index of the token at a position of a token dimension."""
        token, every = self.token(name, dim), factors(shape(self.graph[name])[dim])
        return index if token not in every else parts(index, every)[every.index(token)]

    def beside(self, core: str) -> list[Expr]:
        """How many tokens there are, as rows or as keys, of the core and of those that share such a number with it:
        positions among these are comparable, of a core with rows for chunks and one with rows for tokens not."""
        rest = dict.fromkeys(self.cores)
        ends = {c: (self.rows(c), *([] if c in self.apart else [self.columns(c)])) for c in rest}
        found = [*ends[core]]
        while near := [c for c in rest if any(self.same(n, end) for n in found for end in ends[c])]:
            found += [end for c in near for end in ends[c]]
            rest = {c: None for c in rest if c not in near}
        return found


def factors(size: Expr) -> tuple[Axis, ...]:
    """The axes of a product, as it is written: H * S has two."""
    match size:
        case Op("mul", (a, b), _):
            both = (*factors(a), *factors(b))
            return tuple(Axis(str(k), x.size) for k, x in enumerate(both))
        case _:
            return (Axis("0", size),)


def sides(node: Node, found: Tokens, reached: Reached) -> dict[str, Sides]:
    """The sides that each index of the node stands for: of its core, of its readers, of the results that it reads."""
    known: dict[str, Sides] = {}
    groups = node.groups if isinstance(node, Map | Reduce) else ()
    for dim, axes in enumerate(grouped(own_axes(node), groups)):
        for axis in axes:
            known[axis.name] = reached.get(node.name, {}).get(dim, NOWHERE)
    core = core_of(node, found.graph)
    if core is not None:
        for side, axes in (("row", core.rows), ("column", core.columns)):
            for axis in axes:
                known[axis.name] = known.get(axis.name, NOWHERE) | _own(core, side, axis, found)
    for load in (x for e in bodies(node) for x in loads(e)):
        for dim, cores in found.above.get(load.tensor, {}).items():
            for name in _plainly(load.indices[dim]) if core is not None else indices(load.indices[dim]):
                known[name] = known.get(name, NOWHERE) | {(c, "row") for c in cores}
    return known


def _plainly(e: Expr) -> frozenset[str]:
    """Indices that the expression does not only give to tables: what a core reads of a result where a table tells, its
    own indices are no rows of."""
    match e:
        case Index(name):
            return frozenset({name})
        case Op(_, args, _):
            return frozenset(name for a in args for name in _plainly(a))
        case _:
            return frozenset()


def _own(core: Core, side: str, axis: Axis, found: Tokens) -> Sides:
    """What an index of the core stands for."""
    if core.rows:
        return frozenset({(core.name, side)})
    alike = (c for c in found.cores if found.same(axis.size, found.columns(c)) or found.same(axis.size, found.rows(c)))
    return frozenset((c, "column") for c in alike)
