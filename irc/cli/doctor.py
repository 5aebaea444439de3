"""`irc doctor`: what irc found on this machine."""

from __future__ import annotations

import click

from irc.cli.common import failures
from irc.runtime import cache


@click.command()
def doctor() -> None:
    """Say what irc found on this machine: versions, compiler, threads, caches, where choices of `irc tune` lie, and
    what a CUDA device needs.

    \b
    Example:  irc doctor
    """
    import platform
    from importlib.metadata import version

    from irc.error import InputError
    from irc.runtime import machine, toolchain
    from irc.tuning import tuned

    click.echo(f"irc        {cache.version()}")
    click.echo(f"python     {platform.python_version()} on {platform.platform()}")
    for name in ("numpy", "lark", "jinja2", "z3-solver"):
        click.echo(f"{name:10} {version(name)}")
    with failures():
        click.echo(f"threads    {machine.threads()}")
        click.echo(f"cache      {cache.directory()}")
        try:
            cache.check_kept()
        except InputError as error:
            click.echo(f"warning    {error}")
        kept = len(list(tuned.directory().glob("*.json")))
        click.echo(f"tuned      {tuned.directory()}: {kept} program{'s' if kept != 1 else ''}")
        sizes = machine.caches()
        click.echo(f"caches     {sizes.first >> 10} KiB first, {sizes.second >> 10} KiB second, of one core")
        found = toolchain.find()
        click.echo(f"compiler   {' '.join(found.command)}: {found.version}")
        click.echo(f"flags      {' '.join(found.flags)}")
        if lacking := toolchain.lacking_of(found.command, found.flags):
            click.echo(f"left out   {' '.join(sorted(lacking))}, which it cannot build")
            if toolchain.OPENMP in lacking:
                click.echo(f"warning    {toolchain.one_thread(found)}")
        _cuda()


def _cuda() -> None:
    """What target="cuda" needs, and what of it is missing."""
    from importlib.metadata import PackageNotFoundError, version

    from irc.error import DeviceError, ToolchainError
    from irc.runtime.cuda import cublaslt, device, nvcc

    def pycuda() -> str:
        try:
            return version("pycuda")
        except PackageNotFoundError:
            return "not installed: pip install 'attention-irc[cuda]'"

    def compiler() -> str:
        found = nvcc.find()
        return f"{found.path}: {found.version}"

    def gpu(number: int) -> str:
        try:
            found = device.find(number)
        except DeviceError as error:
            return str(error)
        capability = ".".join(map(str, found.capability))
        return f"{found.name}, compute capability {capability}, {found.total_memory >> 20} MiB"

    def gpus() -> str:
        return "; ".join(map(gpu, range(device.driver().Device.count())))

    for name, say in (("nvcc", compiler), ("pycuda", pycuda), ("device", gpus), ("cublaslt", cublaslt.version)):
        try:
            found = say()
        except (DeviceError, ToolchainError) as error:
            found = str(error)
        click.echo(f"{name:10} {found}")
