"""The command: check, show, compile, run, plot, doctor.

Exit code 1 is a bad program, 2 bad usage (wrong arguments to a program included), 3 a missing tool or device.
Every command imports what it needs when it runs, so that `irc --help` answers at once.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from irc.error import DeviceError, Error, InputError, SpecError, SpecWarning, ToolchainError
from irc.grammar.diagnostic import Diagnostic, SyntaxErrors
from irc.grammar.source import Source
from irc.runtime import cache

if TYPE_CHECKING:
    from irc.ir import Graph
    from irc.plot import Shown
    from irc.program import Program

BAD_SPEC, BAD_USAGE, MISSING = 1, 2, 3
STAGES = ("syntax", "graph", "backward", "tiles", "source")
Command = Callable[..., Any]


@contextmanager
def failures() -> Iterator[None]:
    """What the compiler raises on purpose, as a message on stderr and the exit code."""
    try:
        yield
    except (SpecError, SyntaxErrors) as error:
        _fail("\n".join(d.render() for d in error.diagnostics), BAD_SPEC)
    except InputError as error:
        _fail(f"error: {error}", BAD_USAGE)
    except (ToolchainError, DeviceError) as error:
        _fail(f"error: {error}", MISSING)
    except Error as error:
        _fail(f"error: {error}", BAD_SPEC)
    except OSError as error:
        _fail(f"error: {error.filename or 'file'}: {error.strerror or error}", BAD_USAGE)


def _fail(message: str, code: int) -> None:
    click.echo(message, err=True)
    sys.exit(code)


def read(spec: str) -> Source:
    """The text of SPEC, of standard input for `-`."""
    if spec == "-":
        return Source("<stdin>", sys.stdin.read())
    try:
        return Source(spec, Path(spec).read_text(encoding="utf-8"))
    except OSError as error:
        raise click.BadParameter(f"cannot read {spec}: {error.strerror}", param_hint="SPEC") from error
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"{spec} is no UTF-8 text", param_hint="SPEC") from error


def assignments(form: str, whole: bool) -> Callable[[Any, Any, tuple[str, ...]], dict[str, Any]]:
    """A callback that reads `A=1,B=2` (whole numbers) or `A=<JSON>`, given any number of times."""

    def parse(context: Any, parameter: Any, given: tuple[str, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for item in (part for text in given for part in (text.split(",") if whole else [text])):
            key, equals, value = item.partition("=")
            try:
                found[key.strip()] = int(value) if whole else json.loads(value)
            except ValueError:
                equals = ""
            if not equals:
                raise click.BadParameter(f"{item!r} is not {form}", ctx=context, param=parameter)
        return found

    return parse


def sizes_option(command: Command) -> Command:
    text = "Fix a size; several with commas, or given again."
    callback = assignments("NAME=NUMBER", whole=True)
    return click.option("--size", "sizes", multiple=True, metavar="D=64", callback=callback, help=text)(command)


def set_option(command: Command) -> Command:
    text = "A scalar, or a small tensor as JSON: window=256, 'len=[3,5]'."
    callback = assignments("NAME=VALUE, where VALUE is a number, true, false or a JSON list", whole=False)
    return click.option("--set", "values", multiple=True, metavar="NAME=VALUE", callback=callback, help=text)(command)


def compile_options(command: Command) -> Command:
    kinds = click.Choice(["f32", "f64", "bf16", "f16"])
    command = click.option("--dtype", type=kinds, default="f32", help="How floating tensors are stored.")(command)
    return click.option("--target", default="cpu", help="cpu, or reference (the float64 interpreter).")(command)


def accept_option(command: Command) -> Command:
    text = "A property, as written under `ensure`, that may stay unproved; may be given again."
    return click.option("--accept", multiple=True, metavar="NAME", help=text)(command)


def spec_argument(command: Command) -> Command:
    return click.argument("spec")(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(cache.version(), prog_name="irc")
def main() -> None:
    """A compiler for attention: index notation in, fused forward and backward kernels out.

    SPEC is a file in the attention language, or - for standard input.

    \b
    Try, in a checkout:
      irc check examples/causal.attn
      irc show  examples/causal.attn --stage backward
      irc plot  examples/softcap_window.attn --set window=8
    """


def graphs(source: Source) -> list[Graph]:
    """The graph of each program of the text."""
    from irc.build import build
    from irc.grammar.parser import parse

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


@main.command()
@spec_argument
@accept_option
@click.option("--strict", is_flag=True, help="A warning fails its program too.")
@click.option("--json", "as_json", is_flag=True, help="Findings and verdicts as JSON on standard output.")
@click.option(
    "--smt2", "queries", type=click.Path(path_type=Path, file_okay=False), help="Write the solver's queries here."
)
def check(spec: str, accept: tuple[str, ...], strict: bool, as_json: bool, queries: Path | None) -> None:
    """Check names, indices, sizes and types, and prove what the program ensures.

    SPEC may be a folder: every .attn file below it is checked, and a table sums up.

    Each property under `ensure` is decided for all sizes, scalars and tables that keep the program's `assume`:

    \b
    proved       it always holds
    refuted      it does not; the smallest counterexample is drawn, a fix offered
    not decided  neither a proof nor a counterexample up to the sizes named

    A program with a property that is not proved does not compile, unless the property is accepted by name.

    \b
    Examples:  irc check examples/softcap_window.attn
               irc check examples
               irc check spec.attn --accept causal --accept 'window(w)'
               irc check spec.attn --json
               irc check spec.attn --smt2 queries   # then, for example: z3 queries/*.smt2
    Exit:      0 well typed and proved or accepted, 1 not
    """
    from irc import check as checking

    folder = Path(spec) if spec != "-" and Path(spec).is_dir() else None
    files = sorted(folder.rglob("*.attn")) if folder is not None else [spec]
    if not files:
        raise click.BadParameter(f"there is no .attn file below {spec}", param_hint="SPEC")
    with failures():
        found = checking.check([read(str(file)) for file in files], accept, strict)
        written = checking.write_queries(found, queries) if queries is not None else ()
    if as_json:
        click.echo(json.dumps(checking.plain(found), indent=2))
    elif folder is not None:
        click.echo(checking.table(folder, found))
    else:
        for checked in found:
            _say(checking.text(checked), checked.findings)
    if written and not as_json:
        click.echo(f"{len(written)} queries in {queries}")
    if not all(checked.ok for checked in found):
        sys.exit(BAD_SPEC)


def _say(text: str, findings: Sequence[Diagnostic]) -> None:
    if text:
        click.echo(text)
    for diagnostic in findings:
        click.echo(("\n" if text else "") + diagnostic.render(), err=True)


@main.command()
@spec_argument
@click.option("--stage", type=click.Choice(STAGES), default="graph", show_default=True)
@click.option("--dot", is_flag=True, help="The graph as a Graphviz picture (stages graph and backward).")
@sizes_option
@compile_options
def show(spec: str, stage: str, dot: bool, sizes: dict[str, int], dtype: str, target: str) -> None:
    """Print a program as it stands after one stage of the compiler.

    \b
    syntax    what was written          tiles    the fused kernels, as data
    graph     tensors, one by one       source   the generated C++
    backward  the gradients' graph

    \b
    Examples:  irc show examples/causal.attn --stage graph
               irc show examples/causal.attn --stage source --size D=64
               irc show examples/causal.attn --dot | dot -Tsvg > graph.svg
    """
    source = read(spec)
    if dot and stage not in ("graph", "backward"):
        raise click.UsageError("--dot draws the stages graph and backward alone")
    with failures():
        click.echo(_stage(source, stage, dot, sizes, dtype, target))


def _stage(source: Source, stage: str, dot: bool, sizes: dict[str, int], dtype: str, target: str) -> str:
    from irc import printer
    from irc.dump import dump

    match stage:
        case "syntax":
            from irc.grammar.parser import parse

            return "\n\n".join(dump(attention) for attention in parse(source))
        case "graph" | "backward":
            from irc.differentiate import differentiate

            found = graphs(source)
            if stage == "backward":
                found = [differentiate(graph) for graph in found]
            return "\n\n".join(printer.dot(g) if dot else printer.text(g) for g in found)
        case _:
            ensured = [p.text for graph in graphs(source) for p in graph.properties]
            program = compiled(source, sizes, dtype, target, accept=ensured)
            if stage == "tiles":
                return "\n\n".join(dump(kernel) for kernel in program.kernels)
            return str(program.source)


@main.command("compile")
@spec_argument
@click.option("-o", "folder", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where to.")
@accept_option
@sizes_option
@compile_options
def compile_command(
    spec: str, folder: Path, accept: tuple[str, ...], sizes: dict[str, int], dtype: str, target: str
) -> None:
    """Write a program as a library for other languages, with C header, source and manifest.json.

    \b
    Example:  irc compile examples/causal.attn --size D=64 -o out/causal
    """
    from irc.export import export

    source = read(spec)
    with failures():
        written = export(compiled(source, sizes, dtype, target, accept), folder)
    for path in written:
        click.echo(path)


@main.command()
@spec_argument
@click.option("--inputs", type=click.Path(exists=True, dir_okay=False), help="An .npz file with the tensors.")
@set_option
@click.option("--out", type=click.Path(dir_okay=False), help="Write the outputs to this .npz file.")
@click.option("--grad", is_flag=True, help="Gradients too; cotangents d_OUTPUT from --inputs, else ones for the first.")
@accept_option
@sizes_option
@compile_options
def run(
    spec: str,
    inputs: str | None,
    values: dict[str, Any],
    out: str | None,
    grad: bool,
    accept: tuple[str, ...],
    sizes: dict[str, int],
    dtype: str,
    target: str,
) -> None:
    """Run a program on arrays.

    \b
    Example:  irc run examples/softcap_window.attn --inputs qkv.npz --set window=256 --set cap=30.0 --out o.npz --grad

    In the file for --out, outputs have their own names and gradients the name d_INPUT.
    """
    import numpy as np

    from irc.runtime.arrays import DTYPE

    source = read(spec)
    arrays = _arrays(inputs) | values
    with failures():
        program = compiled(source, sizes, dtype, target, accept)
        names = [n.name for n in program.graph.inputs]
        outputs = [name for name, _ in program.graph.outputs]
        cotangents = {n: arrays.pop(f"d_{n}") for n in outputs if f"d_{n}" in arrays and f"d_{n}" not in names}
        floating = DTYPE[program.precision.storage]
        done = program.forward(**{name: _argument(value, floating) for name, value in arrays.items()})
        results = {name: np.asarray(value) for name, value in done.outputs.items()}
        if grad:
            cotangents = {name: _argument(value, floating) for name, value in cotangents.items()}
            cotangents = cotangents or {outputs[0]: np.ones_like(results[outputs[0]])}
            results |= {f"d_{name}": np.asarray(value) for name, value in done.backward(**cotangents).items()}
    for name, value in results.items():
        mean = float(np.mean(value, dtype=np.float64)) if value.size else 0.0
        click.echo(f"{name}{list(value.shape)}  {value.dtype}  mean {mean:.6g}")
    if out:
        np.savez(out, allow_pickle=False, **results)


def _arrays(path: str | None) -> dict[str, Any]:
    import zipfile

    import numpy as np

    if path is None:
        return {}
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file) if isinstance(file, np.lib.npyio.NpzFile) else {}
    except (ValueError, OSError, zipfile.BadZipFile, AttributeError) as error:
        raise click.BadParameter(f"{path} is no .npz file: {error}", param_hint="--inputs") from error


def _argument(value: Any, floating: Any) -> Any:
    """A list given with --set as an array; floating arrays in the element type that the program stores."""
    import numpy as np

    if not isinstance(value, list | np.ndarray):
        return value
    array = np.asarray(value)
    if array.dtype.kind in "biu":
        return array.astype(np.int32) if isinstance(value, list) and array.dtype.kind == "i" else array
    return array.astype(floating, copy=False)


@main.command()
@spec_argument
@sizes_option
@set_option
@click.option(
    "--inputs", type=click.Path(exists=True, dir_okay=False), help="An .npz file with tensors the mask reads."
)
@click.option(
    "--at", multiple=True, metavar="h=2", callback=assignments("INDEX=NUMBER", whole=True), help="Which head."
)
@click.option("--each", metavar="h", help="A picture for each value of an index beside query and key.")
@click.option(
    "--show",
    "shown",
    type=click.Choice(["pairs", "scores", "weights", "map"]),
    default="pairs",
    show_default=True,
    help="What is drawn of each pair.",
)
@click.option(
    "--fill", "formulas", multiple=True, metavar="FORMULA", help="A tensor by a formula: 'k[b,h,s,c] = sin(s + c)'."
)
@click.option("--tiles", is_flag=True, help="Which tiles kernels skip, mask, and take whole.")
@click.option(
    "--tile",
    nargs=2,
    type=click.IntRange(1),
    default=(8, 8),
    show_default=True,
    metavar="ROWS COLUMNS",
    help="The shape of a tile drawn.",
)
@click.option("-o", "path", type=click.Path(path_type=Path, dir_okay=False), help="An image; without it, characters.")
def plot(
    spec: str,
    sizes: dict[str, int],
    values: dict[str, Any],
    inputs: str | None,
    at: dict[str, int],
    each: str | None,
    shown: Shown,
    formulas: tuple[str, ...],
    tiles: bool,
    tile: tuple[int, int],
    path: Path | None,
) -> None:
    """Draw what each core does with its (query, key) pairs, for chosen sizes.

    \b
    pairs    which are allowed and blocked, and the bias where there is one
    scores   the scores as the normaliser takes them
    weights  what the values are multiplied by, and what a row sums to
    map      the curve from the score as first written to the logit of a softmax, or to the weight

    All but the first are computed by the interpreter from the program's inputs: those of --set and --inputs; those of
    --fill, formulas of indices and sizes; and for other floating tensors cosines and sines of the position, so that a
    score falls with distance. With --tiles, what kernels make of the mask.

    \b
    Examples:  irc plot examples/softcap_window.attn --size Sq=16,Sk=24 --set window=6
               irc plot examples/documents.attn --set 'doc=[[0,0,0,1,1,2,2,2]]' -o mask.png
               irc plot examples/differential.attn --show weights --set 'weight=[0.5]' -o two.png
               irc plot examples/variants/relu.attn --show map -o relu.png
               irc plot examples/variants/retention.attn --show weights --fill 'gamma[h] = 1 - 2 ^ (-2 - h)'
                    --size H=3 --each h -o decay.png
               irc plot examples/causal.attn --size S=64 --tiles -o tiles.png
    """
    from irc import draw as drawing
    from irc import plot as plotting
    from irc.fill import complete

    source = read(spec)
    arrays = {name: _argument(value, float) for name, value in (_arrays(inputs) | values).items()}
    with failures():
        for graph in graphs(source):
            known = plotting.sizes_for(graph, sizes, arrays, shown)
            filled = complete(graph, known, arrays, formulas, whole=shown != "pairs")
            drawn = tuple(plotting.pictures(graph, known, filled, at, shown, tile if tiles else None, each))
            if path is None:
                click.echo("\n\n".join(drawing.text(picture) for picture in drawn))
                continue
            try:
                drawing.draw(drawn, path)
            except ImportError:
                _fail("error: pictures need matplotlib: pip install 'attention-irc[plot]'", MISSING)
            click.echo(path)


@main.command()
def doctor() -> None:
    """Say what irc found on this machine: versions, compiler, threads, cache.

    \b
    Example:  irc doctor
    """
    import platform
    from importlib.metadata import version

    from irc.runtime import cpu, toolchain

    click.echo(f"irc        {cache.version()}")
    click.echo(f"python     {platform.python_version()} on {platform.platform()}")
    for name in ("numpy", "lark", "jinja2", "z3-solver"):
        click.echo(f"{name:10} {version(name)}")
    with failures():
        click.echo(f"threads    {cpu.threads()}")
        click.echo(f"cache      {cache.directory()}")
        found = toolchain.find()
        click.echo(f"compiler   {' '.join(found.command)}: {found.version}")
        click.echo(f"flags      {' '.join(found.flags)}")
