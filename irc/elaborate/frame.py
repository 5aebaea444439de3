"""What the whole of a core says before its stages are read: its one softmax, its indices, their sizes and roles."""

from __future__ import annotations

from dataclasses import dataclass

from irc.codegen.expr import Axis, Role
from irc.elaborate.assign import target_names
from irc.elaborate.declare import size_value
from irc.elaborate.inference import Inference
from irc.elaborate.names import index_names, names, no_name_twice
from irc.elaborate.report import Failed, Report
from irc.elaborate.roles import rows, statements, with_lets
from irc.elaborate.scope import Lets, Scope
from irc.grammar.diagnostic import Note
from irc.grammar.source import Span
from irc.grammar.syntax import Access, Align, Core, Drop, Expression, Name, Normaliser, Stage, Stat

HELP = "say it in the header of the core: `core o[…] over INDEX: SIZE { … }`"


@dataclass(frozen=True, slots=True)
class Frame:
    """`members` are the indices of a row of the score (batch, heads and query), `rows` the query indices among them,
    `columns` the key indices. `axes` holds every index: members, then columns, then the others."""

    normaliser: Normaliser
    header: tuple[str, ...]
    groups: tuple[int, ...]
    members: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    axes: dict[str, Axis]

    def key_of(self, row: str) -> str:
        """The key index that stands against a query index."""
        together = row in self.rows and len(self.rows) == len(self.columns)
        return self.columns[self.rows.index(row) if together else 0]


def frame(core: Core, scope: Scope, lets: Lets) -> Frame:
    normaliser = _normaliser(core, scope.report)
    header, groups = target_names(core.outputs[0], scope)
    inference = Inference(scope)
    for item in core.over:
        if item.value is not None:
            inference.fix(item.name, size_value(item.value, scope), "the header")
    for name in header:
        inference.mention(name)
    no_name_twice(names(normaliser.over), f"in `{normaliser.kind}`", scope.report)
    for name in names(normaliser.over):
        inference.mention(name)
        if name.id in (n.id for n in header):
            message = f"{normaliser.kind} sums over `{name.id}`, so the output cannot have it"
            scope.report.fail("E406", message, name.span, (Note("here", core.outputs[0].span),))
    _feed(core, inference, lets)
    _check_outputs(core, header, inference, scope, lets)
    sizes = inference.solve(HELP)
    columns = tuple(n.id for n in names(normaliser.over))
    order = tuple(n.id for n in header)
    queries = tuple(rows(core, order, columns, sizes, scope, lets))
    used = _used_by_rows(core, scope, lets)
    members = tuple(n for n in order if n in used)
    axes = {}
    for index in dict.fromkeys((*members, *columns, *order, *sizes)):
        role: Role = "row" if index in queries else "column" if index in columns else ""
        axes[index] = Axis(index, sizes[index], role)
    return Frame(normaliser, order, groups, members, queries, columns, axes)


def stat_targets(core: Core) -> list[Access]:
    """Row statistics: the further outputs of the header, and the `stat` statements."""
    return [*core.outputs[1:], *(s.target for s in core.statements if isinstance(s, Stat))]


def _normaliser(core: Core, report: Report) -> Normaliser:
    """The one normaliser; an error for each stage that is missing or there twice."""
    found = [s for s in core.statements if isinstance(s, Normaliser)]
    kinds: dict[str, list[Span]] = {"score": [], "normaliser": [s.span for s in found], "matmul": []}
    for statement in core.statements:
        if isinstance(statement, Stage) and statement.kind in kinds:
            kinds[statement.kind].append(statement.span)
    for kind, spans in kinds.items():
        if not spans:
            missing = "normaliser (`softmax`, …)" if kind == "normaliser" else f"`{kind}`"
            report.error("E401", f"this core has no {missing}", core.outputs[0].span, help=EXAMPLE[kind])
        for second in spans[1:]:
            message = f"a core has one {kind if kind == 'normaliser' else f'`{kind}`'}, and this is the second"
            report.error("E402", message, second, (Note("the first", spans[0]),))
    if any(len(spans) != 1 for spans in kinds.values()):
        raise Failed
    return found[0]


def _row_expressions(core: Core, lets: Lets) -> list[tuple[Expression, Lets]]:
    """Expressions beside the stages that speak of a row, each with the lets that it sees: the sink, the offset of its
    query, what is dropped."""
    found: list[tuple[Expression | None, Lets]] = []
    for statement, seen in statements(core, lets):
        match statement:
            case Normaliser(sink=e) | Align(offset=e):
                found.append((e, seen))
            case Drop(probability=p, seed=s):
                found += [(p, seen), (s, seen)]
    return [(e, seen) for e, seen in found if e is not None]


def _feed(core: Core, inference: Inference, lets: Lets) -> None:
    failed = False
    expressions = [(stage.value, seen) for stage, seen in with_lets(core, lets)]
    for e, seen in [*expressions, *_row_expressions(core, lets)]:
        try:
            inference.feed(e, seen)
        except Failed:
            failed = True
    if failed:
        raise Failed


def _check_outputs(core: Core, header: tuple[Name, ...], inference: Inference, scope: Scope, lets: Lets) -> None:
    """Every index of the output stands in some stage, or has a size that is told elsewhere."""
    used: set[str] = set().union(*(index_names(s.value, scope, seen) for s, seen in with_lets(core, lets)))
    for name in header:
        if name.id not in {*used, *inference.known, *scope.elsewhere}:
            message = f"index `{name.id}` of the output stands in no stage, and nothing tells its size"
            help = f"give it to the values, as in `matmul v[…, {name.id}]`, or leave it out"
            scope.report.fail("E202", message, name.span, help=help)


def _used_by_rows(core: Core, scope: Scope, lets: Lets) -> set[str]:
    """Indices that the score, the mask or a statistic mentions."""
    used = {n.id for target in stat_targets(core) for i in target.indices for n in names(i)}
    for stage, seen in with_lets(core, lets):
        if stage.kind != "matmul":
            used |= index_names(stage.value, scope, seen)
    for e, seen in _row_expressions(core, lets):
        used |= index_names(e, scope, seen)
    return used


EXAMPLE = {
    "score": "write for example `score q[b,h,i,c] * k[b,h,j,c]`",
    "normaliser": "write for example `softmax j`",
    "matmul": "write for example `matmul v[b,h,j,d]`",
}
