"""Findings, gathered while building; a statement that cannot go on is left with `Failed`."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import NoReturn

from irc.grammar.diagnostic import Diagnostic, Note
from irc.grammar.source import Span


class Failed(Exception):
    """The statement at hand is abandoned; what is wrong has been reported."""


class Report:
    """Collects diagnostics; the same finding is kept once."""

    def __init__(self) -> None:
        self.found: list[Diagnostic] = []

    def error(self, code: str, message: str, span: Span, notes: tuple[Note, ...] = (), help: str | None = None) -> None:
        self._add(Diagnostic(code, message, span, notes, help))

    def warn(self, code: str, message: str, span: Span, notes: tuple[Note, ...] = (), help: str | None = None) -> None:
        self._add(Diagnostic(code, message, span, notes, help, "warning"))

    def fail(
        self, code: str, message: str, span: Span, notes: tuple[Note, ...] = (), help: str | None = None
    ) -> NoReturn:
        self.error(code, message, span, notes, help)
        raise Failed

    def _add(self, diagnostic: Diagnostic) -> None:
        if diagnostic not in self.found:
            self.found.append(diagnostic)

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        return self._sorted("error")

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        return self._sorted("warning")

    def _sorted(self, severity: str) -> tuple[Diagnostic, ...]:
        kept = [d for d in self.found if d.severity == severity]
        return tuple(sorted(kept, key=lambda d: (d.span.line, d.span.column)))


def similar(name: str, known: Iterable[str]) -> str | None:
    """`did you mean …?`, where a known name is near."""
    close = get_close_matches(name, sorted(set(known)), n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else None


def counted(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}" if n else f"no {many}"
