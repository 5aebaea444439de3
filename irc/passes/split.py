"""Sums over tokens and other indices at once, split: first over all key (or all query) indices, which a tile kernel
does, then over the rest, which needs no tile. What remains over both is a row of tiles summed twice. Where the graph
has the first sum already, as the gradient of queries that a learned vector was added to, that one is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace

from irc.codegen.expr import Expr, Load, indices, number, op
from irc.fusion.tile import frame_of, is_product, tile_operands
from irc.graph.ir import Graph, Map, Node, Reduce, Scatter, Update, is_tile, operands, own_element, position, shape
from irc.passes.simplify import as_product, drop_dead, factors, times_all


def split(graph: Graph, rounded: Collection[str] = (), host: bool = False) -> Graph:
    """Every Reduce that reads a tile value and sums tokens, sums the tokens of one side and nothing else. `rounded` are
    nodes that no further sum may read. `host`: kernels are the host's."""
    graph = _products(_opened(_kept(graph), host))
    parts = {n.name: part for n in graph if isinstance(n, Reduce) and (part := _first(n, graph, host)) is not None}
    if not parts:
        return graph
    known = {_meaning(n): n for n in graph if isinstance(n, Reduce) and n.name not in {*parts, *rounded}}
    out: list[Node] = []
    for node in graph:
        part = parts.get(node.name)
        if part is None or not isinstance(node, Reduce):
            out.append(node)
            continue
        rest = tuple(a for a in node.over if a not in part.over)
        part, later = _freed(part, graph)
        found = known.setdefault(_meaning(part), part)
        if found is part:
            out.append(part)
        out.append(replace(node, over=rest, body=_times(found, later), where=None, init=None))
    return replace(graph, nodes=tuple(out))


def reads_tiles(node: Node, graph: Graph) -> bool:
    """Whether an operand is a tile value of the graph."""
    return any(is_tile(graph[name]) for name in operands(node))


def _kept(graph: Graph) -> Graph:
    """Sums over some tokens that keep a query and a key index of several, as gradients of biases of rows of pixels, and
    sums over batch entries of what is made of each pair, as gradients of a bias that they share, are no values of
    pairs: where they are more than added up, they are tensors, and so is what is made of these alone. Of the second
    kind are those alone beside which memory holds a tensor of that size, as the bias."""
    read = {name for n in graph if not isinstance(n, Scatter) for name in operands(n)}
    known, tensors = dict(graph.by_name), set[str]()
    for node in graph:
        if isinstance(node, Reduce) and node.name in read and (sums_pairs(node) or _sums_values(node, known)):
            at = position(node.axes, node.groups)
            update = Update(node.axes + node.over, at, node.body, node.where)
            known[node.name] = Scatter(node.name, shape(node), (update,), node.span)
            tensors.add(node.name)
        elif isinstance(node, Map | Reduce) and is_tile(node) and _of_tensors(node, tensors, known):
            known[node.name] = _tensor(node)
            tensors.add(node.name)
    return replace(graph, nodes=tuple(known[n.name] for n in graph))


def _of_tensors(node: Node, tensors: Collection[str], known: Mapping[str, Node]) -> bool:
    """Whether the node reads one of the tensors, and no value of pairs."""
    read = operands(node)
    return any(name in tensors for name in read) and not any(is_tile(known[name]) for name in read)


def _tensor(node: Map | Reduce) -> Map | Reduce:
    """The node as one of no pairs."""
    axes = tuple(replace(a, role="") for a in node.axes)
    if isinstance(node, Map):
        return replace(node, axes=axes)
    return replace(node, axes=axes, over=tuple(replace(a, role="") for a in node.over))


def _sums_values(node: Reduce, known: Mapping[str, Node]) -> bool:
    """Whether the node is one of pairs, sums over what has values of pairs at each of its points, and is no larger than
    a tensor in memory."""
    if not is_tile(node) or node.op != "sum":
        return False
    pairs = [n for name in operands(node) if isinstance(n := known[name], Map | Reduce) and is_tile(n)]
    size = Counter(shape(node))
    held = (Counter(shape(n)) for n in known.values() if not is_tile(n))
    return any(set(node.over) & set(n.axes) for n in pairs) and any(size <= of for of in held)


def sums_pairs(node: Reduce) -> bool:
    """Whether the node has a query and a key index, and sums over others."""
    return is_tile(node) and node.op == "sum" and any(a.role for a in node.over)


def _first(node: Reduce, graph: Graph, host: bool) -> Reduce | None:
    """The sum over the tokens of one side that the node begins with, if it goes on: over keys, but where features are
    computed of each pair, which are summed beside the gradients of keys."""
    kept = {a.role for a in node.axes}  # a sum that keeps one of two key indices is one over queries first
    roles = ("row", "column") if host and _computes_features(node) else ("column", "row")
    sides = (tuple(a for a in node.over if a.role == role) for role in roles if role not in kept)
    first = next(filter(None, sides), ())
    rest = tuple(a for a in node.over if a not in first)
    if not first or not rest or node.op == "logsumexp" or not reads_tiles(node, graph):
        return None
    frame = frame_of(node.axes + node.over, node.body, node.where, graph)
    outer = (*frame.batch, *frame.rows, *frame.columns)  # rows of features lie as kernels store them
    axes = tuple(sorted(node.axes + rest, key=lambda a: outer.index(a) if a in outer else len(outer)))
    return Reduce(f"{node.name}.tokens", axes, first, node.op, node.body, node.where)


def _computes_features(node: Reduce) -> bool:
    """Whether a factor is computed of a query, a key and an index of the result."""
    result = {a.name for a in node.axes}
    tokens = [{a.name for a in node.over if a.role == role} for role in ("row", "column")]
    parts = [indices(p) for p in factors(node.body) if not isinstance(p, Load)]
    return any(all(names & group for group in (result, *tokens)) for names in parts)


def _opened(graph: Graph, host: bool) -> Graph:
    """Sums over tokens of what is, for each pair, a sum over features at several further indices, as one sum, where it
    begins with a matrix product: of sum(b i j: s[b,m,i,j] * sum(c: q[b,g,i,c] * k[b,g,j,c])), the one over keys."""

    def whole(node: Node) -> Node:
        if not isinstance(node, Reduce) or node.op != "sum" or not isinstance(node.body, Load):
            return node
        inner = graph[node.body.tensor]
        if not isinstance(inner, Reduce) or inner.op != "sum" or not is_tile(inner) or node.body != own_element(inner):
            return node
        frame = frame_of(inner.axes + inner.over, inner.body, inner.where, graph)
        if set(inner.axes) <= {*frame.batch, *frame.rows, *frame.columns} or inner.where not in (None, node.where):
            return node
        opened = replace(node, over=node.over + inner.over, body=inner.body)
        part = _first(opened, graph, host)
        return opened if part is not None and _freed(part, graph)[1] else node

    return drop_dead(replace(graph, nodes=tuple(map(whole, graph))))


def _freed(part: Reduce, graph: Graph) -> tuple[Reduce, tuple[Expr, ...]]:
    """The sum, and factors that it leaves to the sum behind it, where it is a matrix product without them: of
    sum(b i c: q[b,g,i,c] * sum(j: s[b,m,i,j] * k[b,g,j,c])) the queries."""
    frame = frame_of(part.axes + part.over, part.body, part.where, graph)
    over = {a.name for a in part.over}
    if part.op != "sum" or is_product(part, frame):
        return part, ()
    within = tuple(f for f in factors(part.body) if over & indices(f) or tile_operands((f,), graph))
    later = tuple(f for f in factors(part.body) if f not in within)
    read = frozenset().union(*map(indices, within))
    freed = replace(part, axes=tuple(a for a in part.axes if a.name in read), body=times_all(within))
    kept = part.where is None or indices(part.where) <= {a.name for a in freed.axes + freed.over}
    return (freed, later) if later and kept and is_product(freed, frame) else (part, ())


def _products(graph: Graph) -> Graph:
    """The graph in which sums over the tokens of one side leave what else they multiply to what follows, where they are
    matrix products without: of sum(j: s[i,j] * max(k[j,c], 0) * where(q[i,c] > 0, 1, 0)) the condition."""
    nodes: list[Node] = []
    for node in graph:
        if isinstance(node, Reduce) and not is_tile(node) and reads_tiles(node, graph):
            whole = replace(node, name=f"{node.name}.product", groups=())
            product, later = _freed(whole, graph)
            if later:
                nodes.append(product)
                node = Map(node.name, node.axes, _times(product, later), None, node.groups, node.span)
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _times(part: Reduce, later: tuple[Expr, ...]) -> Expr:
    """The sum with factors that it was freed of; where no pair exists, these may be anything."""
    own = own_element(part)
    if not later:
        return own
    body = op("mul", own, times_all(later))
    return body if part.where is None else op("where", op("eq", own, number(0.0)), number(0.0), body)


def _meaning(node: Reduce) -> object:
    """What is equal where two nodes are the same numbers, whatever the order of their axes and factors."""
    return frozenset(node.axes), frozenset(node.over), node.op, as_product(factors(node.body)), node.where, node.init
