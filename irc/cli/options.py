"""Arguments and options that several commands take."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from irc.runtime.machine import MOST_THREADS

Command = Callable[..., Any]


class Written(click.Path):
    """A file or folder to write, which has a name: that of a variable that is not set were the current folder."""

    def convert(self, value: Any, parameter: Any, context: Any) -> Any:
        if value == "":
            self.fail("expected a name, got nothing", parameter, context)
        return super().convert(value, parameter, context)


def assignments(
    form: str, value_of: Callable[[str], object], several: bool = True
) -> Callable[[Any, Any, tuple[str, ...]], dict[str, Any]]:
    """A callback that reads `A=1`, with commas between `several`, given any number of times; ValueError is none."""

    def parse(context: Any, parameter: Any, given: tuple[str, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for item in (part for text in given for part in (text.split(",") if several else [text])):
            key, equals, value = item.partition("=")
            try:
                found[key.strip()] = value_of(value)
            except (ValueError, RecursionError):  # of lists in lists, as deep as that
                equals = ""
            if not equals or not key.strip():
                raise click.BadParameter(f"{item!r} is not {form}", ctx=context, param=parameter)
        return found

    return parse


def from_json(text: str) -> object:
    return numbers(json.loads(text))


def numbers(value: object) -> object:
    """What JSON has as a number, true, false, or as a list or lists of equal length of these. Raises ValueError."""
    if isinstance(value, list):
        import numpy as np

        if np.asarray(value).dtype.kind not in "biuf":
            raise ValueError
    elif not isinstance(value, int | float):
        raise ValueError
    return value


def sizes_option(command: Command) -> Command:
    text = "Fix a size; several with commas, or given again."
    callback = assignments("NAME=NUMBER", int)
    return click.option("--size", "sizes", multiple=True, metavar="D=64", callback=callback, help=text)(command)


def types_option(command: Command) -> Command:
    text = "How a tensor of integers is stored: i8, u8, i16, u16 or i32, which is usual; several with commas."
    callback = assignments("NAME=TYPE", str.strip)
    return click.option("--type", "types", multiple=True, metavar="k=i8", callback=callback, help=text)(command)


def set_option(command: Command) -> Command:
    text = "A scalar, or a small tensor as JSON: window=256, 'len=[3,5]'."
    callback = assignments(
        "NAME=VALUE, where VALUE is a number, true, false or a JSON list of these", from_json, several=False
    )
    return click.option("--set", "values", multiple=True, metavar="NAME=VALUE", callback=callback, help=text)(command)


def dtype_option(command: Command) -> Command:
    kinds = click.Choice(["f32", "f64", "bf16", "f16"])
    return click.option(
        "--dtype", type=kinds, default="f32", show_default=True, help="How floating tensors are stored."
    )(command)


def compile_options(command: Command) -> Command:
    text = "cpu, cuda, cuda:sm_90a (compiled alone), emulator or emulator:sm_90a (CUDA without a device), or reference."
    return click.option("--target", default="cpu", show_default=True, help=text)(dtype_option(command))


def accept_option(command: Command) -> Command:
    text = "A property, as written under `ensure`, that may stay unproved; may be given again."
    return click.option("--accept", multiple=True, metavar="NAME", help=text)(command)


def spec_argument(command: Command) -> Command:
    return click.argument("spec", callback=_named)(command)


def _named(context: Any, parameter: Any, spec: str) -> str:
    if not spec:  # as of a variable that is not set; as a path it were the current directory
        raise click.BadParameter("expected a file, or - for standard input, got nothing", context, parameter)
    return spec


def measuring_options(command: Command) -> Command:
    """Sizes, inputs, threads and rounds of a command that measures."""
    threads = "Threads of the kernels; by default as IRC_THREADS says, else one for each processor."
    inputs = "An .npz file with tensors that are not to be made at random."
    fill = "A tensor by a formula of indices and sizes: 'doc[b,s] = s // 300'."
    for option in (
        click.option("--threads", type=click.IntRange(1, MOST_THREADS), help=threads),
        click.option("--rounds", type=click.IntRange(1), default=7, show_default=True, help="The median of so many."),
        click.option("--inputs", type=click.Path(exists=True, dir_okay=False), help=inputs),
        click.option("--fill", "formulas", multiple=True, metavar="FORMULA", help=fill),
        set_option,
        accept_option,
        sizes_option,
    ):
        command = option(command)
    return dtype_option(command)
