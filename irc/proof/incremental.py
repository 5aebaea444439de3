"""Decoding with a cache against the full computation: node by node, every expression is the same in both.

A step of decoding computes with smaller sizes and, where queries and keys run over different sizes, with one row.
The elements that it computes correspond to elements of the full computation (`growth.py`). They agree if at
corresponding points every node sees the same operands: the same support, none of it out of the step's reach, and
index expressions, positions and sizes of the same value. A cache that has its full size from the start is moreover read
nowhere beyond the step, and neither is a pool that a table addresses; where tables grow no access reaches there, but
one that a table tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from irc.codegen.expr import (
    TRUE,
    Axis,
    Const,
    Expr,
    Index,
    Kind,
    Load,
    Op,
    Size,
    indices,
    integer,
    loads,
    op,
    rebuild,
    substitute,
    walk,
)
from irc.graph.ir import Core, Fact, Graph, Input, Map, Reduce, all_axes, operands
from irc.graph.printer import expression
from irc.graph.size import expression as size_expression
from irc.graph.size import polynomial
from irc.passes.specialise import specialise
from irc.proof.brought import brought
from irc.proof.claim import Claim
from irc.proof.distinct import distinct
from irc.proof.flow import (
    Undecided,
    all_of,
    conjuncts,
    core_of,
    inline,
    parts,
    possible,
    reads,
    reads_floats,
    which_floats,
)
from irc.proof.flow import at as located
from irc.proof.growth import Growth, dimensions, growth
from irc.proof.invariance import row_invariant, up_to_rows
from irc.proof.places import check_addresses
from irc.proof.reach import tokens


def incremental(graph: Graph) -> tuple[Claim, ...]:
    """One claim for each expression that could differ between the two states."""
    graph = specialise(_apart(graph), {})
    states = growth(graph)
    compared = _Compared(graph, states)
    check_addresses(tokens(graph), compared.brought)
    found = distinct([claim for node in compared.needed for claim in compared.node(node)])
    supposed = tuple(f"of steps that keep {text}" for text in states.kept)
    return tuple(replace(claim, supposed=supposed) for claim in found)


def _apart(graph: Graph) -> Graph:
    """Axes are told by their sizes: how long a cache is, where another size is given the same number, is left open
    under an assumption."""
    given = {name: value for name, value in graph.sizes if isinstance(value, Const)}
    keys = [c.columns[0].size for c in graph.cores if any(True for p in c.position for _ in loads(p))]
    shared = {
        size.name: given[size.name]
        for size in keys
        if isinstance(size, Size) and list(given.values()).count(given.get(size.name, TRUE)) > 1
    }
    shared = {name: n for name, n in shared.items() if not any(n in node.shape for node in graph.inputs)}
    facts = tuple(Fact(op("eq", Size(name), n), (), f"{name} == {n.value}") for name, n in shared.items())
    sizes = tuple((name, None if name in shared else value) for name, value in graph.sizes)
    return replace(graph, sizes=sizes, facts=(*graph.facts, *facts))


@dataclass(frozen=True, slots=True)
class _Guard:
    """Where elements are read: what holds there, of their own axes and for some point of further ones."""

    holds: Expr
    axes: tuple[Axis, ...] = ()


EVERYWHERE = _Guard(TRUE)


class _Compared:
    def __init__(self, graph: Graph, states: Growth) -> None:
        self.graph, self.states = graph, states
        self.guards: dict[str, list[_Guard]] = {}
        self.brought = brought(tokens(graph))
        self.invariant = row_invariant(graph)
        self.needed = self._needed()
        for node in reversed(self.needed):
            self._guard(node)

    def _needed(self) -> list[Map | Reduce]:
        """The nodes that outputs are computed from, but for what softmax cancels; where memory may hold anything, NaN
        too, nothing cancels."""
        live = {name for _, name in self.graph.outputs}
        for node in reversed(self.graph.nodes):
            if node.name in live and isinstance(node, Map | Reduce):
                written = {x.tensor for x in loads(inline(node.body, self.graph))}
                kept = written if self.states.held else {x.tensor for x in loads(self.body(_Point(self, node)))}
                live.update(name for name in operands(node) if name in kept or name not in written)
        return [n for n in self.graph if n.name in live and isinstance(n, Map | Reduce)]

    def body(self, at: _Point) -> Expr:
        """What the node computes, without what is added to all logits of a row that only softmax reads."""
        body = inline(at.node.body, self.graph)
        if at.node.name not in self.invariant or at.core is None:
            return body
        return up_to_rows(body, frozenset(a.name for a in at.core.columns), at.shifts)

    def _guard(self, node: Map | Reduce) -> None:
        """Where each operand of the node is read."""
        guard = self.guarded(node)
        own = () if node.where is None else (node.where,)
        for e in (node.body, node.where or TRUE, getattr(node, "init", None) or TRUE):
            for load, given in reads(e):
                here = _Guard(all_of([guard.holds, *own, *map(possible, given)]), guard.axes)
                found = self._of_operand(load, here, node) if e is node.body else EVERYWHERE
                self.guards.setdefault(load.tensor, []).append(found)

    def _of_operand(self, load: Load, here: _Guard, node: Map | Reduce) -> _Guard:
        """The guard in the axes of the tensor that is read; an index of the reader that is none of them gets a name of
        its own, and the guard speaks of all its values. What it says of heads and features may be less than holds."""
        read = self.graph[load.tensor]
        if not isinstance(read, Map | Reduce):
            return EVERYWHERE
        kinds: dict[Expr, str] = {a.index: self.states.kind(a.size) for a in all_axes(node)}
        own: dict[Expr, str] = {a.index: self.states.kind(a.size) for a in read.axes}
        names: dict[Expr, Expr] = {}
        equal: list[tuple[Expr, Expr]] = []
        for index, place in located(read, load.indices).items():
            if place not in names and kinds.get(place) == own[index]:
                names[place] = index
            elif own[index] != "fixed":
                equal.append((index, place))
        used = {n for e in (here.holds, *(place for _, place in equal)) for n in indices(e)}
        axes: list[Axis] = []
        holds: list[Expr] = []
        for axis in (a for a in (*all_axes(node), *here.axes) if a.name in used and a.index not in names):
            if self.states.kind(axis.size) == "row":
                names[axis.index] = self.states.step.index
                continue
            axes.append(replace(axis, name=f"{axis.name} that reads"))
            names[axis.index] = axes[-1].index
            if self.states.kind(axis.size) == "token":
                holds.append(op("le", axes[-1].index, self.states.step.index))
        holds += [substitute(here.holds, names), *(op("eq", index, substitute(place, names)) for index, place in equal)]
        return _Guard(all_of(holds), tuple(axes))

    def guarded(self, node: Map | Reduce) -> _Guard:
        """Where the node's elements matter: as the one reader sees them that all others are among, else everywhere."""
        found = {frozenset(conjuncts(g.holds)): g for g in self.guards.get(node.name, [EVERYWHERE])}
        returned = any(name == node.name for _, name in self.graph.outputs)
        least = min(found, key=len)
        return EVERYWHERE if returned or not all(least <= other for other in found) else found[least]

    def node(self, node: Map | Reduce) -> Iterator[Claim]:
        over = node.over if isinstance(node, Reduce) else ()
        at = _Point(self, node)
        guard = inline(self.guarded(node).holds, self.graph)
        where = inline(node.where or TRUE, self.graph)
        if isinstance(node, Reduce) and node.op == "sum":
            where = op("and", where, inline(_telling(node.body), self.graph))
        if reads_floats(where):
            raise Undecided(f"which pairs `{node.name}` sees depends on {which_floats(where, self.graph)}")
        inside = at.inside(node.axes)
        what = f"the mask of `{at.core.name}`" if at.core else f"the condition of `{node.name}`"
        if at.differs(where):
            goal = op("eq", at.step(where), at.full(where))
            about = f"{what} is the same while decoding as in the full computation"
            seen = () if self.states.held else at.inside(over)
            yield at.claim(about, goal, (*inside, *seen, at.full(guard)))
        yield from at.unread(where, (*inside, *at.inside(over), at.full(guard)))
        for axis in over:
            other = at.beyond(axis)
            if other is not None:
                what = what if at.core or where != TRUE else f"`{node.name}`, which has no mask,"
                about = f"{what} sees no `{axis.name}` that is not there while decoding"
                conditions = (*inside, other.outside, at.full(guard, other.names))
                yield at.claim(about, op("not", at.full(where, other.names)), conditions, other.axes)
        reach = at.full(guard)
        seen = (*inside, *at.inside(over), at.full(op("and", guard, where)))
        body = self.body(at)
        for goal, about, given in at.leaves(body, ()):
            yield at.claim(about, goal, (*seen, *given))
        yield from at.unread(inline(node.body, self.graph), seen)
        if isinstance(node, Reduce) and node.init is not None:
            init = inline(node.init, self.graph)
            for goal, about, given in at.leaves(init, ()):
                yield at.claim(about, goal, (*inside, reach, *given))
            yield from at.unread(init, (*inside, reach))


def _telling(term: Expr) -> Expr:
    """A condition outside of which a term of a sum is plainly 0."""
    match term:
        case Op("where", (condition, _, Const(0, _)), _) if not reads_floats(condition):
            return condition
        case Op("mul", (a, b), _):
            return op("and", _telling(a), _telling(b))
        case _:
            return TRUE


@dataclass(frozen=True, slots=True)
class _Beyond:
    """Entries of an axis that only the full computation has: the condition, and the axis where it needs a name of its
    own beside the row decoded."""

    outside: Expr
    axes: tuple[Axis, ...] = ()
    names: tuple[tuple[Expr, Expr], ...] = ()


class _Point:
    """A point of a node in both states: expressions as the step sees them, and as the full computation does."""

    def __init__(self, compared: _Compared, node: Map | Reduce) -> None:
        self.graph, self.states, self.node = compared.graph, compared.states, node
        self.core: Core | None = core_of(node, self.graph)
        self.brought = compared.brought
        self.name = node.name.partition(".")[0]  # of a core, where it is one of its parts
        self.axes, self.readers = all_axes(node), compared.guarded(node).axes
        self.kinds = {a.name: self.states.kind(a.size) for a in self.axes}
        rows = [a for a in self.axes if self.kinds[a.name] == "row"]
        step = self.states.step
        self.rows: dict[Expr, Expr] = {a.index: step.index for a in rows}
        self.zero: dict[Expr, Expr] = {a.index: integer(0) for a in rows}

    def inside(self, axes: tuple[Axis, ...]) -> tuple[Expr, ...]:
        """Entries that are there while decoding."""
        step = self.states.step.index
        return tuple(op("le", a.index, step) for a in axes if self.kinds[a.name] == "token")

    def beyond(self, axis: Axis) -> _Beyond | None:
        """Entries of the full computation that are not."""
        step = self.states.step.index
        match self.kinds[axis.name]:
            case "token":
                return _Beyond(op("lt", step, axis.index))
            case "row":
                other = replace(axis, name=f"another {axis.name}")
                return _Beyond(op("ne", step, other.index), (other,), ((axis.index, other.index),))
            case _:
                return None

    def step(self, expr: Expr) -> Expr:
        """While decoding. Tables are those of the full computation, read at the corresponding entry."""
        smaller = dict(self.states.sizes)

        def put(e: Expr) -> Expr | None:
            if e in smaller:
                return smaller[e]
            if isinstance(e, Load) and e.indices and isinstance(self.graph[e.tensor], Input):
                read = tuple(rebuild(i, put) for i in e.indices)
                dims = dimensions(e.tensor, self.graph)
                return Load(e.tensor, tuple(self._moved(i, d) for i, d in zip(read, dims, strict=True)), e.kind)
            return self.zero.get(e)

        return rebuild(expr, put)

    def _moved(self, index: Expr, dim: tuple[Axis, ...]) -> Expr:
        kinds = [self._kind(a.size) for a in dim]
        if kinds == ["row"]:
            return op("add", index, self.states.step.index)
        if len(dim) > 1 and set(kinds) != {"fixed"}:
            raise Undecided(f"a table of `{self.node.name}` has an axis of tokens within a longer one")
        return index

    def full(self, expr: Expr, names: tuple[tuple[Expr, Expr], ...] = ()) -> Expr:
        """In the full computation; `names` are axes that stand for other rows than the one decoded."""
        return substitute(expr, {**self.states.full, **self.rows, **dict(names)})

    def differs(self, expr: Expr) -> bool:
        a, b = self.step(expr), self.full(expr)
        return a != b and (expr.kind is not Kind.INT or polynomial(a, {}) != polynomial(b, {}))

    def shifts(self, expr: Expr) -> bool:
        """Whether an integer differs between the states by a number that is the same for the whole row."""
        assert self.core is not None
        read = indices(size_expression(polynomial(self.step(expr), {}) - polynomial(self.full(expr), {})))
        return not read & {a.name for a in self.core.columns}

    def leaves(self, expr: Expr, given: tuple[Expr, ...]) -> Iterator[tuple[Expr, str, tuple[Expr, ...]]]:
        """What must be the same for the expression to be: (goal, the sentence, where it matters)."""
        match expr:
            case Load() if expr.kind is Kind.FLOAT and expr.indices:
                for dim, index in zip(dimensions(expr.tensor, self.graph), expr.indices, strict=True):
                    yield from ((g, a, given) for g, a in self._entry(expr.tensor, dim, index))
            case Op("where", (condition, a, b), _) if expr.kind is Kind.FLOAT:
                yield from self.leaves(condition, given)
                held = () if reads_floats(condition) else (self.full(condition),)
                fails = () if reads_floats(condition) else (self.full(op("not", condition)),)
                yield from self.leaves(a, (*given, *held))
                yield from self.leaves(b, (*given, *fails))
            case Op() if expr.kind is Kind.FLOAT or any(e.kind is Kind.FLOAT for e in walk(expr)):
                for argument in expr.args:
                    yield from self.leaves(argument, given)
            case _ if self.differs(expr):
                about = f"`{self.name}` uses {expression(expr)}, the same while decoding"
                yield op("eq", self.step(expr), self.full(expr)), about, given

    def _entry(self, tensor: str, dim: tuple[Axis, ...], index: Expr) -> Iterator[tuple[Expr, str]]:
        """The entries read of one dimension correspond."""
        smaller = tuple(replace(a, size=substitute(a.size, dict(self.states.sizes))) for a in dim)
        for axis, a, b in zip(dim, parts(self.step(index), smaller), parts(self.full(index), dim), strict=True):
            if self._kind(axis.size) == "row":
                a = op("add", a, self.states.step.index)
            if a != b and polynomial(a, {}) != polynomial(b, {}):
                about = f"`{self.name}` reads `{tensor}` at {expression(index)}, the same while decoding"
                yield op("eq", a, b), about

    def unread(self, expr: Expr, given: tuple[Expr, ...]) -> Iterator[Claim]:
        """That the expression reads no token that memory has room for and does not hold yet."""
        step = self.states.step.index
        for load, conditions in reads(expr):
            for place in dict.fromkeys(self._places(load)):
                if place != step and not (isinstance(place, Index) and self.kinds.get(place.name) == "token"):
                    where = self.full(all_of([possible(c) for c in conditions]))
                    about = f"`{self.name}` reads nothing of `{load.tensor}` that is not there while decoding"
                    words = f"`{self.name}` at position {{}} reads `{load.tensor}` at {{}}, "
                    words += "which is not there yet when that position is decoded"
                    yield self.claim(about, op("le", place, step), (*given, where), (), (step, place), words)

    def _places(self, load: Load) -> Iterator[Expr]:
        """The token of an element that may not be there yet, in the full computation: its own index, where tables of
        tokens have their full size from the start, and where they do not an index that a table tells: a bound that
        grows with the tokens is no more than the full computation keeps. What a table finds in a pool is the pair's
        own (`check_addresses`)."""
        read = self.graph[load.tensor]
        if self.states.held and isinstance(read, Input) and read.name not in self.brought:
            return
        for dim, index in zip(dimensions(load.tensor, self.graph), load.indices, strict=True):
            for axis, place in zip(dim, parts(self.full(index), dim), strict=True):
                if self._kind(axis.size) == "token" and (self.states.held or loads(place)):
                    yield place

    def _kind(self, size: Expr) -> str:
        """How a dimension of a tensor changes; where a table grows with the tokens, an entry keeps its index."""
        return self.states.kind(size) if size in (self.states.rows, self.states.tokens) else "fixed"

    def claim(
        self,
        about: str,
        goal: Expr,
        given: tuple[Expr, ...],
        further: tuple[Axis, ...] = (),
        said: tuple[Expr, ...] = (),
        words: str = "",
    ) -> Claim:
        """The claim at every point of the node; its row, while decoding, is the last one there is. One that says places
        speaks of no pair."""
        step = self.states.step
        rows = [a for a in self.axes if a.index in self.rows]
        last = replace(rows[0], size=step.size) if rows else step
        given = (*self.states.given, *given)
        readers = (a for a in self.readers if a.name in indices(all_of(given)))
        free = (*(a for a in self.axes if a.index not in self.rows), *readers, *further, last)
        names: dict[Expr, Expr] = {step.index: last.index}
        core = self.core
        if core is not None and not {a.name for a in (*core.rows, *core.columns)} <= {a.name for a in free}:
            core = None
        return Claim(
            about,
            free,
            substitute(goal, names),
            substitute(all_of(given), names),
            core=None if core is None or said else core.name,
            span=self.node.span,
            words=words,
            said=tuple(substitute(e, names) for e in said),
        )
