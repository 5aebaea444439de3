"""Text to Program: the one place that sees the passes and the runtime together."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Literal

from irc import cuda, stored
from irc.calls.autograd import outside_graphs
from irc.calls.program import Program
from irc.codegen.schedule import Schedule
from irc.compiled import Precision
from irc.error import Error, InputError, SpecWarning
from irc.grammar.source import Source
from irc.proof import proofs
from irc.proof.verdict import accepted

PRECISIONS: dict[str, Precision] = {
    "f32": Precision("f32", "f32"),
    "f64": Precision("f64", "f64"),
    "bf16": Precision("bf16", "f32"),
    "f16": Precision("f16", "f32"),
}
TARGETS = ("cpu", "cuda", "emulator", "reference")


@outside_graphs
def compile(
    program: str | Path,
    *,
    sizes: Mapping[str, int] | None = None,
    dtype: Literal["f32", "f64", "bf16", "f16"] = "f32",
    target: str = "cpu",
    accept: str | Iterable[str] = (),
    schedule: Schedule | None = None,
) -> Program:
    """Compile an attention program. Its C++ is compiled when it is first wanted, and kept on disk: the forward kernels
    by a call, those of both runs by `Program.forward`.

    program: a path, or the text itself. sizes: sizes to fix now; the others are inferred by each call.
    dtype: storage of floating tensors; arithmetic is f32 (f64 for f64). target: "cpu"; "cuda" (the first CUDA device
    of this machine; "cuda:1" the second), "cuda:sm_90a" and the like (compiled alone: `source` and `cubin`), "emulator"
    (CUDA kernels run without a device, to see that they are right, not fast: those of sm_80; of "emulator:sm_90a" that
    architecture's); or "reference" (the float64 interpreter). accept: properties under `ensure` that may stay unproved,
    each as it is written: `window(w)`.
    schedule: sizes of tiles, which change speed alone; None: those that `irc tune` has stored for this machine, else a
    model's.
    Raises SpecError for a wrong program and for an `ensure` that is neither proved nor accepted, ToolchainError
    without a C++ compiler, DeviceError for a target that this machine or version lacks, InputError for an argument of
    another type than its own, and for a name of no target.
    """
    if dtype not in PRECISIONS:
        raise InputError(f"dtype: expected one of {', '.join(PRECISIONS)}, got {dtype!r}")
    if target not in TARGETS and not (isinstance(target, str) and cuda.is_target(target)):
        raise InputError(f"target: expected one of {', '.join(TARGETS)} or cuda:sm_80 and the like, got {target!r}")
    if schedule is not None and not isinstance(schedule, Schedule):
        raise InputError(f"schedule: expected a Schedule, as irc.codegen.schedule has it, or None, got {schedule!r}")
    return _compiled(read(program), _natural(sizes or {}), dtype, target, accept, schedule)


def again(
    name: str, text: str, sizes: Mapping[str, int], dtype: str, target: str, accept: tuple[str, ...],
    schedule: Schedule | None,
) -> Program:  # fmt: skip
    """A program from what it was compiled from: how it is unpickled, in any process and by any version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpecWarning)  # they have been shown
        return _compiled(Source(name, text), sizes, dtype, target, accept, schedule)


def _compiled(
    source: Source, known: Mapping[str, int], dtype: str, target: str, accept: str | Iterable[str],
    schedule: Schedule | None,
) -> Program:  # fmt: skip
    precision = Precision("f64", "f64") if target == "reference" else PRECISIONS[dtype]

    def front() -> stored.Proved:
        from irc import pipeline  # not needed, nor its imports, for a text that has been seen

        graph = pipeline.front(source)
        found = pipeline.traced("prove", lambda: proofs(graph))
        return graph, tuple(replace(verdict, queries=()) for verdict in found)

    graph, verdicts = stored.front(source, front)
    verdicts = accepted(verdicts, _names(accept))
    if not all(verdict.passes for verdict in verdicts):
        from irc.proof.report import refuse

        refuse(verdicts)
    return Program(graph, verdicts, source, known, precision, target, schedule)


def _names(accept: str | Iterable[str]) -> tuple[str, ...]:
    given = (accept,) if isinstance(accept, str) or not isinstance(accept, Iterable) else tuple(accept)
    for name in given:
        if not isinstance(name, str):
            raise InputError(f"accept: expected the text of a property, got {name!r}")
    return given


def _natural(sizes: Mapping[str, int]) -> dict[str, int]:
    """The sizes as Python's integers, whatever integers they are."""
    if not isinstance(sizes, Mapping):
        raise InputError(f"sizes: expected numbers by name, as in {{'D': 64}}, got {sizes!r}")
    found: dict[str, int] = {}
    for name, value in sizes.items():
        try:
            if isinstance(value, bool):  # an integer, for Python
                raise TypeError
            found[name] = operator.index(value)
        except TypeError:
            raise InputError(f"sizes: {name} must be a natural number, got {value!r}") from None
    return found


def read(program: str | Path) -> Source:
    """The text of a path, or the text itself; a string is a text when it holds a brace or a newline."""
    if isinstance(program, str) and ("{" in program or "\n" in program):
        return Source("<string>", program)
    if not isinstance(program, str | PathLike) or program == "":
        raise InputError(f"program: expected a path or the text of a program, got {program!r}")
    try:
        return Source(str(program), Path(program).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise Error(f"{program}: cannot be read: it is no UTF-8 text, at byte {error.start}") from error
    except (OSError, ValueError) as error:  # ValueError: no path
        why = error.strerror if isinstance(error, OSError) else error
        raise Error(f"{program}: cannot be read: {why}") from error
