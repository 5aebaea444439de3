"""What is running and how much time is left, on standard error: a line a case, on a terminal one that changes too."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field


@dataclass
class Progress:
    """`total` cases in all, `before` of them done when this process starts. Time left is told from its own cases."""

    total: int
    before: int
    started: float = field(default_factory=time.perf_counter)
    done: int = 0
    case: str = ""

    def begin(self, case: str) -> None:
        self.case = case
        self.show("setting up")

    def show(self, what: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{self._head()}: {what}{self._left()}")
            sys.stderr.flush()

    def end(self, summary: str) -> None:
        start = "\r\x1b[K" if sys.stderr.isatty() else ""
        head = self._head()
        self.done += 1
        sys.stderr.write(f"{start}{head}: {summary}{self._left()}\n")
        sys.stderr.flush()

    def _head(self) -> str:
        return f"[{self.before + self.done + 1}/{self.total}] {self.case}"

    def _left(self) -> str:
        if not self.done:
            return ""
        each = (time.perf_counter() - self.started) / self.done
        seconds = each * (self.total - self.before - self.done)
        return f"; about {seconds / 60:.0f} min left" if seconds >= 60 else f"; about {seconds:.0f} s left"
