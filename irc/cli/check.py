"""`irc check`: what a program means, proved."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from irc.cli.common import BAD_SPEC, failures, read, writing
from irc.cli.options import Written, accept_option, spec_argument
from irc.grammar.diagnostic import Diagnostic
from irc.grammar.source import Source

if TYPE_CHECKING:
    from irc.show import check as checking


@click.command()
@spec_argument
@accept_option
@click.option("--strict", is_flag=True, help="A warning fails its program too.")
@click.option("--json", "as_json", is_flag=True, help="Findings and verdicts as JSON on standard output.")
@click.option(
    "--smt2", "queries", type=Written(path_type=Path, file_okay=False), help="Write the solver's queries here."
)
def check(spec: str, accept: tuple[str, ...], strict: bool, as_json: bool, queries: Path | None) -> None:
    """Check names, indices, sizes and types, and prove what the program ensures.

    SPEC may be a folder: every .attn file below it is checked, and a table sums up. One that cannot be read, or is no
    text, is wrong.

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
    from irc.show import check as checking

    with failures():
        folder = Path(spec) if spec != "-" and Path(spec).is_dir() else None
        files = sorted(folder.rglob("*.attn")) if folder is not None else [spec]
        if not files:
            raise click.BadParameter(f"there is no .attn file below {spec}", param_hint="SPEC")
        unread: list[checking.Checked] = []
        read_ones = checking.check(_read(files, folder is not None, unread), accept, strict)
        found = (*unread, *read_ones)
        written: tuple[Path, ...] = ()
        if queries is not None:
            with writing(queries):
                written = checking.write_queries(found, queries)
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


def _read(files: Sequence[str | Path], several: bool, unread: list[checking.Checked]) -> Iterator[Source]:
    """The texts, one when the one before has been checked, so that a terminal shows how far that is. Of several, those
    that cannot be read are added to `unread`."""
    from irc.show import check as checking

    shown = several and sys.stderr is not None and sys.stderr.isatty()
    with click.progressbar(files, label="checking", file=sys.stderr) if shown else nullcontext(files) as bar:
        for file in bar:
            try:
                source = read(str(file))
            except click.BadParameter as error:
                if not several:
                    raise
                unread.append(checking.unread(str(file), error.message))
            else:
                yield source


def _say(text: str, findings: Sequence[Diagnostic]) -> None:
    if text:
        click.echo(text)
    for diagnostic in findings:
        click.echo(("\n" if text else "") + diagnostic.render(), err=True)
