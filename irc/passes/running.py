"""Running sums: of `g[b,s] = sum(t: where(t <= s, x[b,t], 0))` each is the one before and one term more. Term by term
they would be quadratic, and so would their gradients, which run the other way."""

from __future__ import annotations

from dataclasses import dataclass, replace

from irc.codegen.expr import Axis, Expr, Load, conjuncts, indices, integer, number, op, substitute
from irc.codegen.kernel import Loop, Target
from irc.graph.ir import Graph, Map, Node, Reduce, is_tile, own_element, position
from irc.graph.size import equal, polynomial
from irc.passes.differentiate import counted
from irc.passes.distances import all_of
from irc.passes.gathers import spare
from irc.passes.simplify import factors, times_all
from irc.passes.split import reads_tiles

ZERO = number(0.0)


@dataclass(frozen=True, slots=True)
class Running:
    """The sum of `term` over the points of `over` up to that of `along`, or from there on if it runs `back`; not the
    last one if it is `apart`: where `condition` holds. It is multiplied by `later` factors, where `asked` holds. Of the
    terms there may be `some` alone."""

    node: Reduce
    along: Axis
    over: Axis
    back: bool
    apart: bool
    condition: Expr
    term: Expr
    later: tuple[Expr, ...]
    asked: tuple[Expr, ...]
    some: bool

    def loop(self, target: str, host: bool) -> Loop:
        """A loop along the axis, which reads what it wrote one point before; on a device, whose threads take a part of
        the axis each, of terms alone."""
        axes, here = self.node.axes, self.along.index
        first = op("sub", op("sub", self.along.size, integer(1)), here) if self.back else here
        before = op("add" if self.back else "sub", first, integer(1))
        at = position(axes, self.node.groups)
        last = Load(target, tuple(substitute(e, {here: before}) for e in at))
        term = substitute(self.term, {self.over.index: before if self.apart else first})
        there_is = op("lt", integer(0), here)
        if not host:
            body = op("where", there_is, term, ZERO) if self.apart else term
        elif self.apart:
            body = op("where", there_is, op("add", last, term), ZERO)
        else:
            body = op("add", op("where", there_is, last, ZERO), term)
        stored = Target(target, tuple(substitute(e, {here: first}) for e in at))
        parallel = tuple(a.name for a in axes if a != self.along)
        return Loop(axes, (), "" if host else "running", body, None, None, stored, False, parallel)

    def there_are(self, total: Expr) -> Expr | None:
        """A condition for terms: where there are none, what they are multiplied by may be anything."""
        if self.some:
            return op("ne", total, ZERO)
        if not self.apart:
            return None
        last = op("sub", self.along.size, integer(1))
        return op("lt", self.along.index, last) if self.back else op("lt", integer(0), self.along.index)


def with_running(graph: Graph) -> Graph:
    """The graph in which running sums have nothing but their terms: what each is multiplied by comes later."""
    nodes: list[Node] = []
    for node in graph:
        found = running(node, graph)
        if found is None or not (found.later or found.asked):
            nodes.append(node)
            continue
        total = replace(found.node, name=f"{node.name}.running", body=found.term, where=found.condition)
        value = times_all((own_element(total), *found.later))
        where = all_of((*found.asked, found.there_are(own_element(total))))
        nodes += (total, Map(node.name, total.axes, value, where, total.groups, total.span))
    return replace(graph, nodes=tuple(nodes))


def running(node: Node, graph: Graph) -> Running | None:
    """The sum as a running one, if it is that."""
    if not isinstance(node, Reduce) or node.op != "sum" or len(node.over) != 1:
        return None
    if is_tile(node) or reads_tiles(node, graph):
        return None
    (over,) = node.over
    body, where = counted(node.body, node.where)
    asked = () if where is None else conjuncts(where)
    for along in (a for a in node.axes if equal(a.size, over.size, {})):
        both = [c for c in asked if {along.name, over.name} <= indices(c)]
        order = _order(both[0], along, over) if len(both) == 1 else None
        if order is None:
            continue
        others = tuple(c for c in asked if c not in both)
        inside = [f for f in factors(body) if over.name in indices(f)]
        later = tuple(f for f in factors(body) if f not in inside)
        own = [c for c in others if over.name in indices(c)]
        term = times_all(tuple(inside)) if inside else number(1.0)
        if (there := all_of(own)) is not None:
            term = op("where", there, term, ZERO)
        if along.name not in indices(term):
            rest = tuple(c for c in others if c not in own)
            return Running(node, along, over, *order, both[0], term, later, rest, bool(own))
    return None


def _order(condition: Expr, along: Axis, over: Axis) -> tuple[bool, bool] | None:
    """Whether the condition leaves the points from that of `along` on, not those up to it; and whether without it."""
    least = spare(condition)
    if least is None:
        return None
    for back, ahead in ((False, op("sub", along.index, over.index)), (True, op("sub", over.index, along.index))):
        apart = (polynomial(ahead, {}) - polynomial(least, {})).value
        if apart in (0, 1):
            return back, apart == 1
    return None
