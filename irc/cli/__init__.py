"""The command: check, show, compile, run, plot, bench, tune, doctor.

Exit code 1 is a bad program, 2 bad usage (wrong arguments to a program included), 3 a missing tool or device, 130
stopped by Ctrl-C.
Every command imports what it needs when it runs, so that `irc --help` answers at once.
"""

from __future__ import annotations

import click

from irc.cli.bench import bench
from irc.cli.check import check
from irc.cli.common import Command
from irc.cli.doctor import doctor
from irc.cli.export import compile_command
from irc.cli.plot import plot
from irc.cli.run import run
from irc.cli.show import show
from irc.cli.tune import tune
from irc.runtime import cache


@click.group(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
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


for command in (check, show, compile_command, run, plot, bench, tune, doctor):
    main.add_command(command)
