"""`irc run`: a program on arrays from a file."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from irc.cli.common import arguments, compiled, failures, load_arrays, read, replacing
from irc.cli.options import Written, accept_option, compile_options, set_option, sizes_option, spec_argument


@click.command()
@spec_argument
@click.option("--inputs", type=click.Path(exists=True, dir_okay=False), help="An .npz file with the tensors.")
@set_option
@click.option("--out", type=Written(path_type=Path, dir_okay=False), help="Write the outputs to this .npz file.")
@click.option("--grad", is_flag=True, help="Gradients too; cotangents d_OUTPUT from --inputs, else ones for the first.")
@accept_option
@sizes_option
@compile_options
def run(
    spec: str,
    inputs: str | None,
    values: dict[str, Any],
    out: Path | None,
    grad: bool,
    accept: tuple[str, ...],
    sizes: dict[str, int],
    dtype: str,
    target: str,
) -> None:
    """Run a program on arrays.

    \b
    Example:  irc run examples/softcap_window.attn --inputs qkv.npz --set window=256 --set cap=30.0 --out o.npz --grad

    In the file for --out, outputs have their own names and gradients the name d_INPUT. bf16 is written in f32.
    """
    import numpy as np

    from irc.runtime.arrays import DTYPE

    source = read(spec)
    arrays = load_arrays(inputs) | values
    with failures(), nullcontext() if out is None else replacing(out) as file:
        program = compiled(source, sizes, dtype, target, accept)
        names = [n.name for n in program.graph.inputs]
        outputs = [name for name, _ in program.graph.outputs]
        cotangents = {n: arrays.pop(f"d_{n}") for n in outputs if f"d_{n}" in arrays and f"d_{n}" not in names}
        floating = DTYPE[program.precision.storage]
        done = program.forward(**arguments(program.graph, arrays, floating))
        results = {name: np.asarray(value) for name, value in done.outputs.items()}
        if grad:
            cotangents = arguments(program.graph, cotangents, floating)
            cotangents = cotangents or {outputs[0]: np.ones_like(results[outputs[0]])}
            results |= {f"d_{name}": np.asarray(value) for name, value in done.backward(**cotangents).items()}
        if file is not None:  # open, since of a name numpy makes another
            np.savez(file, allow_pickle=False, **{name: _written(value) for name, value in results.items()})
    for name, value in results.items():
        mean = float(np.mean(value, dtype=np.float64)) if value.size else 0.0
        click.echo(f"{name}{list(value.shape)}  {value.dtype}  mean {mean:.6g}")


def _written(value: Any) -> Any:
    """As a file of numpy has it: bf16, which it has not, in f32, where nothing is lost."""
    import numpy as np

    from irc.runtime.arrays import DTYPE

    return value.astype(np.float32) if value.dtype == DTYPE["bf16"] else value
