"""What commands share: failures as exit codes, programs by file, arrays from files and options."""

from __future__ import annotations

import errno
import io
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from irc.error import DeviceError, Error, InputError, SpecError, SpecWarning, ToolchainError
from irc.grammar.diagnostic import SyntaxErrors
from irc.grammar.source import Source

if TYPE_CHECKING:
    from irc.calls.program import Program
    from irc.graph.ir import Graph

BAD_SPEC, BAD_USAGE, MISSING, STOPPED = 1, 2, 3, 130


@contextmanager
def failures() -> Iterator[None]:
    """What the compiler raises on purpose, as a message on stderr and the exit code."""
    try:
        yield
    except (SpecError, SyntaxErrors) as error:
        fail("\n".join(d.render() for d in error.diagnostics), BAD_SPEC)
    except InputError as error:
        fail(f"error: {error}", BAD_USAGE)
    except (ToolchainError, DeviceError) as error:
        fail(f"error: {error}", MISSING)
    except Error as error:
        fail(f"error: {error}", BAD_SPEC)
    except MemoryError as error:
        fail(f"error: not enough memory: {error}", BAD_USAGE)


class Command(click.Group):
    """The command with all its own: errors of the system name their file, or else are of standard output, which may be
    full."""

    def invoke(self, ctx: click.Context) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
                stream.reconfigure(errors="backslashreplace")  # what the terminal's encoding has not
        try:
            try:
                return super().invoke(ctx)
            finally:
                if sys.stdout is not None:  # which may be closed
                    sys.stdout.flush()
        except OSError as error:
            if error.errno == errno.EPIPE:  # nobody reads on, as below `| head`: click ends quietly
                raise
            with suppress(OSError):  # what is left to write is tried again at the end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            fail(f"error: {error.filename or 'standard output'}: {error.strerror or error}", BAD_USAGE)
        except KeyboardInterrupt:
            fail("stopped", STOPPED)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """An error of the system while the file is written names it."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of what the path names once it is whole: what cannot be written is known before it is
    made, and until then nothing is lost."""
    path = path.resolve()
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".irc-{os.getpid()}")
        if path.exists() and not (path.is_file() and os.access(path.parent, os.W_OK)):
            beside = path  # a device, or a file in a folder that takes no other
        try:
            with open(beside, "wb") as file:
                yield file
            if beside != path:
                beside.replace(path)
        except OSError as error:
            if error.filename == str(beside):
                error.filename = str(path)
            raise
        finally:
            if beside != path:
                beside.unlink(missing_ok=True)


def fail(message: str, code: int) -> None:
    click.echo(message, err=True)
    sys.exit(code)


def read(spec: str) -> Source:
    """The text of SPEC, of standard input for `-`."""
    try:
        if spec == "-" and sys.stdin is None:
            raise click.BadParameter("there is no standard input to read", param_hint="SPEC")
        if spec == "-":
            return Source("<stdin>", sys.stdin.buffer.read().decode("utf-8"))
        return Source(spec, Path(spec).read_text(encoding="utf-8"))
    except OSError as error:
        raise click.BadParameter(f"cannot read {spec}: {error.strerror}", param_hint="SPEC") from error
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"{spec} is no UTF-8 text", param_hint="SPEC") from error


def graphs(source: Source) -> list[Graph]:
    """The graph of each program of the text."""
    from irc.elaborate.build import build
    from irc.prepared import parse

    return [build(attention) for attention in parse(source)]


def compiled(source: Source, sizes: dict[str, int], dtype: Any, target: str, accept: Iterable[str] = ()) -> Program:
    """The program, its diagnostics naming the file that it came from."""
    from irc.compiler import compile

    program = f"{source.text}\n" if source.name == "<stdin>" else Path(source.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpecWarning)  # they are shown below, as `check` shows them
        made = compile(program, sizes=sizes, dtype=dtype, target=target, accept=accept)
    for finding in made.graph.warnings:
        click.echo(finding.render(), err=True)
    return made


def load_arrays(path: str | None) -> dict[str, Any]:
    import zipfile
    import zlib

    import numpy as np

    if path is None:
        return {}
    try:
        with open(path, "rb") as opened:
            if not zipfile.is_zipfile(opened):
                raise ValueError("it is no zip archive")
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise click.BadParameter(f"{path} is no .npz file: {error}", param_hint="--inputs") from error


def arguments(graph: Graph, given: Mapping[str, Any], floating: Any) -> dict[str, Any]:
    """Lists given with --set as arrays; floating arrays, and lists of integers where floats are wanted, in the element
    type that the program stores."""
    import numpy as np

    from irc.graph.interpret import DTYPES

    types = {n.name: np.dtype(DTYPES[n.kind]) for n in graph.inputs}

    def argument(name: str, value: Any) -> Any:
        if not isinstance(value, list | np.ndarray):
            return value
        array = np.asarray(value)
        if isinstance(value, list) and not array.size and name in types:  # which tells no type
            array = array.astype(types[name])
        of_integers = isinstance(value, list) and array.dtype.kind in "iu" and types.get(name, array.dtype).kind == "f"
        return array.astype(floating, copy=False) if array.dtype.kind == "f" or of_integers else array

    return {name: argument(name, value) for name, value in given.items()}


def check_names(given: Iterable[str], graphs: Sequence[Graph]) -> None:
    """Raises InputError for what is an argument of none of the programs of a text."""
    from irc.calls.contract import unknown

    known = list(dict.fromkeys(n.name for graph in graphs for n in graph.inputs))
    for name in given:
        if name not in known:
            raise unknown(name, ", ".join(graph.name for graph in graphs), known)


def drawn(
    program: Program, sizes: dict[str, int], given: dict[str, Any], formulas: tuple[str, ...]
) -> tuple[dict[str, int], dict[str, Any]]:
    """All sizes of the program, and arguments of a call."""
    from irc.runtime.arrays import DTYPE
    from irc.show.fill import complete
    from irc.tuning.measure import all_sizes, random_arguments

    check_names(given, [program.graph])
    known = all_sizes(program, sizes)
    filled = complete(program.graph, known, given, formulas, whole=False)
    arrays = arguments(program.graph, filled, DTYPE[program.precision.storage])
    return known, random_arguments(program, known, arrays)
