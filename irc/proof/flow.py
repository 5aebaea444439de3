"""What an output element depends on: every chain of loads from it to an input, and when the chain exists.

A node reads an operand only at points where its `where` holds, so a chain carries the conjunction of what holds along
it. Index expressions are substituted through, bound axes renamed apart. A chain is a conjunctive query: an axis that
only says what another one says too is folded into it, so that chains that mean the same become one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from irc.codegen.expr import (
    FALSE,
    TRUE,
    Axis,
    Const,
    Expr,
    Index,
    Kind,
    Load,
    Op,
    indices,
    integer,
    loads,
    op,
    rebuild,
    substitute,
    walk,
)
from irc.graph.ir import Core, Graph, Input, Map, Node, Reduce, Scatter, grouped

LIMIT = 256


class Undecided(Exception):
    """The question cannot be put; the message says why."""


class PropertyError(Exception):
    """A property that makes no sense of this program: the message says why, `help` what to write instead."""

    def __init__(self, message: str, help: str | None = None) -> None:
        super().__init__(message)
        self.help = help


class Unplaced(PropertyError):
    """Nothing says where queries sit among keys."""

    def __init__(self, message: str) -> None:
        super().__init__(
            message,
            "write `align last` (the last query sees the last key), `align first` or `align offset e` in the core, "
            "or leave the property away",
        )


@dataclass(frozen=True, slots=True)
class Place:
    """The core nearest to the input on a chain: where its indices stand, and from which side the input was read."""

    core: str
    at: tuple[tuple[str, Expr], ...]
    side: str


@dataclass(frozen=True, slots=True)
class Chain:
    """The node's element at its own axes depends on `tensor` at `indices` (of the dimensions asked for) if there are
    values of the axes `bound` for which all of `where` holds. `path` are the tensors on the way, its own first."""

    tensor: str
    indices: tuple[Expr, ...]
    bound: tuple[Axis, ...] = ()
    where: tuple[Expr, ...] = ()
    place: Place | None = field(default=None, compare=False)
    path: tuple[str, ...] = field(default=(), compare=False)


def chains(
    graph: Graph, name: str, keep: Mapping[str, tuple[int, ...]], placed: Collection[str] = ()
) -> tuple[Chain, ...]:
    """Every chain from the node `name`, at its own axes, to a tensor of `keep`, which says whose dimensions matter.

    For the tensors of `placed` it matters too where the indices of the nearest core stand. Raises Undecided where there
    are more than LIMIT.
    """
    return _Flow(graph, keep, placed).of(name)


def own_axes(node: Node) -> tuple[Axis, ...]:
    """The axes of which an element of the node is a point; a tensor given by its shape has one a dimension."""
    match node:
        case Map() | Reduce():
            return node.axes
        case Input() | Scatter():
            return tuple(Axis(f"{node.name}.{k}", size) for k, size in enumerate(node.shape))


def parts(index: Expr, axes: tuple[Axis, ...]) -> tuple[Expr, ...]:
    """The index of each axis at a position of their product axis."""
    if len(axes) == 1:
        return (index,)
    if isinstance(index, Op) and index.name == "flat" and index.args[1::2] == tuple(a.size for a in axes):
        return index.args[::2]
    out: list[Expr] = []
    for axis in axes[:0:-1]:
        out.append(op("mod", index, axis.size))
        index = op("floordiv", index, axis.size)
    return (index, *reversed(out))


def at(node: Node, position: tuple[Expr, ...]) -> dict[Expr, Expr]:
    """What the node's own axes are for a reader of the element at `position`."""
    groups = node.groups if isinstance(node, Map | Reduce) else ()
    found: dict[Expr, Expr] = {}
    for axes, index in zip(grouped(own_axes(node), groups), position, strict=True):
        found |= {a.index: e for a, e in zip(axes, parts(index, axes), strict=True)}
    return found


def conjuncts(expr: Expr) -> tuple[Expr, ...]:
    match expr:
        case Op("and", (a, b), _):
            return conjuncts(a) + conjuncts(b)
        case Const(True, _):
            return ()
        case Op("le" | "eq", (a, b), _) if a == b:
            return ()
        case _:
            return (expr,)


def all_of(conditions: Collection[Expr]) -> Expr:
    result: Expr = TRUE
    for condition in conditions:
        result = op("and", result, condition)
    return result


def inline(expr: Expr, graph: Graph) -> Expr:
    """Integers and booleans that the program computes, written by what they are computed from."""

    def put(e: Expr) -> Expr | None:
        node = graph.by_name.get(e.tensor) if isinstance(e, Load) else None
        if not isinstance(e, Load) or not isinstance(node, Map) or node.body.kind is Kind.FLOAT:
            return None
        position = tuple(inline(i, graph) for i in e.indices)
        value = node.body
        if node.where is not None:
            value = op("where", node.where, value, FALSE if value.kind is Kind.BOOL else integer(0))
        return substitute(inline(value, graph), at(node, position))

    return rebuild(expr, put)


def reads_floats(expr: Expr) -> bool:
    """Whether elements of floating tensors decide the value (float scalars do not count)."""
    return bool(_floats(expr))


def which_floats(expr: Expr, graph: Graph) -> str:
    """In words, the first of them."""
    name = _floats(expr)[0]
    node = graph[name]
    if isinstance(node, Reduce) and node.op == "sum" and not reads_floats(node.body):
        return f"entries of `{name}`: a sum is a float, of integers too"
    return f"entries of `{name}`, which are floats"


def _floats(expr: Expr) -> list[str]:
    return [e.tensor for e in walk(expr) if isinstance(e, Load) and e.kind is Kind.FLOAT and e.indices]


def possible(expr: Expr, wanted: bool = True) -> Expr:
    """A condition without floating tensors that holds wherever `expr` may (with `wanted` false: only where it must)."""
    if not reads_floats(expr):
        return expr
    match expr:
        case Op("and" | "or" as name, (a, b), _):
            return op(name, possible(a, wanted), possible(b, wanted))
        case Op("not", (a,), _):
            return op("not", possible(a, not wanted))
        case _:
            return TRUE if wanted else FALSE


def reads(expr: Expr, given: tuple[Expr, ...] = ()) -> Iterator[tuple[Load, tuple[Expr, ...]]]:
    """Every load of the expression, with what holds where its element matters."""
    match expr:
        case Load():
            yield expr, given
            for index in expr.indices:
                yield from reads(index, given)
        case Op("where", (condition, a, b), _):
            yield from reads(condition, given)
            yield from reads(a, (*given, condition))
            yield from reads(b, (*given, op("not", condition)))
        case Op("and" | "or" as name, (a, b), _):  # b matters where a does not settle it; a likewise if b reads nothing
            open_a, open_b = (a, b) if name == "and" else (op("not", a), op("not", b))
            yield from reads(a, given if loads(b) else (*given, open_b))
            yield from reads(b, (*given, open_a))
        case Op():
            for argument in expr.args:
                yield from reads(argument, given)


def core_of(node: Node, graph: Graph) -> Core | None:
    """The core whose pairs or rows the node computes."""
    if not isinstance(node, Map | Reduce):
        return None
    for core in graph.cores:
        if node.name == core.name or node.name.startswith(core.name + "."):
            return core
    tokens = {a for a in node.axes + getattr(node, "over", ()) if a.role}
    return next((c for c in graph.cores if tokens and tokens <= {*c.rows, *c.columns}), None)


class _Flow:
    def __init__(self, graph: Graph, keep: Mapping[str, tuple[int, ...]], placed: Collection[str]) -> None:
        self.graph, self.keep, self.placed = graph, keep, placed
        self.known: dict[str, tuple[Chain, ...]] = {}

    def of(self, name: str) -> tuple[Chain, ...]:
        if name not in self.known:
            self.known[name] = self._of(self.graph[name])
        return self.known[name]

    def _of(self, node: Node) -> tuple[Chain, ...]:
        found: dict[object, Chain] = {}
        own = own_axes(node)
        for bound, load, given in self._reads(node):
            for chain in self._through(node, own + bound, load, given):
                short = minimal(replace(chain, bound=bound + chain.bound), own, chain.tensor in self.placed)
                if short is not None:
                    key = (short, short.place if short.tensor in self.placed else None)
                    found.setdefault(key, short)
            if len(found) > LIMIT:
                raise Undecided(f"`{node.name}` depends on its inputs in more than {LIMIT} ways")
        return tuple(self._weakest(list(found.values())))

    def _weakest(self, found: list[Chain]) -> list[Chain]:
        """Without chains that assume more than another one to the same entry."""
        kept: dict[object, list[Chain]] = {}
        for chain in sorted(found, key=lambda c: len(c.where)):
            place = chain.place if chain.tensor in self.placed else None
            alike = kept.setdefault((chain.tensor, chain.indices, place), [])
            if not any(set(o.where) <= set(chain.where) and set(o.bound) <= set(chain.bound) for o in alike):
                alike.append(chain)
        return [chain for alike in kept.values() for chain in alike]

    def _reads(self, node: Node) -> Iterator[tuple[tuple[Axis, ...], Load, tuple[Expr, ...]]]:
        """Axes that the node sums over, what it loads, and when."""
        match node:
            case Map() | Reduce():
                over = node.over if isinstance(node, Reduce) else ()
                inside = () if node.where is None else (node.where,)
                yield from ((over, *r) for r in reads(node.body, inside))
                yield from ((over, *r) for r in reads(node.where or TRUE))
                if isinstance(node, Reduce) and node.init is not None:
                    yield from (((), *r) for r in reads(node.init))
            case Scatter():
                for u in node.updates:
                    own = (a.index for a in own_axes(node))
                    here = tuple(op("eq", e, i) for e, i in zip(u.indices, own, strict=True))
                    inside = () if u.where is None else (u.where,)
                    yield from ((u.over, *r) for r in reads(u.body, here + inside))
                    for e in (*u.indices, u.where or TRUE):
                        yield from ((u.over, *r) for r in reads(e))

    def _through(self, node: Node, axes: tuple[Axis, ...], load: Load, given: tuple[Expr, ...]) -> Iterator[Chain]:
        """The chains of what `node` loads, as seen from the axes of `node` and those that it sums over."""
        read = tuple(inline(i, self.graph) for i in load.indices)
        here = tuple(c for g in given for c in conjuncts(possible(inline(g, self.graph))))
        core = core_of(node, self.graph)
        if load.tensor in self.keep:
            ends: tuple[Chain, ...] = (Chain(load.tensor, tuple(read[k] for k in self.keep[load.tensor])),)
            moved: Mapping[Expr, Expr] = {}
        else:
            ends = self.of(load.tensor)
            moved = at(self.graph[load.tensor], read) if ends else {}
        taken = {a.name for a in axes}
        for end in ends:
            apart: dict[Expr, Expr] = dict(moved)
            bound = _apart(end.bound, taken)
            apart |= {old.index: new.index for old, new in zip(end.bound, bound, strict=True)}
            place = end.place and replace(end.place, at=tuple((n, substitute(e, apart)) for n, e in end.place.at))
            if place is None and core is not None:
                place = _placed(core, taken, read)
            yield Chain(
                end.tensor,
                tuple(substitute(i, apart) for i in end.indices),
                bound,
                here + tuple(substitute(c, apart) for c in end.where),
                place,
                (node.name, *(end.path or (load.tensor,))),
            )


def _apart(axes: tuple[Axis, ...], taken: Collection[str]) -> tuple[Axis, ...]:
    """The axes under names that are not taken, and differ from each other."""
    new: list[Axis] = []
    for axis in axes:
        new.append(_renamed(axis, {*taken, *(a.name for a in new)}))
    return tuple(new)


def _renamed(axis: Axis, taken: Collection[str]) -> Axis:
    base, count, name = axis.name.partition(".")[0], 0, axis.name
    while name in taken:
        count += 1
        name = f"{base}.{count}"
    return replace(axis, name=name)


def _placed(core: Core, names: Collection[str], read: tuple[Expr, ...]) -> Place | None:
    """Where the pair of the core stands, at a node that has both ends of it."""
    of_core = [a.name for a in (*core.batch, *core.rows, *core.columns)]
    if not set(of_core) <= set(names):
        return None
    used = {n for e in read for n in indices(e)}
    side = "column" if used & {a.name for a in core.columns} else "row"
    return Place(core.name, tuple((name, Index(name)) for name in of_core), side)


def minimal(chain: Chain, own: tuple[Axis, ...], placed: bool = False) -> Chain | None:
    """The chain without axes that say nothing new, the rest renamed in order; None where it cannot exist."""
    where = tuple(dict.fromkeys(c for w in chain.where for c in conjuncts(w)))
    if FALSE in where:
        return None
    place = chain.place
    head = {n for e in chain.indices for n in indices(e)}
    if placed and place is not None:
        head |= {n for _, e in place.at for n in indices(e)}
    bound = list(chain.bound)
    for axis in chain.bound:
        if axis.name in head:
            continue
        about = [c for c in where if axis.name in indices(c)]
        rest = [c for c in where if c not in about]
        for other in (*own, *bound):
            fold: dict[Expr, Expr] = {axis.index: other.index}
            if other != axis and other.size == axis.size and all(_holds(substitute(c, fold), rest) for c in about):
                place = place and replace(place, at=tuple((n, substitute(e, fold)) for n, e in place.at))
                where, bound = tuple(rest), [a for a in bound if a != axis]
                break
        else:
            if not about:
                bound.remove(axis)
                if not isinstance(axis.size, Const):
                    where = (*where, op("lt", integer(0), axis.size))
    return _ordered(replace(chain, bound=tuple(bound), where=tuple(dict.fromkeys(where)), place=place), own)


def _holds(condition: Expr, known: Collection[Expr]) -> bool:
    return all(c in known for c in conjuncts(condition))


def _ordered(chain: Chain, own: tuple[Axis, ...]) -> Chain:
    """Bound axes in the order of their first use, under the plainest names that are free."""
    used = [e.name for x in (*chain.indices, *chain.where) for e in walk(x) if isinstance(e, Index)]
    order = list(dict.fromkeys(used))
    bound = sorted(chain.bound, key=lambda a: order.index(a.name) if a.name in order else len(order))
    plain = tuple(replace(a, name=a.name.partition(".")[0]) for a in bound)
    new = _apart(plain, {a.name for a in own})
    names: dict[Expr, Expr] = {a.index: b.index for a, b in zip(bound, new, strict=True) if a != b}
    place = chain.place and replace(chain.place, at=tuple((n, substitute(e, names)) for n, e in chain.place.at))
    return replace(
        chain,
        indices=tuple(substitute(e, names) for e in chain.indices),
        bound=new,
        where=tuple(substitute(c, names) for c in chain.where),
        place=place,
    )
