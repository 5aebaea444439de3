"""What became of each `ensure`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from irc.error import InputError
from irc.grammar.source import Span
from irc.proof.claim import Model

if TYPE_CHECKING:
    from irc.proof.picture import Picture


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one `ensure`, whose text is `text`.

    `evidence` is a sentence: why it holds, or what was checked. A refuted one has the smallest state of the program
    that breaks it (`model`; `core` where a pair of one core explains it), `reason` says in words what happens there,
    `picture` shows it, `diagnosis` says how the program nearly has the property (`complemented`, `transposed`, …) and
    `fix` what to write instead, where these are known. `at` is the statement responsible. `accepted`: the program
    compiles although it is not proved.
    """

    text: str
    status: Literal["proved", "refuted", "not decided"]
    evidence: str = ""
    core: str | None = None
    model: Model | None = None
    reason: str | None = None
    picture: Picture | None = None
    diagnosis: str | None = None
    fix: str | None = None
    accepted: bool = False
    queries: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    span: Span | None = field(default=None, compare=False)
    at: Span | None = field(default=None, compare=False)

    @property
    def passes(self) -> bool:
        """Whether a program with this verdict compiles."""
        return self.status == "proved" or self.accepted

    @property
    def label(self) -> str:
        """`proved`, `refuted`, `not decided, accepted`, …"""
        return self.status + (", accepted" if self.accepted else "")

    @property
    def why(self) -> str:
        """What happens in the counterexample, else the evidence."""
        return self.reason or self.evidence

    def __str__(self) -> str:
        return self.label + (f": {self.why}" if self.why else "")


def key(name: str) -> str:
    """The text of a property however it is spaced."""
    return "".join(name.split())


def accepted(verdicts: Sequence[Verdict], names: Iterable[str]) -> tuple[Verdict, ...]:
    """The verdicts, those of the named properties marked as accepted unless they are proved.

    A name is the text of a property, as in `window(w)`. Raises InputError for one that there is not.
    """
    wanted = {key(name): name for name in names}
    known = {key(v.text): v.text for v in verdicts}
    for at, name in wanted.items():
        if at not in known:
            raise InputError(f"accept: the program does not ensure `{name}`; {_ensured(name, tuple(known.values()))}")
    return tuple(replace(v, accepted=v.status != "proved" and key(v.text) in wanted) for v in verdicts)


def _ensured(name: str, known: tuple[str, ...]) -> str:
    if not known:
        return "it ensures nothing"
    from irc.elaborate.report import similar  # brings difflib

    return similar(name, known) or f"it ensures {', '.join(f'`{k}`' for k in known)}"
