"""The backward graph: reverse mode, one rule a node, closed over the same four nodes.

A cotangent reaches a tensor through each element that some body reads. At one reading `x[e]` in a node over the
points p, the contribution is cotangent(node) * d body / d x[e]; it is summed over the indices that `e` does not
mention, and lands at `e`: at once where `e` enumerates the tensor, by a Scatter elsewhere. A reading inside `where`
contributes inside it alone, and everything upstream inherits that support: a blocked pair does not exist backward
either.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce

from irc.codegen.expr import (
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
    number,
    op,
    substitute,
    walk,
)
from irc.graph.ir import (
    Graph,
    Input,
    Map,
    Node,
    Reduce,
    Scatter,
    Update,
    cotangent_name,
    is_tile,
    kind,
    operands,
    own_element,
    position,
    product,
    shape,
)
from irc.graph.size import equal
from irc.passes.derivative import ZERO, mul_where, partial
from irc.passes.simplify import factors, simplify
from irc.passes.split import reads_tiles


@dataclass(frozen=True, slots=True)
class Contribution:
    """tensor[indices] += body over `axes`, where `where` holds."""

    axes: tuple[Axis, ...]
    indices: tuple[Expr, ...]
    body: Expr
    where: Expr | None


def gradient_name(name: str) -> str:
    return f"d.{name}"


def differentiable(graph: Graph) -> tuple[str, ...]:
    """Names of the inputs that receive gradients."""
    return tuple(n.name for n in graph.inputs if n.role in ("input", "param") and n.kind is Kind.FLOAT)


def active(graph: Graph) -> frozenset[str]:
    """Nodes through which some differentiable input is reached."""
    found = set(differentiable(graph))
    for node in graph:
        if kind(node) is Kind.FLOAT and any(name in found for name in operands(node)):
            found.add(node.name)
    return frozenset(found)


def differentiate(graph: Graph) -> Graph:
    """The graph that maps inputs, what the forward pass kept, and cotangents of the outputs (a missing one is zero) to
    gradients `(input, "d.input")`. Tile values of the forward graph are computed again, none is kept."""
    return simplify(_Backward(graph).run())


class _Backward:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Node] = []
        self.contributions: dict[str, list[Contribution]] = {n.name: [] for n in graph}
        self.support: dict[str, Expr | None] = {}
        self.taken = {n.name for n in graph}
        self.gradients: dict[str, str] = {}  # of each node, the name of its cotangent
        self.active = active(graph)

    def run(self) -> Graph:
        graph = self.graph
        for public, name in graph.outputs:
            node = graph[name]
            if name in self.active and isinstance(node, Map | Reduce):
                cotangent = Input(cotangent_name(public), "cotangent", Kind.FLOAT, shape(node))
                self.nodes.append(cotangent)
                at = position(node.axes, node.groups)
                self.contributions[name].append(Contribution(node.axes, at, Load(cotangent.name, at), None))
        for node in reversed(graph.nodes):
            if node.name in self.active and self.contributions[node.name]:
                self._collect(node)
                if not isinstance(node, Input):
                    self._visit(node)
        outputs = tuple((n, self._gradient(n)) for n in differentiable(graph))
        nodes = order(self._forward_part() + self.nodes)
        kept = tuple(n for n in graph if not isinstance(n, Input) and not is_tile(n))
        name = f"{graph.name}.backward"
        return Graph(name, nodes, outputs, graph.sizes, graph.facts, accesses=graph.accesses, kept=kept)

    def _gradient(self, name: str) -> str:
        if name not in self.gradients:  # an input that no output depends on
            self.gradients[name] = self.fresh(gradient_name(name))
            self.nodes.append(Scatter(self.gradients[name], shape(self.graph[name]), ()))
        return self.gradients[name]

    def _forward_part(self) -> list[Node]:
        """What sums over pairs, and what is returned, as the forward pass saved it; everything else computed again.
        (Values without pairs, such as projections, may be kept at call time all the same: see recompute.py.)"""
        returned = {name for _, name in self.graph.outputs}
        out: list[Node] = []
        for node in self.graph:
            plain = node.name not in returned and not reads_tiles(node, self.graph)
            if isinstance(node, Input) or is_tile(node) or plain:
                out.append(node)
            else:
                out.append(Input(node.name, "saved", kind(node), shape(node)))
        return out

    def fresh(self, base: str) -> str:
        name, count = base, 2
        while name in self.taken:
            name, count = f"{base}.{count}", count + 1
        self.taken.add(name)
        return name

    def _collect(self, node: Node) -> None:
        """Sum the contributions to a node into its cotangent `d.name`."""
        parts = self.contributions[node.name]
        name = self.gradients[node.name] = self.fresh(gradient_name(node.name))
        whole = enumerates(parts[0], shape(node)) if len(parts) == 1 else None
        if not isinstance(node, Input) and not is_tile(node) and any(map(_is_of_pairs, parts)):
            self._collect_pairs(node, name, parts, whole)
            return
        merged = whole is not None and any(count > 1 for count in whole[1])  # a sum needs no copy into product axes
        if whole is not None and merged and isinstance(only := self._renamed(parts[0], name, *whole), Reduce):
            self.nodes.append(only)
            self.support[node.name] = None
            return
        places = _places(node, parts)
        aligned = [places and _aligned(*places, shape(node), c) for c in parts]
        if places is not None and all(a is not None for a in aligned):
            axes, groups = places
            bodies = [a for a in aligned if a is not None]
            where = bodies[0][1] if all(w == bodies[0][1] for _, w in bodies) else None
            total: Expr = ZERO
            for body, own in bodies:
                guarded = body if own is None or own == where else op("where", own, body, ZERO)
                total = op("add", total, guarded)
            self.nodes.append(Map(name, axes, total, where, groups))
            self.support[node.name] = where
            return
        self.support[node.name] = None
        self.nodes.append(self._renamed(parts[0], name, *whole) if whole else _added(node, name, parts))

    def _collect_pairs(self, node: Node, name: str, parts: list[Contribution], whole: _Places | None) -> None:
        """The cotangent of a tensor that a core reads pair by pair: a tensor, as the node is, and no value of pairs.
        Where no pair exists what the node was made of plays no part."""
        places = _places(node, parts)
        aligned = [places and _aligned(*places, shape(node), c) for c in parts]
        some = [found[1] for found in aligned if found is not None and found[1] is not None]
        self.support[node.name] = reduce(lambda x, y: op("or", x, y), some) if len(some) == len(parts) else None
        maker = self._maker(parts[0])
        if whole is None or (maker and any(a.role for a in maker.over)):  # the sum over tokens is part of adding up
            self.nodes.append(_added(node, name, parts))
            return
        axes, groups = tuple(replace(a, role="") for a in whole[0]), whole[1]
        if maker and isinstance(maker.body, Load):  # a sum over the batch of what is there for each pair
            self.nodes.append(self._renamed(parts[0], name, axes, groups))
        else:
            self.nodes.append(Map(name, axes, parts[0].body, parts[0].where, groups))

    def _maker(self, c: Contribution) -> Reduce | None:
        """The sum that made the contribution, if that is all it is."""
        if c.where is not None:
            return None
        sums = (n for n in self.nodes if isinstance(n, Reduce) and not n.groups)
        return next((n for n in sums if c.body == own_element(n)), None)

    def _renamed(self, c: Contribution, name: str, axes: tuple[Axis, ...], groups: tuple[int, ...]) -> Node:
        """The contribution as a tensor of its own: the sum that made it, if that is all it is, else a Map."""
        maker = self._maker(c)
        if maker is None:
            return Map(name, axes, c.body, c.where, groups)
        self.nodes.remove(maker)
        return replace(maker, name=name, axes=axes, groups=groups)

    def _visit(self, node: Node) -> None:
        match node:
            case Map(_, axes, body, where):
                self._through(node, axes, body, where, self._cotangent(node), node.name)
            case Reduce(_, axes, over, "sum", body, where):
                self._through(node, axes + over, body, where, self._cotangent(node), None)
            case Reduce(_, axes, over, "logsumexp", body, where, init):
                total = own_element(node)
                weight = op("share", op("sub", body, total))
                self._through(node, axes + over, body, where, op("mul", self._cotangent(node), weight), None)
                if init is not None:
                    share = op("share", op("sub", init, total))
                    self._through(node, axes, init, None, op("mul", self._cotangent(node), share), None)
            case Reduce(_, axes, over, "max", body, where):
                self._max(node, axes, over, body, where)
            case _:
                for update in node.updates if isinstance(node, Scatter) else ():
                    at = Load(self.gradients[node.name], update.indices)
                    self._through(node, update.over, update.body, update.where, at, None)

    def _max(
        self, node: Reduce, axes: tuple[Axis, ...], over: tuple[Axis, ...], body: Expr, where: Expr | None
    ) -> None:
        """The largest entries share the cotangent equally."""
        tie = op("where", op("eq", body, own_element(node)), number(1.0), ZERO)
        count = Reduce(self.fresh(f"{node.name}.ties"), axes, over, "sum", tie, where)
        self.nodes.append(count)
        share = op("div", self._cotangent(node), own_element(count))
        self._through(node, axes + over, body, where, mul_where(share, tie), None)

    def _cotangent(self, node: Map | Reduce) -> Expr:
        return Load(self.gradients[node.name], position(node.axes, node.groups))

    def _through(
        self, node: Node, axes: tuple[Axis, ...], body: Expr, where: Expr | None, cotangent: Expr, whole: str | None
    ) -> None:
        """Contributions of one body to everything that it reads. `whole` names the tensor that equals the body."""
        support = conjunction(where, self.support.get(node.name))
        for load in loads(body):
            if load.tensor not in self.active or load.kind is not Kind.FLOAT:
                continue
            slope = partial(body, load)
            if slope == ZERO:
                continue
            if whole is not None and isinstance(node, Map) and isinstance(body, Op):
                slope = substitute(slope, {body: own_element(node)})
            self._contribute(load, axes, mul_where(cotangent, slope), support)

    def _contribute(self, load: Load, axes: tuple[Axis, ...], value: Expr, where: Expr | None) -> None:
        read = tuple(dict.fromkeys(e.name for i in load.indices for e in walk(i) if isinstance(e, Index)))
        kept = tuple(sorted((a for a in axes if a.name in read), key=lambda a: read.index(a.name)))
        summed = tuple(a for a in axes if a.name not in read)
        if summed:
            pairwise = frozenset().union(*(indices(load) for load in loads(value) if is_pairwise(load, axes)))
            inner = [a for a in summed if a.name not in pairwise]
            if inner and len(inner) < len(summed):  # features first: what is left is a sum over tokens and batch
                name = self.fresh(f"{gradient_name(load.tensor)}.part")
                rest = tuple(a for a in axes if a not in inner)
                self.nodes.append(Reduce(name, rest, tuple(inner), "sum", value, where))
                value = Load(name, tuple(a.index for a in rest))
                summed = tuple(a for a in summed if a not in inner)
            name = self.fresh(f"{gradient_name(load.tensor)}.part")
            self.nodes.append(Reduce(name, kept, summed, "sum", value, where))
            value, where = Load(name, tuple(a.index for a in kept)), _within(where, kept)
        self.contributions[load.tensor].append(Contribution(kept, load.indices, value, where))


_Places = tuple[tuple[Axis, ...], tuple[int, ...]]


def _added(node: Node, name: str, parts: list[Contribution]) -> Scatter:
    return Scatter(name, shape(node), tuple(Update(c.axes, c.indices, c.body, c.where) for c in parts))


def _places(node: Node, parts: list[Contribution]) -> _Places | None:
    """Axes and groups of the node's elements: its own, or of an argument with several contributions those of the first,
    if that fills it. A tensor of pairs has none, since no Map of both sides is one."""
    if isinstance(node, Map | Reduce):
        return node.axes, node.groups
    found = enumerates(parts[0], shape(node)) if len(parts) > 1 else None
    return None if found is None or _is_of_pairs(parts[0]) else found


def _aligned(
    axes: tuple[Axis, ...], groups: tuple[int, ...], dims: tuple[Expr, ...], c: Contribution
) -> tuple[Expr, Expr | None] | None:
    """The contribution over these axes of a tensor, or None where it lands elsewhere."""
    if len(c.indices) != len(dims):
        return None
    mapping: dict[Expr, Expr] = {}
    for theirs, ours, size in zip(c.indices, position(axes, groups), dims, strict=True):
        pairs = _match(theirs, ours, size)
        if pairs is None or pairs.keys() & mapping.keys():  # an index of two dimensions enumerates neither
            return None
        mapping |= pairs
    if len(mapping) != len(c.axes) or {a.index for a in c.axes} != set(mapping):
        return None
    where = None if c.where is None else substitute(c.where, mapping)
    return substitute(c.body, mapping), where


def _is_of_pairs(c: Contribution) -> bool:
    return {"row", "column"} <= {a.role for a in c.axes}


def is_pairwise(load: Load, axes: tuple[Axis, ...]) -> bool:
    """Whether the load depends on both a query and a key index."""
    roles = {a.role for a in axes if a.name in indices(load)}
    return "row" in roles and "column" in roles


def _within(where: Expr | None, axes: tuple[Axis, ...]) -> Expr | None:
    """A predicate that still makes sense over fewer axes; the others have been summed under it."""
    names = {a.name for a in axes}
    return where if where is not None and indices(where) <= names else None


def conjunction(a: Expr | None, b: Expr | None) -> Expr | None:
    """Both predicates; None is true."""
    if a is None or b is None or a == b:
        return a if b is None else b
    return op("and", a, b)


def counted(body: Expr, where: Expr | None) -> tuple[Expr, Expr | None]:
    """A body and where it counts, from one that may be 0 elsewhere; a slope that is chosen to be 0 chooses for all that
    it is multiplied with."""
    match body:
        case Op("where", (condition, value, rest), _) if rest == number(0.0):
            return counted(value, conjunction(where, condition))
    for part in factors(body):
        match part:
            case Op("where", (condition, Const(slope), rest), _) if slope and rest == number(0.0):
                return counted(substitute(body, {part: number(slope)}), conjunction(where, condition))
    return body, where


def _match(theirs: Expr, ours: Expr, size: Expr) -> dict[Expr, Expr] | None:
    """What makes one plain dimension (an index, one from the end, or a product of indices) the other."""
    match theirs, ours:
        case (Op("sub", (last, Index() as index), _), Index()) if equal(op("add", last, integer(1)), size, {}):
            return {index: op("sub", last, ours)}
        case (Op("flat", a, _), Op("flat", b, _)) if len(a) == len(b) and a[1::2] == b[1::2]:
            pairs = dict(zip(a[::2], b[::2], strict=True))
            return pairs if all(not isinstance(k, Op | Load) for k in pairs) else None
        case (Index(), Index()):
            return {theirs: ours}
    return None


def enumerates(c: Contribution, target: tuple[Expr, ...]) -> _Places | None:
    """The axes and groups of the Map that the contribution is, if it fills the whole tensor, each element once."""
    by_index: dict[Expr, Axis] = {a.index: a for a in c.axes}
    axes: list[Axis] = []
    groups: list[int] = []
    for index, size in zip(c.indices, target, strict=True):
        parts = index.args[::2] if isinstance(index, Op) and index.name == "flat" else (index,)
        if any(p not in by_index for p in parts):
            return None
        found = [by_index[p] for p in parts]
        if not equal(product(tuple(a.size for a in found)), size, {}):
            return None
        axes += found
        groups.append(len(parts))
    return (tuple(axes), tuple(groups)) if sorted(a.name for a in axes) == sorted(a.name for a in c.axes) else None


def order(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """The nodes so that each reads only earlier ones, otherwise in the order given."""
    by_name = {n.name: n for n in nodes}
    done: dict[str, Node] = {}

    def visit(node: Node) -> None:
        if node.name not in done:
            for name in operands(node):
                visit(by_name[name])
            done[node.name] = node

    for node in by_name.values():
        visit(node)
    return tuple(done.values())
