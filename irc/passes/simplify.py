"""Graph to smaller graph, the same meaning: known tensors instead of their formulas, sums factored through
contractions that exist already, copies and dead nodes dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from irc.codegen.expr import Axis, Expr, Index, Load, Op, children, indices, joined, number, op, rebuild, substitute
from irc.graph.ir import (
    Graph,
    Input,
    Map,
    Node,
    Reduce,
    Scatter,
    Update,
    all_axes,
    is_tile,
    operands,
    own_element,
    position,
    shape,
)
from irc.graph.size import equal

Product = frozenset[tuple[Expr, int]]


@dataclass
class Growing:
    """Nodes of a graph in the making, in which equal ones are made once."""

    nodes: list[Node] = field(default_factory=list)
    names: dict[Node, str] = field(default_factory=dict)

    def named(self, node: Map | Reduce, base: str) -> str:
        """The name of a node like this one, new or not."""
        if node not in self.names:
            self.names[node] = f"{base}{len(self.names) or ''}"
            self.nodes.append(replace(node, name=self.names[node]))
        return self.names[node]


def simplify(graph: Graph) -> Graph:
    return drop_dead(factor_sums(drop_copies(reuse(graph))))


def rewrite(node: Node, fn: object) -> Node:
    """The node with `fn: Expr -> Expr` applied to each of its expressions."""
    assert callable(fn)

    def opt(e: Expr | None) -> Expr | None:
        return None if e is None else fn(e)

    match node:
        case Input():
            return node
        case Map():
            return replace(node, body=fn(node.body), where=opt(node.where))
        case Reduce():
            return replace(node, body=fn(node.body), where=opt(node.where), init=opt(node.init))
        case Scatter():
            updates = tuple(
                Update(u.over, tuple(fn(i) for i in u.indices), fn(u.body), opt(u.where)) for u in node.updates
            )
            return replace(node, updates=updates)


def with_nodes(graph: Graph, nodes: tuple[Node, ...]) -> Graph:
    return replace(graph, nodes=nodes)


def reuse(graph: Graph) -> Graph:
    """Where a node computes the formula of an earlier Map over the same axes, inside the same support, read the Map;
    whatever the names of its axes, where that is all it computes."""
    known: list[Map] = []
    out: list[Node] = []
    for node in graph:
        for m in known:
            where = getattr(node, "where", None)
            axes = getattr(node, "axes", ()) + getattr(node, "over", ())
            within = set(m.axes) <= set(axes) if is_tile(m) else {a.name for a in m.axes} <= {a.name for a in axes}
            if m.where in (None, where) and within:
                node = rewrite(node, lambda e, m=m: substitute(e, {m.body: own_element(m)}))
        if isinstance(node, Map | Reduce) and not is_tile(node):
            found = (_read_from(m, node) for m in known if not is_tile(m))
            node = next((new for new in found if new is not None), node)
        out.append(node)
        if isinstance(node, Map) and isinstance(node.body, Op):
            known.append(node)
    return with_nodes(graph, tuple(out))


def _read_from(known: Map, node: Map | Reduce) -> Map | Reduce | None:
    """The node that reads the Map at each of its points, if that is what it computes there."""
    if isinstance(node, Reduce) and node.op != "sum":
        return None
    names: dict[str, str] = {}
    if not unified(node.body, known.body, names):
        return None
    if known.where is not None and (node.where is None or not unified(node.where, known.where, names)):
        return None
    mine = {names[a.name]: a for a in all_axes(node) if a.name in names}
    if any(a.name not in mine or not equal(mine[a.name].size, a.size, {}) for a in known.axes):
        return None
    places: dict[Expr, Expr] = {a.index: mine[a.name].index for a in known.axes}
    where = node.where if known.where is None else None  # elsewhere the Map is 0
    return replace(node, body=substitute(own_element(known), places), where=where)


def unified(x: Expr, y: Expr, names: dict[str, str]) -> bool:
    """Whether the expressions differ in the names of their indices alone, which `names` takes up."""
    if isinstance(x, Index) and isinstance(y, Index):
        return names.setdefault(x.name, y.name) == y.name and list(names.values()).count(y.name) == 1
    parts, others = children(x), children(y)
    if not parts or len(parts) != len(others):
        return x == y
    same = type(x) is type(y) and x.kind == y.kind and getattr(x, "name", "") == getattr(y, "name", "")
    same = same and getattr(x, "tensor", "") == getattr(y, "tensor", "")
    return same and all(unified(a, b, names) for a, b in zip(parts, others, strict=True))


def factors(expr: Expr) -> tuple[Expr, ...]:
    """The factors of a product; a negation is the factor -1."""
    match expr:
        case Op("mul", (a, b), _):
            return factors(a) + factors(b)
        case Op("neg", (a,), _):
            return (number(-1.0), *factors(a))
        case _:
            return (expr,)


def addends(expr: Expr) -> tuple[Expr, ...]:
    """The terms of a sum."""
    match expr:
        case Op("add", (x, y)):
            return *addends(x), *addends(y)
        case Op("sub", (x, y)):
            return *addends(x), *(op("neg", term) for term in addends(y))
    return (expr,)


def as_product(parts: Iterable[Expr]) -> Product:
    """Factors as they stand in a product, in any order: how often each."""
    return frozenset(Counter(parts).items())


def times_all(parts: tuple[Expr, ...]) -> Expr:
    return joined("mul", parts)


def add_all(parts: Iterable[Expr]) -> Expr:
    return joined("add", parts)


def factor_sums(graph: Graph) -> Graph:
    """sum_j w[i,j] * (sum_d x[i,d] * y[j,d]) is sum_d x[i,d] * (sum_j w[i,j] * y[j,d]); where the inner sum is a tensor
    of the graph already, the sum over j disappears. (The softmax adjoint's row sum becomes dO . O this way.) Where
    several such sums are added, as of weights that several values share, each does."""
    by_name = graph.by_name
    available = _contractions(graph)
    out: list[Node] = []
    for node in graph:
        if not isinstance(node, Reduce) or node.op != "sum":
            out.append(node)
        elif (factored := _factored(node, by_name, available)) is not node:
            out.append(factored)
        elif (multiple := _multiple(node, by_name, available)) is not None:
            out.append(multiple)
        else:
            out += _added_apart(node, by_name, available)
    from irc.passes.differentiate import order

    return with_nodes(graph, order(out))


_Known = dict[tuple[Product, Expr | None, frozenset[str]], tuple[str, tuple[Axis, ...], tuple[int, ...]]]


def _contractions(graph: Graph) -> _Known:
    """Sums of products by (factors, support, summed indices); those that the forward pass kept are listed in `kept`."""
    known: _Known = {}
    scattered = [(n.name, n.updates[0]) for n in graph.kept if isinstance(n, Scatter) and len(n.updates) == 1]
    stored = {name: u for name, u in scattered if set(u.indices) == {a.index for a in u.over}}
    for node in (*graph.nodes, *graph.kept):
        if isinstance(node, Reduce) and node.op == "sum":
            parts, over = factors(node.body), frozenset(a.name for a in node.over)
            known.setdefault((as_product(parts), node.where, over), (node.name, node.axes, node.groups))
            for part in parts if node.where is None else ():
                update = stored.get(part.tensor) if isinstance(part, Load) else None
                if update is not None and getattr(part, "indices", None) == update.indices:  # what it holds of the pair
                    of_pairs = (update.body, *(p for p in parts if p is not part))
                    known.setdefault((as_product(of_pairs), update.where, over), (node.name, node.axes, node.groups))
    return known


def _factored(node: Reduce, by_name: dict[str, Node], available: _Known) -> Node:
    parts = factors(node.body)
    over = frozenset(a.name for a in node.over)
    for part in parts:
        inner = by_name.get(part.tensor) if isinstance(part, Load) else None
        if not isinstance(inner, Reduce) or inner.op != "sum" or part != own_element(inner):
            continue
        if inner.where not in (None, node.where):
            continue
        rest = tuple(p for p in parts if p is not part)
        terms = factors(inner.body)
        outside = tuple(t for t in (*rest, *terms) if not over & indices(t))
        inside = tuple(t for t in (*rest, *terms) if over & indices(t))
        found = available.get((as_product(inside), node.where, over))
        if found is not None and found[0] != node.name:
            name, axes, groups = found
            read = Load(name, position(axes, groups))
            return Reduce(node.name, node.axes, inner.over, "sum", times_all((*outside, read)), None, None, node.groups)
    return node


def _multiple(node: Reduce, by_name: dict[str, Node], available: _Known) -> Map | None:
    """The sum as a multiple of one that there is, as the softmax adjoint's row sum where a value is one number: sum_j
    w[i,j] * (dO[i] * v[j]) is dO[i] * O[i]. Where that is 0, what it is multiplied by may be anything."""
    parts: list[Expr] = []
    for part in factors(node.body):
        made = by_name.get(part.tensor) if isinstance(part, Load) else None
        product = isinstance(made, Map) and isinstance(made.body, Op) and made.body.name in ("mul", "neg", "where")
        whole = isinstance(made, Map) and part == own_element(made) and made.where in (None, node.where)
        for each in factors(made.body) if product and whole and isinstance(made, Map) else (part,):
            match each:
                case Op("where", (condition, value, rest)) if rest == number(0.0):
                    parts += (op("where", condition, number(1.0), rest), *factors(value))
                case _:
                    parts.append(each)
    over = frozenset(a.name for a in node.over)
    inside = tuple(p for p in parts if over & indices(p))
    found = available.get((as_product(inside), node.where, over)) if len(inside) > 1 else None
    if found is None or found[0] == node.name or not {a.name for a in found[1]} <= {a.name for a in node.axes}:
        return None
    read = Load(found[0], position(found[1], found[2]))
    outside = times_all((*(p for p in parts if p not in inside), read))
    body = op("where", op("eq", read, number(0.0)), number(0.0), outside)
    where = node.where if node.where is not None and not over & indices(node.where) else None
    return Map(node.name, node.axes, body, where, node.groups, node.span)


def _added_apart(node: Reduce, by_name: dict[str, Node], available: _Known) -> tuple[Node, ...]:
    """The node, or a sum for each of the terms of one of its factors, if every one is factored."""
    parts = factors(node.body)
    for part in parts:
        total = by_name.get(part.tensor) if isinstance(part, Load) else None
        if not isinstance(total, Map) or part != own_element(total) or total.where not in (None, node.where):
            continue
        rest = tuple(p for p in parts if p is not part)
        bodies = [times_all((*rest, term)) for term in addends(total.body)]
        sums = [replace(node, name=f"{node.name}.term{n}", body=body) for n, body in enumerate(bodies, 1)]
        found = [_factored(each, by_name, available) for each in sums]
        if len(sums) > 1 and all(new is not old for new, old in zip(found, sums, strict=True)):
            whole = add_all(own_element(each) for each in sums)
            return *found, Map(node.name, node.axes, whole, None, node.groups, node.span)
    return (node,)


def drop_copies(graph: Graph) -> Graph:
    """A Map that only reads one tensor whole, index for index, is that tensor; but a tensor is no value of pairs."""
    alias: dict[str, str] = {}
    for node in graph:
        if isinstance(node, Map) and isinstance(node.body, Load):
            source = graph.by_name[node.body.tensor]
            if node.where is not None and node.where != getattr(source, "where", None):
                continue
            plain = node.body.indices == position(node.axes, node.groups)
            same = all(equal(a, b, {}) for a, b in zip(shape(source), shape(node), strict=True)) if plain else False
            if same and is_tile(source) == is_tile(node):
                alias[node.name] = alias.get(source.name, source.name)
    returned = {name for _, name in graph.outputs}

    def rename(expr: Expr) -> Expr:
        def swap(e: Expr) -> Expr | None:
            if isinstance(e, Load) and e.tensor in alias:
                return Load(alias[e.tensor], tuple(rename(i) for i in e.indices), e.kind)
            return None

        return rebuild(expr, swap)

    nodes = tuple(rewrite(n, rename) for n in graph if n.name not in alias or n.name in returned)
    return with_nodes(graph, nodes)


def drop_dead(graph: Graph) -> Graph:
    """Drop what no output needs; arguments of the program stay, values that the forward pass kept go."""
    live = {name for _, name in graph.outputs}
    for node in reversed(graph.nodes):
        if node.name in live:
            live.update(operands(node))
    return with_nodes(
        graph,
        tuple(n for n in graph if n.name in live or (isinstance(n, Input) and n.role not in ("saved",))),
    )
