"""`irc compile`: a program as a library for other languages."""

from __future__ import annotations

from pathlib import Path

import click

from irc.cli.common import compiled, failures, read, writing
from irc.cli.options import Written, accept_option, compile_options, sizes_option, spec_argument, types_option


@click.command("compile")
@spec_argument
@click.option("-o", "folder", type=Written(path_type=Path, file_okay=False), required=True, help="Where to.")
@accept_option
@sizes_option
@types_option
@compile_options
def compile_command(
    spec: str, folder: Path, accept: tuple[str, ...], sizes: dict[str, int], types: dict[str, str], dtype: str,
    target: str,
) -> None:  # fmt: skip
    """Write a program as a library for other languages, with C header, source and manifest.json: for the target cpu.

    The sizes that kernels hold as constants, those of features, must be given.

    \b
    Examples:  irc compile examples/causal.attn --size D=64 -o out/causal
               irc compile examples/variants/quantised_cache.attn --size D=128 --type k=i8,v=i8 -o out/cache
    """
    from irc.export.export import export

    source = read(spec)
    with failures(), writing(folder):
        written = export(compiled(source, sizes, dtype, target, accept), folder, types)
    for path in written:
        click.echo(path)
