"""Rates and ratios from stored times, as the report and the plots show them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.store import Result
from benchmarks.targets import target

OURS = ("irc", "irc paged")


@dataclass(frozen=True, slots=True)
class Row:
    """A case in billions per second: floating-point operations, or bytes of a decode step."""

    result: Result
    rates: Mapping[str, float]
    ceiling: float

    @property
    def irc(self) -> float | None:
        return self.rates.get("irc")

    @property
    def peer(self) -> str | None:
        """The fastest."""
        peers = {name: rate for name, rate in self.rates.items() if name not in OURS}
        return max(peers, key=peers.__getitem__) if peers else None

    @property
    def ratio(self) -> float | None:
        """irc's speed as a multiple of the fastest peer's."""
        return self.irc / self.rates[self.peer] if self.irc and self.peer else None

    @property
    def share(self) -> float | None:
        """Of the ceiling in the same rounds."""
        return self.irc / self.ceiling if self.irc else None

    @property
    def reached(self) -> bool | None:
        """Whether the target is; None without a target or a ratio."""
        wanted = target(self.result.case)
        return None if wanted is None or self.ratio is None else self.ratio >= wanted


def row(result: Result) -> Row:
    rates = {n: result.work / statistics.median(t.seconds) / 1e9 for n, t in result.timings.items() if t.seconds}
    return Row(result, rates, statistics.median(result.rates) / 1e9)
