"""What `irc check` says: types, warnings, a verdict for each `ensure`; of a folder, a table."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from irc.elaborate.build import build
from irc.error import SpecError
from irc.grammar.diagnostic import Diagnostic, SyntaxErrors
from irc.grammar.source import Source, Span
from irc.graph.ir import Graph, Node, kind, shape
from irc.graph.printer import expression
from irc.graph.verify import verify
from irc.prepared import parse
from irc.proof import proofs, report
from irc.proof.verdict import Verdict, accepted, key
from irc.show.signature import tensor

SIGN = {"proved": "✓", "refuted": "✗", "not decided": "?"}


@dataclass(frozen=True, slots=True)
class Checked:
    """One program, or one text that is none: then it has no graph. `diagnostics` are the warnings too; where
    `strict`, they fail it."""

    name: str
    source: Source
    graph: Graph | None = None
    verdicts: tuple[Verdict, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    strict: bool = False

    @property
    def ok(self) -> bool:
        return not any(self.strict or d.severity == "error" for d in self.findings)

    @property
    def findings(self) -> tuple[Diagnostic, ...]:
        """The diagnostics, those of unproved properties included."""
        if self.graph is None:
            return self.diagnostics
        failed = (v for v in self.verdicts if not v.passes)
        return (*self.diagnostics, *(report.diagnostic(v) for v in failed))


def check(sources: Iterable[Source], accept: Sequence[str] = (), strict: bool = False) -> tuple[Checked, ...]:
    """Every program of the texts; where `strict`, a warning fails its program. Raises InputError for a name in `accept`
    that no program ensures."""
    found = [checked for source in sources for checked in _programs(source)]
    every = [v for checked in found for v in checked.verdicts]
    if any(checked.graph is None for checked in found):  # which may ensure what is not found elsewhere
        accept = [name for name in accept if key(name) in {key(v.text) for v in every}]
    verdicts = iter(accepted(every, accept))
    return tuple(
        replace(checked, verdicts=tuple(next(verdicts) for _ in checked.verdicts), strict=strict) for checked in found
    )


def unread(name: str, why: str) -> Checked:
    """Of a file that is no text, or cannot be read."""
    source = Source(name, "")
    return Checked(Path(name).stem, source, diagnostics=(Diagnostic("E007", why, Span(source, 1, 1, 1, 1)),))


def _programs(source: Source) -> Iterator[Checked]:
    name = Path(source.name).stem
    try:
        programs = parse(source)
    except SyntaxErrors as error:
        yield Checked(name, source, diagnostics=error.diagnostics)
        return
    for program in programs:
        name = program.name.id
        try:
            graph = build(program)
            verify(graph)
        except SpecError as error:
            yield Checked(name, source, diagnostics=error.diagnostics)
            continue
        try:
            yield Checked(name, source, graph, proofs(graph), graph.warnings)
        except SpecError as error:
            yield Checked(name, source, diagnostics=(*graph.warnings, *error.diagnostics))


# in words


def text(checked: Checked) -> str:
    """The program's arguments and verdicts; empty for a text that is no program."""
    if checked.graph is None:
        return ""
    lines = [f"{checked.name}: well typed"]
    taken = [(n.role, n.name, n) for n in checked.graph.inputs]
    given = [("return", name, checked.graph[of]) for name, of in checked.graph.outputs]
    lines += [f"  {role:8} {tensor(name, shape(node))}: {kind(node).value}" for role, name, node in (*taken, *given)]
    wide = max((len(v.text) for v in checked.verdicts), default=0)
    for v in checked.verdicts:
        said = str(v) if v.passes else v.label  # the diagnostic says more
        lines += _hanging(f"  {SIGN[v.status]} {v.text.ljust(wide)}  ", said)
    return "\n".join(lines)


def _hanging(lead: str, words: str) -> list[str]:
    """The words beside the lead, folded at the width of the terminal."""
    width = max(shutil.get_terminal_size((120, 24)).columns, len(lead) + 30)
    return textwrap.wrap(words, width, initial_indent=lead, subsequent_indent=" " * len(lead), break_on_hyphens=False)


def table(folder: Path, found: Sequence[Checked]) -> str:
    """A line a program: name, verdict, reason."""
    rows = [(_label(folder, c), *_summary(c)) for c in found]
    names, verdicts = (max(len(row[n]) for row in (*rows, HEAD)) for n in (0, 1))
    lines = [f"{HEAD[0].ljust(names)}  {HEAD[1].ljust(verdicts)}  {HEAD[2]}"]
    for name, verdict, reason in rows:
        lines += _hanging(f"{name.ljust(names)}  {verdict.ljust(verdicts)}  ", reason or "-")
    passed = sum(c.ok for c in found)
    return "\n".join([*lines, "", f"{passed} of {len(found)} programs pass"])


HEAD = ("program", "verdict", "reason")


def _label(folder: Path, checked: Checked) -> str:
    file = Path(checked.source.name).relative_to(folder).with_suffix("").as_posix()
    return file if Path(file).name == checked.name else f"{file} ({checked.name})"


def _summary(checked: Checked) -> tuple[str, str]:
    """The verdict on the whole program, and its reason."""
    failed = [v for v in checked.verdicts if not v.passes]
    if failed:
        worst = min(failed, key=lambda v: v.status != "refuted")
        how = f" ({worst.diagnosis})" if worst.diagnosis else ""
        return worst.status, f"{worst.text}: {worst.why}{how}"
    errors = [d for d in checked.diagnostics if d.severity == "error"]
    if errors:
        return "wrong", f"{errors[0].code}: {errors[0].message}"
    if checked.diagnostics:
        return "suspicious", f"{checked.diagnostics[0].code}: {checked.diagnostics[0].message}"
    unproved = [v for v in checked.verdicts if v.accepted]
    if unproved:
        return unproved[0].label, f"{unproved[0].text}: {unproved[0].why}"
    return ("proved", ", ".join(v.text for v in checked.verdicts)) if checked.verdicts else ("well typed", "")


# as data


def plain(found: Sequence[Checked]) -> dict[str, Any]:
    """Everything as JSON: diagnostics, and each program with its arguments and verdicts."""
    return {
        "ok": all(c.ok for c in found),
        "diagnostics": [finding(d) for c in found for d in c.findings],
        "programs": [_program(c, c.graph) for c in found if c.graph is not None],
    }


def _program(checked: Checked, graph: Graph) -> dict[str, Any]:
    return {
        "name": graph.name,
        "file": checked.source.name,
        "inputs": [{"name": n.name, "role": n.role, **_typed(n)} for n in graph.inputs],
        "outputs": [{"name": name, **_typed(graph[of])} for name, of in graph.outputs],
        "properties": [report.plain(verdict) for verdict in checked.verdicts],
    }


def _typed(node: Node) -> dict[str, Any]:
    return {"type": kind(node).value, "shape": [expression(s) for s in shape(node)]}


def finding(diagnostic: Diagnostic) -> dict[str, Any]:
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        **report.place(diagnostic.span),
        "notes": [{"message": n.message, **(report.place(n.span) if n.span else {})} for n in diagnostic.notes],
        "help": diagnostic.help,
    }


def write_queries(found: Sequence[Checked], folder: Path) -> tuple[Path, ...]:
    """The queries of every verdict as SMT-LIB 2 files, `program.property.number.smt2`; answers their paths.

    A property is proved if all of its queries are unsatisfiable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for checked in found:
        for verdict in checked.verdicts:
            for number, (name, query) in enumerate(verdict.queries, 1):
                path = folder / f"{_slug(checked.name)}.{_slug(verdict.text)}.{number}.smt2"
                path.write_text(f"; {verdict.text}: {verdict.status} ({name})\n{query}", encoding="utf-8")
                written.append(path)
    return tuple(written)


def _slug(name: str) -> str:
    return re.sub(r"\W+", "-", name).strip("-")
