"""Where text comes from, and stretches of it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Source:
    """A named text. `name` is what diagnostics print: a path, or `<string>`, or `<stdin>`."""

    name: str
    text: str = field(repr=False)

    def line(self, number: int) -> str:
        """Line `number`, counted from 1, without its end."""
        lines = self.text.splitlines()
        return lines[number - 1] if 0 < number <= len(lines) else ""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one source: 1-based line and column of its first character and of the one after its last."""

    source: Source = field(repr=False)
    line: int
    column: int
    end_line: int
    end_column: int

    def text(self) -> str:
        """The text of a span that lies on one line; of a longer one, its first line."""
        end = self.end_column - 1 if self.end_line == self.line else None
        return self.source.line(self.line)[self.column - 1 : end]
