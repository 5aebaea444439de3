"""From character offsets to spans."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from irc.grammar.source import Source, Span


class Places:
    """Turns offsets into the text of one source into its lines and columns."""

    __slots__ = ("_starts", "source")

    def __init__(self, source: Source) -> None:
        self.source = source
        # The lines of `Source.line`, which also end at form feeds and the like.
        self._starts = [0, *accumulate(len(line) for line in source.text.splitlines(keepends=True))]

    def span(self, start: int, end: int) -> Span:
        """The stretch from offset `start` up to, and without, offset `end`."""
        line, column = self._place(start)
        # The end belongs to the line of the last character, also where that character ends its line.
        end_line, end_column = self._place(max(start, end - 1))
        return Span(self.source, line, column, end_line, end_column + (1 if end > start else 0))

    def _place(self, offset: int) -> tuple[int, int]:
        line = bisect_right(self._starts, offset)
        if line == len(self._starts) and line > 1 and offset == self._starts[-1]:
            line -= 1  # the end of the text: on its last line
        return line, offset - self._starts[line - 1] + 1
