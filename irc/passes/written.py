"""Sums of what is made of each pair, as of the heads of an indexer (DeepSeek-AI 2025), `sum(h: w[b,i,h] * max(sum(c:
q[b,i,h,c] * k[b,j,c]), 0))`: no kernel has a tile of scores for each point of such a sum.

A short one is written out, x[0] + x[1] + …, and a kernel makes its terms one after another. For a long one, or one of
any length, such a kernel would be long itself: the sum, not its terms, is a tensor of pairs, to which a kernel adds
term by term.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod

from irc.codegen.expr import Axis, Const, Expr, Load, indices, integer, number, op, rebuild, substitute
from irc.graph.ir import Graph, Map, Node, Reduce, Scatter, Update, is_tile, operands, own_element, position, shape
from irc.graph.size import size_names
from irc.passes.simplify import add_all, drop_dead
from irc.passes.tabulate import Supports, seen
from irc.runtime.sizes import evaluate, with_defined

MOST = 16  # terms of a sum that is written out
WIDEST = 512  # numbers of a token that all their dots read: a block of a device has no room for more
TOGETHER = 4  # terms added at once: a kernel holds the values of so many


def summed_pairs(node: Node, graph: Graph) -> tuple[Axis, ...]:
    """What the node, a value of pairs, sums over of indices that values of pairs have by themselves."""
    if not isinstance(node, Reduce) or node.op != "sum" or not is_tile(node):
        return ()
    made = [n for name in operands(node) if isinstance(n := graph[name], Map | Reduce) and is_tile(n)]
    return tuple(a for a in node.over if any(a in n.axes for n in made))


def written_sizes(graph: Graph) -> tuple[str, ...]:
    """Names of the sizes that tell whether such sums are written out: none that tokens have."""
    tokens = size_names(a.size for n in graph if isinstance(n, Map | Reduce) for a in n.axes if a.role)
    asked = size_names(a.size for node in graph for a in summed_pairs(node, graph))
    return tuple(name for name in asked if name not in tokens)


def written_out(graph: Graph, sizes: Mapping[str, int]) -> Graph:
    """The graph without such sums; `sizes`: those that are known."""
    known = with_defined(graph.sizes, sizes)
    writing = _Writing(seen(graph))
    for node in graph:
        if axes := summed_pairs(node, graph):
            assert isinstance(node, Reduce)
            writing.add(node, axes, known)
        else:
            writing.nodes[node.name] = node
    return drop_dead(replace(graph, nodes=tuple(writing.nodes.values())))


@dataclass
class _Writing:
    seen: Mapping[str, Supports]
    nodes: dict[str, Node] = field(default_factory=dict)

    def add(self, node: Reduce, axes: tuple[Axis, ...], known: Mapping[str, int]) -> None:
        """The node, a sum over these axes and perhaps others, without it."""
        counts = _counts(axes, known)
        short = counts is not None and prod(counts) <= MOST and prod(counts) * self._width(node, known) <= WIDEST
        if counts is None or not short or node.where is not None:
            self._in_memory(node)
            return
        points = product(*map(range, counts))
        terms = [self._term(node, dict(zip(axes, map(integer, point), strict=True))) for point in points]
        body: Expr = number(0.0)
        for first in range(0, len(terms), TOGETHER):
            if first:
                before = Map(f"{node.name}.{first}.before", node.axes, body, groups=node.groups, span=node.span)
                self.nodes[before.name] = before
                body = own_element(before)
            body = op("add", body, add_all(terms[first : first + TOGETHER]))
        self.nodes[node.name] = Map(node.name, node.axes, body, groups=node.groups, span=node.span)

    def _width(self, node: Reduce, known: Mapping[str, int]) -> int:
        """Numbers of a token that the dots of a term read."""
        found: dict[str, Node] = {}
        queue: list[Node] = [node]
        while queue:
            new = [self.nodes[name] for name in operands(queue.pop()) if name not in found]
            queue += [value for value in new if is_tile(value)]
            found |= {value.name: value for value in queue}
        return sum(prod(_counts(n.over, known) or (1,)) for n in found.values() if isinstance(n, Reduce))

    def _in_memory(self, node: Reduce) -> None:
        """The sum as a tensor of pairs, of those alone that are seen, and as values that read it."""
        where = next(iter(self.seen[node.name])) if len(self.seen[node.name]) == 1 else None
        own = {a.name for a in node.axes}
        if node.where is not None or (where is not None and not indices(where) <= own):
            where = node.where
        update = Update(node.axes + node.over, position(node.axes, node.groups), node.body, where)
        made = Scatter(f"{node.name}.pairs", shape(node), (update,), node.span)
        read = replace(own_element(node), tensor=made.name)
        self.nodes[made.name] = made
        self.nodes[node.name] = Map(node.name, node.axes, read, groups=node.groups, span=node.span)

    def _term(self, node: Reduce, point: Mapping[Axis, Expr]) -> Expr:
        """What the sum has at a point, summed over the rest of its indices."""
        body, rest = self._at(node.body, point), tuple(a for a in node.over if a not in point)
        if not rest:
            return body
        term = replace(node, name=f"{node.name}{_suffix(point)}", over=rest, body=body)
        self.nodes[term.name] = term
        return own_element(term)

    def _at(self, expr: Expr, point: Mapping[Axis, Expr]) -> Expr:
        """The expression at a point, where values of pairs are others."""

        def place(part: Expr) -> Expr | None:
            if isinstance(part, Load) and (read := self._value(part.tensor, point)) is not None:
                return own_element(read)
            return None

        return substitute(rebuild(expr, place), {a.index: at for a, at in point.items()})

    def _value(self, name: str, point: Mapping[Axis, Expr]) -> Map | Reduce | None:
        """The value of pairs at a point, if it has some of the indices by itself."""
        node = self.nodes[name]
        if not is_tile(node) or not isinstance(node, Map | Reduce):
            return None
        own = {a: at for a, at in point.items() if a in node.axes}
        if not own:
            return None
        made = f"{name}{_suffix(own)}"
        if made not in self.nodes:
            axes = tuple(a for a in node.axes if a not in own)
            where = None if node.where is None else self._at(node.where, own)
            self.nodes[made] = replace(
                node, name=made, axes=axes, body=self._at(node.body, own), where=where, groups=()
            )
        value = self.nodes[made]
        assert isinstance(value, Map | Reduce)
        return value


def _counts(axes: tuple[Axis, ...], known: Mapping[str, int]) -> tuple[int, ...] | None:
    sizes = tuple(a.size for a in axes)
    return tuple(evaluate(s, known) for s in sizes) if set(size_names(sizes)) <= known.keys() else None


def _suffix(point: Mapping[Axis, Expr]) -> str:
    return "".join(f".{axis.name}.{at.value}" for axis, at in point.items() if isinstance(at, Const))
