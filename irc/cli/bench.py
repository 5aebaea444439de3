"""`irc bench`: how fast a program runs, and where the time goes."""

from __future__ import annotations

import json
from typing import Any

import click

from irc.cli.common import compiled, drawn, failures, load_arrays, read
from irc.cli.options import measuring_options, spec_argument


@click.command()
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
               irc bench examples/softcap_window.attn --size B=1,H=8,G=8,Sq=512,Sk=512,D=64 --set window=8 --set cap=9.0
               irc bench examples/documents.attn --size B=1,H=8,S=2048,D=64 --fill 'doc[b,s] = s // 300' --json
    """
    from dataclasses import asdict

    from irc.runtime import machine
    from irc.tuning.bench import bench as measure
    from irc.tuning.bench import table

    source = read(spec)
    with failures():
        program = compiled(source, {}, dtype, "cpu", accept=accept)
        every, arguments = drawn(program, sizes, load_arrays(inputs) | values, formulas)
        report = measure(program, every, arguments, rounds, threads or machine.threads())
    if as_json:
        click.echo(json.dumps(asdict(report), indent=2))
    else:
        click.echo(table(report))
