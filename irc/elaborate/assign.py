"""`y[b,s,(h d)] = expression`: one Map, or a single sum of products as one Reduce."""

from __future__ import annotations

from dataclasses import replace

from irc.codegen.expr import Axis, Expr, Kind, Load
from irc.elaborate.declare import size_value
from irc.elaborate.expressions import Context
from irc.elaborate.inference import Inference
from irc.elaborate.names import names, no_name_twice
from irc.elaborate.scope import Lets, Scope
from irc.grammar.diagnostic import Note
from irc.grammar.syntax import Access, Assign, Group, Name
from irc.graph.ir import Map, Reduce, grouped

HELP = (
    "say it, as in `y[…] over INDEX: SIZE = …`, use INDEX as an index of a declared tensor, "
    "or declare the structure of the axis, as in `x[B, S, (H D)]`"
)


def target_names(target: Access, scope: Scope) -> tuple[tuple[Name, ...], tuple[int, ...]]:
    """The indices that a target is written with, and how many make up each dimension (empty if one each)."""
    written: list[Name] = []
    groups: list[int] = []
    for item in target.indices:
        members = names(item)
        if not members or (isinstance(item, Group) and len(members) != len(item.items)):
            scope.report.fail("E210", "a result is written with plain indices, as in `y[b, s, (h d)]`", item.span)
        for name in members:
            no_name_twice((*written, name), "on the left", scope.report)
            if scope.is_declared(name.id):
                scope.report.fail(
                    "E206",
                    f"`{name.id}` is declared, so it cannot be an index",
                    name.span,
                    (Note("declared here", scope.spans.get(name.id, name.span)),),
                )
            written.append(name)
        groups.append(len(members))
    return tuple(written), tuple(groups) if any(n != 1 for n in groups) else ()


def declare_result(target: Access, scope: Scope) -> None:
    """Take the name of a result; assigning to what is declared is an error of its own."""
    old = scope.tensors.get(target.tensor.id)
    if old is not None and old.role != "value":
        scope.report.fail(
            "E104",
            f"`{old.name}` is declared as {'an' if old.role == 'input' else 'a'} {old.role} and cannot be assigned",
            target.tensor.span,
            (Note("declared here", old.span),),
        )
    scope.declare(target.tensor)


def dims_of(axes: tuple[Axis, ...], groups: tuple[int, ...]) -> tuple[tuple[Expr, ...], ...]:
    return tuple(tuple(a.size for a in dim) for dim in grouped(axes, groups))


def assign(statement: Assign, scope: Scope, lets: Lets) -> None:
    """Lower one index assignment into the scope's nodes."""
    target = statement.target
    declare_result(target, scope)
    written, groups = target_names(target, scope)
    inference = Inference(scope)
    for item in statement.over:
        if item.value is not None:
            inference.fix(item.name, size_value(item.value, scope), "after `over`")
    for name in written:
        inference.mention(name)
    inference.feed(statement.value, lets)
    sizes = inference.solve(HELP)
    axes = {name: Axis(name, size) for name, size in sizes.items()}
    context = Context(scope, axes, lets)
    own = tuple(axes[n.id] for n in written)
    body = context.lower(statement.value, frozenset(n.id for n in written))
    reductions, rename = context.finish(target.tensor.id)
    body = rename(body)
    last = reductions[-1] if reductions else None
    span = statement.span
    node: Map | Reduce
    if last is not None and isinstance(body, Load) and body.tensor == last.name and set(last.axes) == set(own):
        scope.nodes.extend(reductions[:-1])
        node = replace(last, name=target.tensor.id, axes=own, groups=groups, span=span)
    else:
        scope.nodes.extend(reductions)
        node = Map(target.tensor.id, own, body, groups=groups, span=span)
    scope.nodes.append(node)
    kind = Kind.FLOAT if isinstance(node, Reduce) else body.kind
    scope.add_value(node.name, kind, dims_of(own, groups), target.span)
