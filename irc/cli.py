"""The command: check, show, compile, run, plot, bench, tune, doctor.

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

BAD_SPEC, BAD_USAGE, MISSING, STOPPED = 1, 2, 3, 130
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
    text = "cpu, emulator (CUDA without a device), or reference (the float64 interpreter)."
    return click.option("--target", default="cpu", help=text)(command)


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


def measuring_options(command: Command) -> Command:
    """Sizes, inputs, threads and rounds of a command that measures."""
    threads = "Threads of the kernels; by default as IRC_THREADS says, else one for each processor."
    inputs = "An .npz file with tensors that are not to be made at random."
    fill = "A tensor by a formula of indices and sizes: 'doc[b,s] = s // 300'."
    for option in (
        click.option("--threads", type=click.IntRange(1), help=threads),
        click.option("--rounds", type=click.IntRange(1), default=7, show_default=True, help="The median of so many."),
        click.option("--inputs", type=click.Path(exists=True, dir_okay=False), help=inputs),
        click.option("--fill", "formulas", multiple=True, metavar="FORMULA", help=fill),
        set_option,
        accept_option,
        sizes_option,
    ):
        command = option(command)
    kinds = click.Choice(["f32", "f64", "bf16", "f16"])
    return click.option("--dtype", type=kinds, default="f32", help="How floating tensors are stored.")(command)


def _drawn(
    program: Program, sizes: dict[str, int], given: dict[str, Any], formulas: tuple[str, ...]
) -> tuple[dict[str, int], dict[str, Any]]:
    """All sizes of the program, and arguments of a call."""
    from irc.fill import complete
    from irc.measure import all_sizes, random_arguments
    from irc.runtime.arrays import DTYPE

    known = all_sizes(program, sizes)
    arrays = {name: _argument(value, DTYPE[program.precision.storage]) for name, value in given.items()}
    return known, random_arguments(program, known, complete(program.graph, known, arrays, formulas, whole=False))


@main.command()
@spec_argument
@measuring_options
@click.option("--json", "as_json", is_flag=True, help="What is measured as JSON on standard output.")
def bench(
    spec: str,
    dtype: str,
    accept: tuple[str, ...],
    sizes: dict[str, int],
    values: dict[str, Any],
    inputs: str | None,
    formulas: tuple[str, ...],
    rounds: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure a program: time, GFLOP/s, share of the machine's peak, and where the time goes.

    The operations that count are those of products on pairs that the mask allows. The peak is what the processor's
    vector units do in registers alone, in the form that the kernels use (multiply-add, or products of bf16 in pairs),
    on as many threads, measured in turns with the calls. Shares are of threads and time, from the same kernels with
    clocks between their phases. Within a block of scores the processor overlaps dots, exp and masks: they cannot be
    told apart, so of a block the dots are given what they would need at the peak, and the rest is one line.

    Floating tensors are made at random. Tables and scalars that masks read are not made up: give them, with --set,
    --inputs or --fill.

    \b
    Examples:  irc bench examples/causal.attn --size B=1,H=8,S=2048,D=64
               irc bench examples/causal.attn --size B=1,H=8,S=2048,D=64 --dtype bf16 --threads 1
               irc bench examples/softcap_window.attn --size B=1,H=8,Sq=512,Sk=512,D=64 --set window=64 --set cap=30.0
               irc bench examples/documents.attn --size B=1,H=8,S=2048,D=64 --fill 'doc[b,s] = s // 300' --json
    """
    from dataclasses import asdict

    from irc.bench import bench as measure
    from irc.bench import table
    from irc.runtime import cpu

    source = read(spec)
    with failures():
        program = compiled(source, {}, dtype, "cpu", accept=accept)
        every, arguments = _drawn(program, sizes, _arrays(inputs) | values, formulas)
        report = measure(program, every, arguments, rounds, threads or cpu.threads())
    if as_json:
        click.echo(json.dumps(asdict(report), indent=2))
    else:
        click.echo(table(report))


@main.command()
@spec_argument
@measuring_options
def tune(
    spec: str,
    dtype: str,
    accept: tuple[str, ...],
    sizes: dict[str, int],
    values: dict[str, Any],
    inputs: str | None,
    formulas: tuple[str, ...],
    rounds: int,
    threads: int | None,
) -> None:
    """Measure which sizes of tiles are fastest for a program on this machine, and keep them.

    Each candidate (panels of rows in a tile, columns in a tile) is compiled and run, in turns with the choice of irc's
    own model of the caches; the number beside a kernel is its speed as a multiple of the model's.
    What is found is kept with irc's cache (`irc doctor` says where), for this machine, this text, --dtype and the sizes
    of features, and is used whenever the program is compiled again. It changes speed, never results beyond rounding.

    Stop it at any time: what is measured is kept, and the same command goes on from there. Give sizes that you run
    with, and --threads 1 on a busy machine: the clock is then the thread's own processor time.

    \b
    Examples:  irc tune examples/causal.attn --size B=1,H=8,S=2048,D=64
               irc tune examples/causal.attn --size B=1,H=8,S=2048,D=64 --dtype bf16 --threads 1
               irc tune examples/documents.attn --size B=1,H=8,S=2048,D=64 --fill 'doc[b,s] = s // 300'
    Exit:      0 all candidates measured, 130 stopped before
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from irc import tuned
    from irc.runtime import cpu
    from irc.tune import CANDIDATES, Step
    from irc.tune import tune as measure

    def line(step: Step) -> str:
        speeds = ", ".join(f"{name} {1 / ratio:.2f}x" for name, ratio in step.ratios.items())
        return f"{step.tiles.panels} panels, {step.tiles.columns:3} columns: {speeds}"

    source = read(spec)
    console, step = Console(highlight=False), None
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with failures():
        program = compiled(source, {}, dtype, "cpu", accept=accept)
        every, arguments = _drawn(program, sizes, _arrays(inputs) | values, formulas)
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
            task = progress.add_task("measuring", total=len(CANDIDATES))
            try:
                for step in measure(program, every, arguments, rounds, threads or cpu.threads()):
                    console.print(line(step))
                    best = max(1 / ratio for _, ratio in step.best.values())
                    progress.update(task, completed=step.done, description=f"best {best:.2f}x")
            except KeyboardInterrupt:
                pass
    if step is None or step.done < step.total:
        click.echo("stopped; what is measured is kept, and the same command goes on from there", err=True)
    for name, (tiles, ratio) in step.best.items() if step is not None else ():
        click.echo(f"{name}: {tiles.panels} panels, {tiles.columns} columns, {1 / ratio:.2f}x the model's speed")
    click.echo(tuned.path(program.text, program.kernel_sizes(every), program.precision))
    if step is None or step.done < step.total:
        sys.exit(STOPPED)


@main.command()
def doctor() -> None:
    """Say what irc found on this machine: versions, compiler, threads, caches, and where choices of `irc tune` lie.

    \b
    Example:  irc doctor
    """
    import platform
    from importlib.metadata import version

    from irc import tuned
    from irc.runtime import cpu, machine, toolchain

    click.echo(f"irc        {cache.version()}")
    click.echo(f"python     {platform.python_version()} on {platform.platform()}")
    for name in ("numpy", "lark", "jinja2", "z3-solver"):
        click.echo(f"{name:10} {version(name)}")
    with failures():
        click.echo(f"threads    {cpu.threads()}")
        click.echo(f"cache      {cache.directory()}")
        kept = len(list(tuned.directory().glob("*.json")))
        click.echo(f"tuned      {tuned.directory()}: {kept} program{'s' if kept != 1 else ''}")
        sizes = machine.caches()
        click.echo(f"caches     {sizes.first >> 10} KiB first, {sizes.second >> 10} KiB second, of one core")
        found = toolchain.find()
        click.echo(f"compiler   {' '.join(found.command)}: {found.version}")
        click.echo(f"flags      {' '.join(found.flags)}")
