"""An attention core: its stages in order, lowered to a handful of nodes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NoReturn

from irc.codegen.expr import Const, Expr, Kind, flat, integer, op
from irc.elaborate import typing as ty
from irc.elaborate.assign import declare_result, dims_of
from irc.elaborate.biases import warn_of_features, warn_of_mask, warn_of_rows, warn_of_scale
from irc.elaborate.emit import Parts, Statistic, core_nodes
from irc.elaborate.expressions import FEW, Context
from irc.elaborate.frame import frame
from irc.elaborate.names import expanded, index_names, names
from irc.elaborate.positions import Positions
from irc.elaborate.report import Failed
from irc.elaborate.roles import with_lets
from irc.elaborate.scope import LetBinding, Lets, Scope
from irc.elaborate.statistics import statistics
from irc.elaborate.weights import WEIGHT, dropped
from irc.grammar import absent
from irc.grammar.diagnostic import Note
from irc.grammar.source import Span
from irc.grammar.syntax import Access, Align, Core, Drop, Let, Name, Normaliser, Stage, Stat
from irc.graph import ir

OF_KEYS = {
    "score": "a score is that of a query and a key, as in `score q[…, i, c] * k[…, {0}, c]`",
    "matmul": "values are those of keys, as in `matmul v[…, {0}, d]`; "
    "the sum of the weights is `matmul where({0} >= 0, 1.0, 0.0)`",
}


@dataclass
class CoreBuilder:
    """Builds one core. It is kept to type `ensure allow == p` by its indices."""

    core: Core
    scope: Scope
    lets: Lets
    allow: Expr | None = None
    masks: list[ir.Mask] = field(default_factory=list)
    weighted: Expr | None = None
    sink: Expr | None = None
    weights: list[Expr] = field(default_factory=list)  # what becomes of WEIGHT below the normaliser, one after another
    biases: list[tuple[Stage, Expr]] = field(default_factory=list)  # those that no `map` has changed since
    scored: bool = False  # whether a `score` has been read, be it a wrong one
    failed: bool = False

    def build(self) -> None:
        """Add the core's nodes to the scope. Every stage is looked at, whatever the others got wrong."""
        main = self.core.outputs[0]
        self.frame = frame(self.core, self.scope, self.lets)
        pair = frozenset([*self.frame.members, *self.frame.columns])
        self.positions = Positions(self.scope, self.frame)
        placed = self.positions.position
        self.context = Context(self.scope, self.frame.axes, dict(self.lets), position=placed, pair=pair)
        self.positions.context = self.context
        for statement in self.core.statements:
            try:
                self._statement(statement)
            except Failed:
                self.failed = True
        stats, all_well = statistics(self.core, self.frame, self.scope)
        if self.failed or not all_well or self.context.score is None or self.weighted is None:
            raise Failed
        declare_result(main, self.scope)
        if self.frame.normaliser.kind == "softmax" and self.sink is None and not stats:
            warn_of_rows(self.biases, self.frame.columns, self.scope.report)
        self._emit(main, stats)

    def _twice(self, what: str, second: Span, first: Span) -> None:
        message = f"a core has one `{what}`, and this is the second"
        self.scope.report.error("E402", message, second, (Note("the first", first),))
        self.failed = True

    # the stages, in order

    def _statement(self, statement: Align | Stage | Normaliser | Drop | Stat | Let) -> None:
        report = self.scope.report
        match statement:
            case Align():
                if self.positions.align is not None:
                    self._twice("align", statement.span, self.positions.align.span)
                self.positions.align = statement
            case Let(name=name, value=value):
                lets = self.context.lets
                if name.id in lets or self.scope.is_declared(name.id) or name.id in self.context.axes:
                    report.fail("E102", f"`{name.id}` has a meaning already", name.span)
                self.context.lets = {**lets, name.id: LetBinding(value, name.span, lets)}
            case Normaliser():
                self._normaliser(statement)
            case Drop():
                self._drop(statement)
            case Stat():
                pass
            case Stage(kind="matmul"):
                self._matmul(statement)
            case Stage(kind="allow" | "block"):
                self._mask(statement)
            case Stage(kind="map") if self._below(statement):
                self._map_weight(statement)
            case Stage():
                self._score(statement)

    def _free(self) -> frozenset[str]:
        return frozenset([*self.frame.members, *self.frame.columns])

    def _below(self, statement: Stage | Drop) -> bool:
        """Whether the statement stands below the normaliser."""
        at, normaliser = statement.span, self.frame.normaliser.span
        return (at.line, at.column) > (normaliser.line, normaliser.column)

    def _before_normaliser(self, stage: Stage) -> None:
        if self._below(stage):
            kind, read = self.frame.normaliser.kind, expanded(stage.value, self.context.lets)
            of_weight = any(isinstance(e, Name) and e.id == "weight" for e in read)
            choose = "a weight is taken away by a `map` of it: `map where(weight > 0.1, weight, 0)`"
            self.scope.report.fail(
                "E403",
                f"`{stage.kind}` stands after `{kind}`",
                stage.span,
                (Note(f"{kind} is here", self.frame.normaliser.span),),
                help=choose if of_weight else "stages act in the order written; move it up",
            )

    def _score(self, stage: Stage) -> None:
        report, context = self.scope.report, self.context
        self._before_normaliser(stage)
        if stage.kind == "score":
            context.hint, context.score, self.scored = "score", None, True
        elif context.score is None:
            if self.scored:
                raise Failed
            self._no_score(stage.kind, stage.span)
        else:
            context.hint = stage.kind
        running = context.score
        if stage.kind not in ("score", "map"):
            context.score = None
        self.positions.check_compared(stage)
        try:
            value = context.lower(stage.value, self._free())
        finally:
            context.score = running
        if value.kind is Kind.BOOL or (stage.kind == "score" and value.kind is Kind.INT):
            hint = "a mask is `allow` or `block`" if value.kind is Kind.BOOL else None
            message = f"the {stage.kind} must be a float, and this is {ty.article(value.kind)}"
            report.fail("E308", message, stage.value.span, help=hint)
        value = ty.to_float(value)
        match stage.kind:
            case "score" | "map":
                if stage.kind == "score":
                    warn_of_features(stage, value, self.frame.header[-1], report)
                else:
                    warn_of_mask(stage, value, report, running)
                context.score = value
                self.biases = []
            case "scale":
                assert running is not None
                warn_of_scale(self.biases, stage.span, report)
                context.score = op("mul", running, value)
            case _:
                warn_of_mask(stage, value, report)
                self.biases.append((stage, value))
                assert running is not None
                context.score = op("add", running, value)

    def _no_score(self, stage: str, span: Span) -> NoReturn:
        self.scope.report.fail("E404", f"`{stage}` acts on the running score, and no `score` stands before it", span)

    def _mask(self, stage: Stage) -> None:
        self._before_normaliser(stage)
        self.positions.check_compared(stage)
        for e in expanded(stage.value, self.context.lets):
            if isinstance(e, Name) and e.id == "score":
                told = "and a mask is told from the pair, its sizes and tables alone"
                self.scope.report.fail(
                    "E412", f"`{stage.kind}` reads the score, {told}", e.span, help=absent.SCORE_HELP
                )
        running, self.context.score, self.context.hint, self.context.told = self.context.score, None, stage.kind, True
        before = len(self.context.pending)
        try:
            value = self.context.lower(stage.value, self._free())
        finally:
            self.context.score, self.context.told = running, False
        ty.boolean(value, stage.value.span, self.scope.report, f"what `{stage.kind}` takes")
        if any(hint == stage.kind for hint, _ in self.context.pending[before:]):
            self.scope.report.fail(
                "E412",
                f"`{stage.kind}` sums over an index, and a mask is told from the pair, its sizes and tables alone",
                stage.value.span,
                help="where a table lists the keys of a query, index the keys by it: "
                "`let key = table[b,h,i // 64,n] * 64 + m`, `k[b,h,key,c]`, `softmax (n m)`; "
                f"a sum of at most {FEW} terms, told by the program, as over the axis of `x[B,S,3]`, may stand here",
            )
        if stage.kind == "block":
            value = op("not", value)
        self.masks.append(ir.Mask("block" if stage.kind == "block" else "allow", value, stage.span))
        self.allow = value if self.allow is None else op("and", self.allow, value)

    def _normaliser(self, stage: Normaliser) -> None:
        report, context = self.scope.report, self.context
        if context.score is None:
            if self.scored:
                raise Failed
            self._no_score(stage.kind, stage.span)
        stages = with_lets(self.core, self.lets)
        for kind in ("score", "matmul"):
            used = {n for s, seen in stages if s.kind == kind for n in index_names(s.value, self.scope, seen)}
            for name in names(stage.over):
                if name.id not in used:
                    where = next(s.span for s, _ in stages if s.kind == kind)
                    report.fail(
                        "E408",
                        f"{stage.kind} index `{name.id}` does not occur in `{kind}`",
                        name.span,
                        (Note(f"the {kind}", where),),
                        help=OF_KEYS[kind].format(name.id),
                    )
        if stage.sink is not None:
            if stage.kind != "softmax":
                report.fail(
                    "E413", f"a sink is one more logit of a softmax, and `{stage.kind}` has none", stage.sink.span
                )
            running, context.score, context.hint = context.score, None, "sink"
            for other in sorted(context.names(stage.sink) - set(self.frame.members)):
                context.score = running
                report.fail(
                    "E409",
                    f"a sink is one more logit of a row, and `{other}` is no index of the row",
                    stage.sink.span,
                    help=f"a row has the indices {', '.join(f'`{m}`' for m in self.frame.members)}",
                )
            self.sink = ty.floating(context.lower(stage.sink, frozenset(self.frame.members)), stage.sink.span, report)
            context.score = running

    def _map_weight(self, stage: Stage) -> None:
        context = self.context
        running, context.score, context.weight, context.hint = context.score, None, WEIGHT, "gain"
        try:
            value = context.lower(stage.value, self._free())
        finally:
            context.score, context.weight = running, None
        self.weights.append(ty.floating(value, stage.value.span, self.scope.report))

    def _drop(self, stage: Drop) -> None:
        report, context = self.scope.report, self.context
        if not self._below(stage):
            message = "`drop` acts on the weights, and no normaliser stands before it"
            report.fail("E403", message, stage.span, help="move it below the normaliser")
        running, context.score = context.score, None
        try:
            rate = ty.floating(context.lower(stage.probability, frozenset()), stage.probability.span, report)
            seed = ty.whole(context.lower(stage.seed, frozenset()), stage.seed.span, report, "a seed")
        finally:
            context.score = running
        if isinstance(rate, Const) and not 0 <= rate.value <= 1:
            report.fail(
                "E414", f"a probability lies between 0 and 1, and this is {rate.value:g}", stage.probability.span
            )
        axes, frame = context.axes, self.frame
        batch = tuple((axes[m].index, axes[m].size) for m in frame.members if m not in frame.rows)
        sides = [tuple((axes[n].index, axes[n].size) for n in names) for names in (frame.rows, frame.columns)]
        place = [flat(side) if side else integer(0) for side in (batch, *sides)]
        self.weights.append(dropped(op("random", seed, *place), rate))

    def _matmul(self, stage: Stage) -> None:
        report, context = self.scope.report, self.context
        if not self._below(stage):
            kind = self.frame.normaliser.kind
            message = f"`matmul` stands before `{kind}`"
            report.fail("E403", message, stage.span, (Note(f"{kind} is here", self.frame.normaliser.span),))
        running, context.score, context.hint = context.score, None, "value"
        try:
            value = context.lower(stage.value, self._free() | set(self.frame.header))
        finally:
            context.score = running
        if value.kind is not Kind.FLOAT:
            message = f"`matmul` takes floats, and this is {ty.article(value.kind)}"
            help = "`float(…)` makes one of an integer" if value.kind is Kind.INT else "write `where(…, 1.0, 0.0)`"
            report.fail("E309", message, stage.value.span, help=help)
        self.weighted = value

    def _emit(self, main: Access, statistics: tuple[Statistic, ...]) -> None:
        context, name = self.context, main.tensor.id
        assert context.score is not None and self.weighted is not None
        reductions, rename = context.finish(name)
        self.allow = rename(self.allow) if self.allow is not None else None
        self.masks = [replace(mask, predicate=rename(mask.predicate)) for mask in self.masks]
        axes = tuple(context.axes[n] for n in self.frame.header)
        parts = Parts(
            name,
            axes,
            self.frame.groups,
            tuple(context.axes[m] for m in self.frame.members),
            tuple(context.axes[c] for c in self.frame.columns),
            rename(context.score),
            self.allow,
            rename(self.sink) if self.sink is not None else None,
            self.frame.normaliser.kind,
            tuple(rename(w) for w in self.weights),
            rename(self.weighted),
            statistics,
            self.core.span,
        )
        nodes, weight = core_nodes(parts, reductions)
        self.scope.nodes.extend(nodes)
        self.scope.cores.append(self._summary(name, parts.logit, weight))
        self.scope.add_value(name, Kind.FLOAT, dims_of(axes, self.frame.groups), main.span)

    def _summary(self, name: str, score: Expr, weight: Expr) -> ir.Core:
        axes, rows = self.context.axes, self.frame.rows
        return ir.Core(
            name,
            tuple(axes[m] for m in self.frame.members if m not in rows),
            tuple(axes[row] for row in rows),
            tuple(axes[c] for c in self.frame.columns),
            self.allow,
            score,
            weight,
            tuple(self.positions.placed(row) for row in rows) if self.positions.are_placed else (),
            tuple(self.masks),
            self.core.span,
        )
