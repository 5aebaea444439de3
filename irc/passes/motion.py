"""Loop-invariant code motion: long functions of fewer indices than what reads them, made once.

The sines and cosines of a rotary embedding (Su, Lu and others 2021), `cos(angle[s,c]) * q[b,h,s,c]`, are the same for
every batch entry and head, and where they stand in a score they are for every tile. As tensors they are made first.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

from irc.codegen.expr import Axis, Expr, Kind, Load, Op, children, indices, loads, rebuild, walk
from irc.codegen.outside import LONG
from irc.codegen.printer import in_double
from irc.graph.ir import Graph, Map, Node, Reduce, all_axes, is_tile
from irc.passes.differentiate import active
from irc.passes.distances import there_are
from irc.passes.simplify import Growing
from irc.passes.split import reads_tiles

MOVED = LONG - {"div", "sqrt", "rsqrt", "segment"}  # which are worth a tensor


def moved(graph: Graph) -> Graph:
    """The graph in which such functions are tensors. What has a gradient stays where a condition is on what reads it: a
    gradient of 0 at a point that does not exist would be multiplied with whatever is there."""
    moving = _Moving(active(graph))
    for node in graph:
        if isinstance(node, Map | Reduce) and node.where is None and _is_of_products(node, graph):
            node = moving.without(node)
        moving.grown.nodes.append(node)
    return replace(graph, nodes=tuple(moving.grown.nodes))


def _is_of_products(node: Node, graph: Graph) -> bool:
    """Whether the node is of no pairs, or a sum over features."""
    return isinstance(node, Reduce) if is_tile(node) else not reads_tiles(node, graph)


@dataclass
class _Moving:
    active: frozenset[str]  # what has a gradient
    grown: Growing = field(default_factory=Growing)

    def without(self, node: Map | Reduce) -> Map | Reduce:
        """The node that reads its long functions as tensors."""
        axes = all_axes(node)

        def place(part: Expr, shielded: bool = False) -> Expr | None:
            if self._moves(part, axes, is_tile(node)) and not (shielded and self._is_active(part)):
                inside = any(_holds(part, arg) for arg in children(part))
                return None if inside else self._read(part, axes, node)
            if isinstance(part, Op) and part.name == "where":
                condition, *branches = part.args
                within = partial(place, shielded=True)
                return replace(part, args=(rebuild(condition, place), *(rebuild(e, within) for e in branches)))
            return part if isinstance(part, Op) and in_double(part) else None

        return replace(node, body=rebuild(node.body, place))

    def _is_active(self, part: Expr) -> bool:
        return any(load.tensor in self.active for load in loads(part))

    def _moves(self, part: Expr, axes: tuple[Axis, ...], of_pairs: bool) -> bool:
        """Whether the expression is long, and of fewer indices than the axes: of pairs, of one side's. Where it reads
        no tensor's elements, loops see to it themselves."""
        read = indices(part)
        if part.kind is not Kind.FLOAT or not read or not read < {a.name for a in axes} or not _long(part):
            return False
        if not of_pairs:
            return any(load.indices for load in loads(part))
        sides = {a.role for a in axes if a.name in read} - {""}
        return len(sides) == 1 and not self._is_active(part)

    def _read(self, part: Expr, axes: tuple[Axis, ...], node: Node) -> Load:
        own = tuple(replace(a, role="") for a in axes if a.name in indices(part))
        others = [a for a in axes if a.name not in indices(part)]
        where = there_are(others) if self._is_active(part) else None
        name = self.grown.named(Map("", own, part, where, span=node.span), f"{node.name}.once")
        return Load(name, tuple(a.index for a in own))


def _long(expr: Expr) -> tuple[Expr, ...]:
    return tuple(e for e in walk(expr) if isinstance(e, Op) and e.name in MOVED and indices(e))


def _holds(whole: Expr, part: Expr) -> bool:
    """Whether the part has all that is long in the whole, and fewer indices."""
    return len(_long(part)) == len(_long(whole)) and indices(part) < indices(whole)
