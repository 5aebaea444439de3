"""`irc doctor`: what irc found on this machine."""

from __future__ import annotations

import click

from irc.cli.common import failures
from irc.runtime import cache


@click.command()
def doctor() -> None:
    """Say what irc found on this machine: versions, compiler, threads, caches, and where choices of `irc tune` lie.

    \b
    Example:  irc doctor
    """
    import platform
    from importlib.metadata import version

    from irc import tuned
    from irc.runtime import machine, toolchain

    click.echo(f"irc        {cache.version()}")
    click.echo(f"python     {platform.python_version()} on {platform.platform()}")
    for name in ("numpy", "lark", "jinja2", "z3-solver"):
        click.echo(f"{name:10} {version(name)}")
    with failures():
        click.echo(f"threads    {machine.threads()}")
        click.echo(f"cache      {cache.directory()}")
        kept = len(list(tuned.directory().glob("*.json")))
        click.echo(f"tuned      {tuned.directory()}: {kept} program{'s' if kept != 1 else ''}")
        sizes = machine.caches()
        click.echo(f"caches     {sizes.first >> 10} KiB first, {sizes.second >> 10} KiB second, of one core")
        found = toolchain.find()
        click.echo(f"compiler   {' '.join(found.command)}: {found.version}")
        click.echo(f"flags      {' '.join(found.flags)}")
