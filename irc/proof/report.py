"""Verdicts as a user reads them: a diagnostic with the counterexample drawn, or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from irc.error import SpecError
from irc.grammar.diagnostic import Diagnostic, Note
from irc.grammar.source import Span
from irc.graph.ir import Fact, Property
from irc.proof.claim import Model
from irc.proof.flow import PropertyError
from irc.proof.picture import Picture, text
from irc.proof.verdict import Verdict

EXPLANATION = {
    "complemented": "this mask is complemented: it allows what it should block",
    "transposed": "this mask is transposed: query and key have changed places",
    "off by one": "this mask is off by one",
    "window off by one": "this window is off by one",
    "alignment lost": "the alignment is lost here: the query is taken by its row, not by its place among the keys",
    "alignment negated": "the alignment is negated here: the offset is subtracted, and should be added",
    "mask missing": "no mask of this core forbids it",
    "positions mixed": "this reads another position than its own",
    "batch entries mixed": "this reads another entry of the batch than its own",
    "assumption missing": "nothing that is assumed excludes it",
}


def diagnostic(verdict: Verdict) -> Diagnostic:
    """Why the program does not compile: E601 for a property that is refuted, E602 for one that is not decided."""
    assert verdict.span is not None
    if verdict.status == "not decided":
        message = f"`{verdict.text}` is not decided: {verdict.evidence}"
        return Diagnostic("E602", message, verdict.span, help=f"to go without a proof, --accept '{verdict.text}'")
    notes = []
    if verdict.at is not None:
        is_mask = verdict.at.text().startswith(("allow", "block"))
        unknown = "this mask decides it" if is_mask else "it happens in this core"
        notes.append(Note(EXPLANATION.get(verdict.diagnosis or "", unknown), verdict.at))
    message = f"`{verdict.text}` does not hold: {verdict.reason}"
    drawn = figure(verdict.picture) if verdict.picture else ()
    return Diagnostic("E601", message, verdict.span, tuple(notes), verdict.fix, figure=drawn)


def refuse(verdicts: Sequence[Verdict]) -> None:
    """Raises SpecError with a diagnostic for each property that is neither proved nor accepted."""
    failed = tuple(diagnostic(verdict) for verdict in verdicts if not verdict.passes)
    if failed:
        raise SpecError(failed)


def contradictory(facts: Sequence[Fact]) -> Diagnostic:
    """E603: no arguments keep all of these assumptions, so each property would hold of them, and mean nothing."""
    first, *others = (fact for fact in facts if fact.span is not None)
    assert first.span is not None
    message = (
        "these assumptions contradict each other"
        if others
        else f"no sizes, scalars and tables keep the assumption `{first.text}`"
    )
    notes = tuple(Note(f"together with `{fact.text}`", fact.span) for fact in others)
    remark = "no call could keep them, and every property would hold of nothing; remove or weaken one"
    return Diagnostic("E603", message, first.span, notes, remark)


def senseless(property: Property, why: PropertyError, stage: str | None = None) -> Diagnostic:
    """E604: a property that makes no sense of this program; with the `stage` that a core lacks for its proof."""
    assert property.span is not None
    offered = f"with `{stage}` in the core it is proved" if stage else None
    help = "; else ".join(text for text in (offered, why.help) if text) or None
    return Diagnostic("E604", f"`{property.text}` says nothing here: {why}", property.span, help=help)


def plain(verdict: Verdict) -> dict[str, Any]:
    """The verdict as JSON. Places are 1-based lines and columns, ends exclusive."""
    return {
        "property": verdict.text,
        "status": verdict.status,
        "accepted": verdict.accepted,
        "evidence": verdict.evidence,
        "reason": verdict.reason,
        "diagnosis": verdict.diagnosis,
        "fix": verdict.fix,
        "core": verdict.core,
        "model": _model(verdict.model),
        "picture": _picture(verdict.picture),
        "span": place(verdict.span) if verdict.span else None,
        "at": place(verdict.at) if verdict.at else None,
    }


def _model(model: Model | None) -> dict[str, Any] | None:
    if model is None:
        return None
    tables = {name: table.tolist() for name, table in model.tables.items()}
    return {"sizes": model.sizes, "scalars": model.scalars, "tables": tables, "indices": model.indices}


def _picture(shown: Picture | None) -> dict[str, Any] | None:
    if shown is None:
        return None
    return {
        "rows": {name: list(along) for name, along in shown.rows.items()},
        "columns": {name: list(along) for name, along in shown.columns.items()},
        "filled": shown.filled.tolist(),
        "row": shown.row,
        "column": shown.column,
        "legend": list(shown.legend),
        "given": shown.given,
        "text": list(text(shown)),
    }


def place(span: Span) -> dict[str, Any]:
    start = {"file": span.source.name, "line": span.line, "column": span.column}
    return start | {"end_line": span.end_line, "end_column": span.end_column}


def figure(shown: Picture) -> tuple[str, ...]:
    head = (f"with {shown.given}:", "") if shown.given else ()
    return (*head, *(f"  {line}".rstrip() for line in text(shown)))
