"""A source in parts, of which a library is made of those that calls need: one for each function, as a kernel's for few
rows, which some sizes alone call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from irc.codegen.expr import TRUE, Expr


@dataclass(frozen=True, slots=True)
class Part:
    """A function that computes a kernel.

    number, length: of the part, in its source. when: of the sizes of a call, whether it is this function that runs;
    of all the kernel's functions, just one does. calls: the number of a part that it calls.
    """

    number: int
    length: int
    kernel: str
    function: str
    when: Expr = TRUE
    calls: int | None = None


def lengths(parts: Iterable[Part]) -> dict[int, int]:
    """By number."""
    return {part.number: part.length for part in parts}
