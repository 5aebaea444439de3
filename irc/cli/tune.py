"""`irc tune`: sizes of tiles by measurement."""

from __future__ import annotations

import sys
from typing import Any

import click

from irc.cli.common import STOPPED, compiled, drawn, failures, load_arrays, read
from irc.cli.options import measuring_options, spec_argument


@click.command()
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

    from irc.runtime import cache, machine
    from irc.tuning import tuned
    from irc.tuning.tune import CANDIDATES, Step
    from irc.tuning.tune import tune as measure

    def line(step: Step) -> str:
        speeds = ", ".join(f"{name} {1 / ratio:.2f}x" for name, ratio in step.ratios.items())
        return f"{step.tiles.panels} panels, {step.tiles.columns:3} columns: {speeds}"

    source = read(spec)
    console, step = Console(highlight=False), None
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with failures():
        cache.check_kept()
        program = compiled(source, {}, dtype, "cpu", accept=accept)
        every, arguments = drawn(program, sizes, load_arrays(inputs) | values, formulas)
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
            task = progress.add_task("measuring", total=len(CANDIDATES))
            try:
                for step in measure(program, every, arguments, rounds, threads or machine.threads()):
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
