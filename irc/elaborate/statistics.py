"""The row statistics that a core is asked for: logsumexp, max, argmax and entropy."""

from __future__ import annotations

from irc.codegen.expr import Kind
from irc.elaborate.assign import declare_result, dims_of, target_names
from irc.elaborate.emit import Statistic
from irc.elaborate.frame import Frame
from irc.elaborate.report import Failed, similar
from irc.elaborate.scope import Scope
from irc.grammar.source import Span
from irc.grammar.syntax import Access, Core, Stat

STATISTICS = ("logsumexp", "max", "argmax", "entropy")


def statistics(core: Core, frame: Frame, scope: Scope) -> tuple[tuple[Statistic, ...], bool]:
    """Those that can be had, declared in the scope, and whether these are all."""
    found, all_well = [], True
    asked: list[tuple[str, Access, Span]] = [("logsumexp", t, t.span) for t in core.outputs[1:]]
    asked += [(s.function.id, s.target, s.function.span) for s in core.statements if isinstance(s, Stat)]
    for function, target, span in asked:
        try:
            found.append(_statistic(function, target, span, frame, scope))
        except Failed:
            all_well = False
            scope.add_broken(target.tensor)
    return tuple(found), all_well


def _statistic(function: str, target: Access, span: Span, frame: Frame, scope: Scope) -> Statistic:
    report, normaliser = scope.report, frame.normaliser.kind
    if function in ("logsumexp", "entropy") and normaliser != "softmax":
        report.fail("E416", f"`{function}` is a statistic of a softmax, and this core has `{normaliser}`", span)
    if function not in STATISTICS:
        hint = similar(function, STATISTICS) or "a row statistic is `logsumexp`, `max`, `argmax` or `entropy`"
        report.fail("E410", f"there is no row statistic `{function}`", span, help=hint)
    written, groups = target_names(target, scope)
    if {n.id for n in written} != set(frame.members):
        wanted = f"{target.tensor.id}[{', '.join(frame.members)}]"
        report.fail("E411", f"a row statistic has the indices of a row: `{wanted}`", target.span)
    declare_result(target, scope)
    axes = tuple(frame.axes[n.id] for n in written)
    kind = Kind.INT if function == "argmax" else Kind.FLOAT
    scope.add_value(target.tensor.id, kind, dims_of(axes, groups), target.span)
    return Statistic(function, target.tensor.id, axes, groups, target.span)
