"""What became of each `ensure`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from irc.grammar.source import Span
from irc.proof.claim import Model


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one `ensure`: `property` is its text.

    `evidence` is a sentence: why it holds, or what was checked. A refuted one has the smallest state of the program
    that breaks it (`model`, pairs of the core `core`), `reason` says in words what happens there, `diagnosis` how the
    mask nearly matches (`complemented`, `transposed`, …) and `fix` what to write instead, where these are known.
    """

    property: str
    status: Literal["proved", "refuted", "not decided"]
    evidence: str = ""
    core: str | None = None
    model: Model | None = None
    reason: str | None = None
    diagnosis: str | None = None
    fix: str | None = None
    accepted: bool = False
    queries: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    span: Span | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.status + (f": {self.evidence}" if self.evidence else "")
