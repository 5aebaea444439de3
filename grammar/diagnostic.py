"""What a user is told about a mistake: code, place, message, related places, a way out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from irc.grammar.source import Span

WIDEST, BEFORE = 200, 60
"""Characters of a source line that are shown at most, and of these before the place that is meant."""


@dataclass(frozen=True, slots=True)
class Note:
    """A second place that matters, or (without a span) a remark."""

    message: str
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding. `figure` is drawn below it, line by line; `help` says what to write instead."""

    code: str
    message: str
    span: Span
    notes: tuple[Note, ...] = ()
    help: str | None = None
    severity: Literal["error", "warning"] = "error"
    figure: tuple[str, ...] = ()

    def render(self) -> str:
        """`file:line:col: error[E012]: message`, the source line, a caret, the notes in the same form, the figure,
        the help."""
        where = f"{self.span.source.name}:{self.span.line}:{self.span.column}"
        lines = [f"{where}: {self.severity}[{self.code}]: {self.message}", *excerpt(self.span)]
        for note in self.notes:
            if note.span is None:
                lines.append(f"  note: {note.message}")
            else:
                lines.append(f"{note.span.source.name}:{note.span.line}:{note.span.column}: note: {note.message}")
                lines.extend(excerpt(note.span))
        if self.figure:
            lines += ["", *(f"    {line}".rstrip() for line in self.figure), *([""] if self.help else [])]
        if self.help:
            lines.append(f"  help: {self.help}")
        return "\n".join(lines)


def excerpt(span: Span) -> list[str]:
    """The source line of a span, of a very long one what stands around it, and a line of carets under it."""
    text = span.source.line(span.line)
    begin, end = span.column - 1, span.end_column - 1 if span.end_line == span.line else len(text)
    cut = len(text) > WIDEST
    first = max(0, begin - BEFORE) if cut else 0
    last = first + WIDEST if cut else len(text)
    shown = ("…" if first else "") + text[first:last] + ("…" if last < len(text) else "")
    lead = " " * (first > 0) + "".join("\t" if c == "\t" else " " for c in text[first:begin])
    number = str(span.line)
    carets = "^" * max(1, min(end, last) - begin)
    return [f"  {number} | {shown}", f"  {' ' * len(number)} | {lead}{carets}"]


class SyntaxErrors(Exception):
    """Raised by the parser with every diagnostic found."""

    def __init__(self, diagnostics: tuple[Diagnostic, ...]) -> None:
        super().__init__("\n".join(d.render() for d in diagnostics))
        self.diagnostics = diagnostics
