"""Syntax to graph: statements in order, then what the program returns and promises; every mistake is reported."""

from __future__ import annotations

from irc.elaborate import declare
from irc.elaborate.access import check_accesses
from irc.elaborate.assign import assign
from irc.elaborate.core import CoreBuilder
from irc.elaborate.divisors import assumed_divisors
from irc.elaborate.elsewhere import sizes_elsewhere
from irc.elaborate.ensure import ensure
from irc.elaborate.extent import overgrown
from irc.elaborate.frame import stat_targets
from irc.elaborate.joined import joined
from irc.elaborate.report import Failed, similar
from irc.elaborate.scope import LetBinding, Lets, Scope
from irc.elaborate.segments import check_ordered
from irc.error import SpecError
from irc.grammar.source import Span
from irc.grammar.syntax import Assign, Assume, Attention, Block, Core, Ensure, Let, Return, SizeDecl, TensorDecl
from irc.graph.ir import Graph


def build(program: Attention) -> Graph:
    """The graph of a program. Raises SpecError with every mistake found."""
    if errors := overgrown(program):
        raise SpecError(errors)
    scope = Scope()
    for statement in program.statements:
        match statement:
            case SizeDecl():
                declare.sizes(statement, scope)
            case TensorDecl():
                declare.tensors(statement, scope)
    scope.later = _results(program)
    scope.elsewhere = sizes_elsewhere(program, scope)
    cores: list[CoreBuilder] = []
    promises: list[Ensure] = []
    returned: list[Return] = []
    for statement in program.statements:
        match statement:
            case Assume():
                declare.assumptions(statement, scope)
            case Let():
                _let(statement, scope, scope.lets)
            case Block():
                _block(statement, scope)
            case Core():
                _core(statement, scope, cores)
            case Return():
                returned.append(statement)
            case Ensure():
                promises.append(statement)
    outputs = _outputs(program, returned, scope)
    for promise in promises:
        ensure(promise, scope, cores)
    check_ordered(scope)
    accesses = check_accesses(scope) if not scope.report.errors else ()
    divisors = assumed_divisors(scope) if not scope.report.errors else ()
    if scope.report.errors:
        raise SpecError(scope.report.errors)
    return Graph(
        program.name.id,
        joined(scope.nodes, scope.cores),
        outputs,
        tuple(scope.sizes.items()),
        (*scope.facts, *divisors),
        tuple(scope.properties),
        accesses,
        tuple(scope.cores),
        scope.report.warnings,
    )


def _results(program: Attention) -> dict[str, Span]:
    targets = [
        s.target for b in program.statements if isinstance(b, Block) for s in b.statements if isinstance(s, Assign)
    ]
    targets += [t for core in program.statements if isinstance(core, Core) for t in core.outputs]
    return {t.tensor.id: t.span for t in targets}


def _let(statement: Let, scope: Scope, lets: Lets) -> None:
    name = statement.name
    try:
        if name.id in lets:
            scope.report.fail("E102", f"`{name.id}` is declared twice", name.span)
        if lets is scope.lets:
            scope.declare(name)
        elif scope.is_declared(name.id):
            scope.report.fail("E102", f"`{name.id}` has a meaning already", name.span)
    except Failed:
        return
    lets[name.id] = LetBinding(statement.value, name.span, dict(lets))


def _block(block: Block, scope: Scope) -> None:
    lets = dict(scope.lets)
    for statement in block.statements:
        if isinstance(statement, Let):
            _let(statement, scope, lets)
            continue
        try:
            assign(statement, scope, lets)
        except Failed:
            scope.add_broken(statement.target.tensor)


def _core(core: Core, scope: Scope, cores: list[CoreBuilder]) -> None:
    builder = CoreBuilder(core, scope, scope.lets)
    try:
        builder.build()
        cores.append(builder)
    except Failed:
        for target in (*core.outputs, *stat_targets(core)):
            scope.add_broken(target.tensor)


RESULTS_HELP = "a core gives its output and, `core o[…], lse[…] {`, its logsumexp; weights are never stored"


def _outputs(program: Attention, returned: list[Return], scope: Scope) -> tuple[tuple[str, str], ...]:
    if not returned:
        message = f"`{program.name.id}` returns nothing"
        scope.report.error("E110", message, program.name.span, help="end it with `return …`")
    outputs: list[tuple[str, str]] = []
    for name in (n for statement in returned for n in statement.names):
        if name.id not in scope.tensors:
            results = [t.name for t in scope.tensors.values() if t.role == "value"]
            named = f"results are {', '.join(f'`{result}`' for result in results)}; " if results else ""
            help = similar(name.id, results) or f"{named}{RESULTS_HELP}"
            scope.report.error("E101", f"there is no result `{name.id}`", name.span, help=help)
        elif name.id in (n for n, _ in outputs):
            scope.report.error("E102", f"`{name.id}` is returned twice", name.span)
        else:
            outputs.append((name.id, name.id))
    return tuple(outputs)
