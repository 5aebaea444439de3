"""Programs by name, for graphs of PyTorch: these hold numbers, texts and tensors alone.

Handles say what a program computes, so that one serves in other processes too, where PyTorch reads a graph that it has
kept on disk.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING
from weakref import WeakSet

from irc import stored
from irc.error import InputError
from irc.runtime import cache

if TYPE_CHECKING:
    from irc.calls.program import Program

DIGITS = 12
_made: defaultdict[str, WeakSet[Program]] = defaultdict(WeakSet)
_in_graphs: dict[str, Program] = {}


def handle(program: Program, *given: object) -> str:
    """The handle of a new program, of which it is made: programs of one handle give the same results."""
    key = cache.key([program.text.text, program.target, *map(repr, given), stored.fingerprint()])
    name = f"{program.graph.name}.{key[:DIGITS]}"
    _made[name].add(program)
    return name


def found(handle: str) -> Program:
    """The program, which is not forgotten from now on: a graph has it. Raises InputError where none has been made."""
    program = _in_graphs.get(handle)
    if program is None:
        program = next(iter(_made.get(handle, ())), None)
        if program is None:
            raise InputError(
                f"{handle}: a graph calls this program, which this process has not compiled: irc.compile it"
            )
        _in_graphs[handle] = program
    return program
