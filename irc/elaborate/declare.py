"""Declarations: sizes, tensors, assumptions."""

from __future__ import annotations

from irc.codegen.expr import Axis, Const, Expr, Kind
from irc.elaborate.divisors import check_constants
from irc.elaborate.expressions import Context
from irc.elaborate.inference import Inference
from irc.elaborate.names import expanded, index_names
from irc.elaborate.report import Failed, similar
from irc.elaborate.scope import Scope
from irc.elaborate.typing import boolean, number
from irc.grammar import absent
from irc.grammar.syntax import (
    Access,
    Assume,
    Expression,
    Group,
    Name,
    Nondecreasing,
    SizeDecl,
    TensorDecl,
    TensorItem,
)
from irc.graph.ir import Fact, Input, product

KINDS = {None: Kind.FLOAT, "float": Kind.FLOAT, "int": Kind.INT, "bool": Kind.BOOL}


def size_value(e: Expression, scope: Scope) -> Expr:
    """An expression of sizes and integers."""
    for part in expanded(e, {}):
        read = part.tensor if isinstance(part, Access) else part
        if isinstance(read, Name) and (isinstance(part, Access) or read.id in scope.tensors):
            message = f"a size is told by sizes and numbers, and `{read.id}` has its value from a call's data"
            scope.report.fail("E112", message, part.span, help=absent.LENGTH_HELP)
    for name in sorted(index_names(e, scope, {})):
        help = similar(name, scope.sizes) or f"declare it: `size {name}`"
        scope.report.fail("E105", f"there is no size `{name}`", e.span, help=help)
    value = Context(scope, {}, {}).lower(e, frozenset())
    if value.kind is not Kind.INT:
        scope.report.fail("E303", "a size must be an integer", e.span)
    check_constants(value, scope, e.span)
    if isinstance(value, Const) and value.value < 1:
        scope.report.fail("E108", f"a size is at least 1, and this is {value.value}", e.span)
    return value


def sizes(decl: SizeDecl, scope: Scope) -> None:
    for item in decl.items:
        try:
            scope.declare(item.name)
            scope.sizes[item.name.id] = None
            if item.value is not None:
                del scope.sizes[item.name.id]
                try:
                    scope.sizes[item.name.id] = size_value(item.value, scope)
                except Failed:
                    scope.sizes[item.name.id] = None
        except Failed:
            continue


def tensors(decl: TensorDecl, scope: Scope) -> None:
    for item in decl.items:
        try:
            _tensor(item, decl, scope)
        except Failed:
            scope.add_broken(item.name)


def _tensor(item: TensorItem, decl: TensorDecl, scope: Scope) -> None:
    if decl.role == "scalar":
        if item.dims is not None:
            scope.report.fail(
                "E109", f"a scalar has no indices, and `{item.name.id}` has some", item.span, help="declare an `input`"
            )
        if item.type is None:
            scope.report.error(
                "E107",
                f"the scalar `{item.name.id}` has no type",
                item.name.span,
                help=f"write `scalar {item.name.id}: int` or `scalar {item.name.id}: float`",
            )
    scope.declare(item.name)
    dims = tuple(_factors(d, scope) for d in item.dims or ())
    shape = tuple(product(d) for d in dims)
    node = Input(item.name.id, decl.role, KINDS[item.type], shape, span=item.span)
    scope.add_input(node, dims, item.span)


def _factors(dim: Expression, scope: Scope) -> tuple[Expr, ...]:
    items: tuple[Expression, ...] = dim.items if isinstance(dim, Group) else (dim,)
    return tuple(size_value(i, scope) for i in items)


def assumptions(statement: Assume, scope: Scope) -> None:
    for fact in statement.facts:
        try:
            scope.facts.append(_fact(fact, scope))
        except Failed:
            continue


def _fact(fact: Expression | Nondecreasing, scope: Scope) -> Fact:
    stated = fact.value if isinstance(fact, Nondecreasing) else fact
    inference = Inference(scope)
    inference.feed(stated, scope.lets)
    sizes = inference.solve("use INDEX as an index of a declared tensor")
    axes = {name: Axis(name, size) for name, size in sizes.items()}
    predicate = Context(scope, axes, scope.lets).lower(stated, frozenset(axes))
    free = tuple(axes.values())
    if isinstance(fact, Nondecreasing):
        if fact.over.id not in axes:
            message = f"index `{fact.over.id}` does not occur in `{fact.value.span.text()}`"
            scope.report.fail("E209", message, fact.over.span)
        number(predicate, fact.value.span, scope.report)
        return Fact(predicate, free, fact.span.text(), fact.over.id, span=fact.span)
    boolean(predicate, fact.span, scope.report, "an assumption")
    return Fact(predicate, free, fact.span.text(), span=fact.span)
