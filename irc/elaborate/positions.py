"""Where the queries of a core sit among its keys: `align` and `pos`, and what may be compared."""

from __future__ import annotations

from irc.codegen.expr import Expr, op
from irc.elaborate import typing as ty
from irc.elaborate.expressions import Context
from irc.elaborate.frame import Frame
from irc.elaborate.names import expanded
from irc.elaborate.report import similar
from irc.elaborate.roles import bare_names
from irc.elaborate.scope import Scope
from irc.grammar.source import Span
from irc.grammar.syntax import Align, Binary, Compare, Name, Stage
from irc.graph.ir import product
from irc.graph.size import text


class Positions:
    """Of one core. `align` is what it says, once that is read; `context` is where its offset is."""

    context: Context

    def __init__(self, scope: Scope, frame: Frame) -> None:
        self._scope = scope
        self._frame = frame
        self.align: Align | None = None

    def position(self, name: Name) -> Expr:
        """What `pos(name)` means."""
        report = self._scope.report
        if name.id not in self._frame.rows:
            report.fail(
                "E405",
                f"`pos` takes the query index of the core, and `{name.id}` is none",
                name.span,
                help=similar(name.id, self._frame.rows)
                or (f"the query index is `{self._frame.rows[-1]}`" if self._frame.rows else None),
            )
        if not self.comparable(name.id):
            self._needs_align(name.span, name.id, self._frame.key_of(name.id))
        return self.placed(name.id)

    def comparable(self, row: str) -> bool:
        """Whether it is said where the query index sits among the keys."""
        axes = self._frame.axes
        return self.align is not None or self._scope.same(axes[row].size, axes[self._frame.key_of(row)].size)

    @property
    def are_placed(self) -> bool:
        """Whether it is said where the queries sit among the keys: without `align`, by as many of both. A single query
        index that is compared with one of several key indices is no place among all of these."""
        axes, rows, columns = self._frame.axes, self._frame.rows, self._frame.columns
        queries, keys = (product(tuple(axes[n].size for n in names)) for names in (rows, columns))
        alike = len(rows) == len(columns) or self._scope.same(queries, keys)
        return all(self.comparable(row) for row in rows) and (self.align is not None or alike)

    def placed(self, row: str) -> Expr:
        """Where the query index sits among the keys; its own value where that is not said."""
        report, axes = self._scope.report, self._frame.axes
        query, key = axes[row], axes[self._frame.key_of(row)]
        if self.align is None:
            return query.index
        match self.align.mode:
            case "first":
                return query.index
            case "last":
                of_all = product(tuple(axes[c].size for c in self._frame.columns))
                keys = key.size if len(self._frame.rows) > 1 else of_all
                if self._scope.same(query.size, keys):
                    return query.index
                return op("add", query.index, op("sub", keys, query.size))
            case _:
                assert self.align.offset is not None
                free = frozenset(self._frame.members)
                offset = self.context.lower(self.align.offset, free)
                ty.whole(offset, self.align.offset.span, report, "an offset")
                return op("add", query.index, offset)

    def _needs_align(self, span: Span, row: str, column: str) -> None:
        axes = self._frame.axes
        self._scope.report.fail(
            "E407",
            f"query index `{row}` runs over {text(axes[row].size)} and key index `{column}` over "
            f"{text(axes[column].size)}: where a query sits among the keys must be said before they are compared",
            span,
            help="write `align last` (the last query sees the last key), `align first` or `align offset e`, "
            f"and `pos({row})` for the place of the query",
        )

    def check_compared(self, stage: Stage) -> None:
        """Comparing a query index with a key index of another size needs an `align`; of a distance of the two a reader
        is warned."""
        lets = self.context.lets
        for e in expanded(stage.value, lets):
            is_distance = isinstance(e, Binary) and e.op in "+-"
            if not isinstance(e, Compare) and not is_distance:
                continue
            used = bare_names(e, self._scope, lets)
            for row in self._frame.rows:
                key = self._frame.key_of(row)
                if row in used and key in used and not self.comparable(row):
                    if not is_distance:
                        self._needs_align(e.span, row, key)
                    message = f"`{row}` and `{key}` run over different sizes, and this counts both from their first"
                    help = "write `align first` if that is meant; else `align last` or `align offset e`, and "
                    self._scope.report.warn("W005", message, e.span, help=f"{help}`pos({row})`")
                    return
