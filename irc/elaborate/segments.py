"""`segment(cu[b], i)`: the segment of a table of offsets in which a position lies."""

from __future__ import annotations

from irc.codegen.expr import Index, Kind, Load
from irc.elaborate.report import Report, counted
from irc.elaborate.scope import Scope, Tensor
from irc.grammar.diagnostic import Note
from irc.grammar.syntax import Access, Expression, Name
from irc.graph.ir import Fact

HELD = {Kind.BOOL: "booleans", Kind.FLOAT: "floats", Kind.INT: "integers"}


def named(e: Expression, report: Report) -> tuple[Name, tuple[Expression, ...]]:
    """The table, and the indices that choose its row: `cu`, or `cu[b]`."""
    match e:
        case Name():
            return e, ()
        case Access(tensor=name, indices=indices):
            return name, indices
    report.fail("E310", "`segment` takes the name of a table first", e.span, help="write for example `segment(cu, i)`")


def table(e: Expression, scope: Scope) -> tuple[Tensor, tuple[Expression, ...]]:
    """The table that `segment` reads and what chooses its row, once it is sure that it is one row of offsets."""
    name, row = named(e, scope.report)
    tensor = scope.tensor(name)
    notes = (Note(f"`{tensor.name}` is {'defined' if tensor.role == 'value' else 'declared'} here", tensor.span),)
    if tensor.kind is not Kind.INT:
        message = f"`segment` takes a table of integers, and `{tensor.name}` holds {HELD[tensor.kind]}"
        scope.report.fail("E311", message, e.span, notes)
    if tensor.role == "value":
        message = f"`segment` takes an argument of the program, and `{tensor.name}` is computed"
        help = "that offsets do not decrease is checked when they are given: declare them as an `input`"
        scope.report.fail("E312", message, e.span, notes, help=help)
    if not tensor.dims:
        scope.report.fail("E204", f"`{tensor.name}` is a scalar, and `segment` takes a table", e.span, notes)
    if len(row) != len(tensor.dims) - 1:
        have = counted(len(tensor.dims), "index", "indices")
        wanted = f"[{','.join(others(tensor))}]" if len(tensor.dims) > 1 else ""
        message = f"`{tensor.name}` has {have}, and `segment` takes all but the last"
        scope.report.fail("E204", message, e.span, notes, help=f"write `segment({tensor.name}{wanted}, …)`")
    return tensor, row


def others(tensor: Tensor) -> tuple[str, ...]:
    """Names for the indices of a table but the last."""
    return tuple("bcdef"[: len(tensor.dims) - 1])


def check_ordered(scope: Scope) -> None:
    """Every table of a `segment` is assumed not to decrease: kernels halve it to find a position. The facts that say so
    come first, for others may look a position up."""
    scope.facts.sort(key=lambda fact: not any(orders(fact, name) for name in scope.segmented))
    for name, span in scope.segmented.items():
        if not any(orders(fact, name) for fact in scope.facts):
            tensor = scope.tensors[name]
            scope.report.error(
                "E313",
                f"`segment` takes offsets that do not decrease, and nothing says so of `{name}`",
                span,
                (Note(f"`{name}` is declared here", tensor.span),),
                help=f"add `assume nondecreasing {name}[{','.join((*others(tensor), 'n'))}] over n`",
            )


def orders(fact: Fact, table: str) -> bool:
    """Whether the fact says that no row of the table decreases along its last index."""
    match fact.predicate:
        case Load(tensor, indices, Kind.INT) if tensor == table and fact.nondecreasing is not None:
            names = [e.name for e in indices if isinstance(e, Index)]
            return len(set(names)) == len(indices) and names[-1] == fact.nondecreasing
    return False
