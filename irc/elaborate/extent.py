"""How far expressions reach once the values of `let` stand in place of their names, and what a core has come to so far
in place of `score` and `weight`.

The passes behind this one are recursive, and meet a part once for each place that it stands in. What would exhaust
them is refused here, before anything is put in its place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from irc.elaborate.names import parts
from irc.elaborate.report import Failed, Report
from irc.elaborate.scope import RUNNING
from irc.grammar.diagnostic import Diagnostic
from irc.grammar.nodes import DEEPEST
from irc.grammar.source import Span
from irc.grammar.syntax import (
    Assign,
    Assume,
    Attention,
    Block,
    Compare,
    Core,
    Ensure,
    Expression,
    Let,
    Name,
    Nondecreasing,
    Stage,
)

LARGEST = 10_000  # operations in one expression


@dataclass(frozen=True, slots=True)
class Extent:
    depth: int = 1
    operations: int = 1

    @property
    def excess(self) -> str | None:
        """What is too much of it."""
        if self.depth > DEEPEST:
            return f"more than {DEEPEST} operations deep"
        return f"more than {LARGEST} operations" if self.operations > LARGEST else None


NOTHING = Extent()


def overgrown(program: Attention) -> tuple[Diagnostic, ...]:
    """What is wrong with the first `let`, assumption, assignment, stage or promise that reaches too far."""
    report, shared = Report(), dict[str, Extent]()
    try:
        for statement in program.statements:
            match statement:
                case Let():
                    _let(statement, shared, report)
                case Assume(facts=facts):
                    for fact in facts:
                        value = fact.value if isinstance(fact, Nondecreasing) else fact
                        _within(extent(value, shared), "with all that it names, the assumption", fact.span, report)
                case Ensure(properties=properties):
                    for item in properties:
                        if item.argument is not None:
                            _within(
                                extent(item.argument, shared), "with all that it names, the promise", item.span, report
                            )
                case Block():
                    _block(statement, dict(shared), report)
                case Core():
                    _core(statement, dict(shared), report)
                case _:
                    pass
    except Failed:
        pass
    return report.errors


def extent(e: Expression, known: dict[str, Extent]) -> Extent:
    """That of an expression, with what is known of names."""
    if isinstance(e, Name):
        return known.get(e.id, NOTHING)
    signs = len(e.ops) if isinstance(e, Compare) else 1  # a chain of comparisons is one `and` within another
    return _joined((extent(part, known) for part in parts(e)), signs)


def _joined(operands: Iterable[Extent], times: int = 1) -> Extent:
    """One operation on these, or as many as `times`, one within the other."""
    found = list(operands)
    return Extent(times + max((x.depth for x in found), default=0), times + sum(x.operations for x in found))


def _let(statement: Let, known: dict[str, Extent], report: Report) -> None:
    name, found = statement.name, extent(statement.value, known)
    if found.excess:
        message = f"with all that it names, `{name.id}` is {found.excess}"
        report.fail("E006", message, name.span, help="a part that is assigned in `project` is computed once")
    known[name.id] = found


def _block(block: Block, known: dict[str, Extent], report: Report) -> None:
    for statement in block.statements:
        match statement:
            case Let():
                _let(statement, known, report)
            case Assign(value=value) if excess := extent(value, known).excess:
                help = "assign a part of it first"
                report.fail("E006", f"with all that it names, the expression is {excess}", value.span, help=help)


def _core(core: Core, known: dict[str, Extent], report: Report) -> None:
    mask = NOTHING
    running: dict[str, Expression] = {}  # lets that read what changes from stage to stage
    for statement in core.statements:
        match statement:
            case Let(name, value):
                _let(statement, known, report)
                if _names(value) & {*RUNNING, *running}:
                    running[name.id] = value
            case Stage("allow" | "block", value):
                mask = _joined((mask, extent(value, known)))
                _within(mask, "with this stage, the mask", statement.span, report)
            case Stage("matmul", value):
                _within(extent(value, known), "with this stage, the operand", statement.span, report)
            case Stage(kind, value):
                found = extent(value, known)
                so_far = found if kind == "map" else _joined((known.get("score", NOTHING), found))
                _within(so_far, "with this stage, what the core computes of a pair", statement.span, report)
                known |= dict.fromkeys(RUNNING, so_far)
                for name_of, e in running.items():
                    known[name_of] = extent(e, known)
            case _:
                pass


def _within(found: Extent, what: str, span: Span, report: Report) -> None:
    if found.excess:
        report.fail("E006", f"{what} is {found.excess}", span)


def _names(e: Expression) -> set[str]:
    return {e.id} if isinstance(e, Name) else set().union(*(_names(part) for part in parts(e)))
