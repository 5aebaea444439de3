"""Sums over queries that are added up elsewhere than at their keys' own positions, as gradients of keys that a table
picked are.

`d.k[b, top[b,i,r] * L + l, c] += part[b,i,r,l,c]`, of a part that sums over the rows of a core, would take a tensor of
all that queries picked. A kernel adds each row of it where it goes instead.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from irc.codegen.expr import Load, indices, loads
from irc.fusion.elements import plain_names
from irc.fusion.tile import frame_of, is_product
from irc.graph.ir import Graph, Node, Reduce, Scatter, Update, operands, own_element, position, shape, whole
from irc.passes.split import reads_tiles


def apart(graph: Graph) -> Graph:
    """The graph in which each update that adds such a sum up is a tensor, and no other is with it."""
    readers = Counter(name for node in graph for name in operands(node))
    nodes: list[Node] = []
    for node in (_opened(n, graph) for n in graph):
        if isinstance(node, Scatter) and len(node.updates) > 1:
            updates = []
            for number, update in enumerate(node.updates):
                if _added(update, graph) and readers[_part(update)] == 1:
                    total = Scatter(f"{node.name}.added{number}", node.shape, (update,), node.span)
                    nodes.append(total)
                    update = whole(total.name, total.shape)
                updates.append(update)
            node = replace(node, updates=tuple(updates))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _opened(node: Node, graph: Graph) -> Node:
    """A sum over some keys of such a sum as one that is added up where the others say, as gradients of what a bias
    reads of the block that a key is of."""
    if not isinstance(node, Reduce) or node.op != "sum" or node.where is not None or not node.over:
        return node
    update = Update(node.axes + node.over, position(node.axes, node.groups), node.body)
    columns = all(a.role == "column" for a in node.over)
    return Scatter(node.name, shape(node), (update,), node.span) if columns and _added(update, graph) else node


def added_up(graph: Graph) -> dict[str, Scatter]:
    """By the names of such sums, the tensors that are what they come to."""
    readers = Counter(name for node in graph for name in operands(node))
    alone = [n for n in graph if isinstance(n, Scatter) and len(n.updates) == 1 and _added(n.updates[0], graph)]
    return {part: node for node in alone if readers[part := _part(node.updates[0])] == 1}


def _part(update: Update) -> str:
    assert isinstance(update.body, Load)
    return update.body.tensor


def _added(update: Update, graph: Graph) -> bool:
    """Whether the update adds up numbers or rows of columns, which a kernel makes as sums over rows, where some may
    meet."""
    part = graph[update.body.tensor] if isinstance(update.body, Load) else None
    if not isinstance(part, Reduce) or part.op != "sum" or update.body != own_element(part):
        return False
    if {a.role for a in part.over} != {"row"} or not reads_tiles(part, graph) or set(update.over) != set(part.axes):
        return False
    tables = frozenset().union(*(indices(load) for e in update.indices for load in loads(e)))
    meet = {a.name for a in part.axes if a.role == "column" or a.name in tables}
    frame = frame_of(part.axes + part.over, part.body, part.where, graph)
    return not meet <= plain_names(update.indices) and is_product(part, frame)
