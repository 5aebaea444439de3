"""`ensure`: which property, with its argument typed."""

from __future__ import annotations

from irc.codegen.expr import Expr
from irc.elaborate.core import CoreBuilder
from irc.elaborate.expressions import Context
from irc.elaborate.names import index_names
from irc.elaborate.report import Failed, Report, similar
from irc.elaborate.scope import Scope
from irc.elaborate.typing import boolean, whole
from irc.grammar import syntax
from irc.grammar.source import Span
from irc.graph.ir import Property

OF_CORES = ("allow", "rows nonempty")
PROPERTIES = ("causal", "window", "rows nonempty", "allow", "incremental", "batch independent")


def ensure(statement: syntax.Ensure, scope: Scope, cores: list[CoreBuilder]) -> None:
    for item in statement.properties:
        try:
            found = _arguments(item, scope, cores)
        except Failed:
            continue
        name, text = _name(item), _text(item.span)
        scope.properties += [Property(name, text, argument, core, span=item.span) for argument, core in found]


def _name(item: syntax.Property) -> str:
    return "allow" if item.name.startswith("allow") else item.name


def _text(span: Span) -> str:
    """The whole text of a span on one line, without comments."""
    lines = [span.source.line(number) for number in range(span.line, span.end_line + 1)]
    lines[-1] = lines[-1][: span.end_column - 1]
    lines[0] = lines[0][span.column - 1 :]
    return " ".join(" ".join(line.partition("#")[0].split()) for line in lines)


def _arguments(item: syntax.Property, scope: Scope, cores: list[CoreBuilder]) -> list[tuple[Expr | None, str | None]]:
    """The argument; that of `allow` for each core that has its indices, or for the one that is named, with the core."""
    report, name = scope.report, _name(item)
    if name not in PROPERTIES:
        known = ", ".join(f"`{p}`" for p in PROPERTIES)
        hint = similar(item.name, PROPERTIES) or f"known: {known}"
        report.fail("E501", f"there is no property `{item.name}`", item.span, help=hint)
    if (item.argument is not None) != (name in ("window", "allow")):
        wanted = "takes no argument" if item.argument is not None else "needs an argument, as in `window(w)`"
        report.fail("E502", f"`{name}` {wanted}", item.span)
    if item.core is not None:
        cores = _named(item.core, name, report, cores)
    if item.argument is None:
        return [(None, None if item.core is None else item.core.id)]
    if name == "window":
        width = Context(scope, {}, scope.lets).lower(item.argument, frozenset())
        return [(whole(width, item.argument.span, report, "the width of a window"), None)]
    used = index_names(item.argument, scope, scope.lets)
    found: list[tuple[Expr | None, str | None]] = []
    for core in cores:
        if used <= core.context.axes.keys():
            context = Context(scope, core.context.axes, core.context.lets, position=core.positions.position)
            predicate = context.lower(item.argument, frozenset([*core.frame.members, *core.frame.columns]))
            predicate = boolean(predicate, item.argument.span, report, "a mask")
            found.append((predicate, core.core.outputs[0].tensor.id))
    if not found and (cores or not report.errors):
        names = ", ".join(f"`{n}`" for n in sorted(used))
        which = "no core of this program has" if item.core is None else f"core `{item.core.id}` has not all of"
        report.fail("E503", f"{which} the indices {names}", item.argument.span)
    return found


def _named(core: syntax.Name, property: str, report: Report, cores: list[CoreBuilder]) -> list[CoreBuilder]:
    if property not in OF_CORES:
        report.fail(
            "E502",
            f"`{property}` speaks of the whole program, and not of `{core.id}` alone",
            core.span,
            help=f"of one core there are {' and '.join(f'`{p}`' for p in OF_CORES)}; write `{property}` alone",
        )
    found = [c for c in cores if c.core.outputs[0].tensor.id == core.id]
    if not found and (cores or not report.errors):
        known = tuple(c.core.outputs[0].tensor.id for c in cores)
        hint = similar(core.id, known) or f"cores: {', '.join(f'`{c}`' for c in known)}"
        report.fail("E504", f"there is no core `{core.id}`", core.span, help=hint)
    return found
