"""`irc show`: a program after one stage of the compiler."""

from __future__ import annotations

import click

from irc.cli.common import compiled, failures, graphs, read
from irc.cli.options import compile_options, sizes_option, spec_argument
from irc.grammar.source import Source

STAGES = ("syntax", "graph", "backward", "tiles", "source")


@click.command()
@spec_argument
@click.option("--stage", type=click.Choice(STAGES), default="graph", show_default=True)
@click.option("--dot", is_flag=True, help="The graph as a Graphviz picture (stages graph and backward).")
@sizes_option
@compile_options
def show(spec: str, stage: str, dot: bool, sizes: dict[str, int], dtype: str, target: str) -> None:
    """Print a program as it stands after one stage of the compiler.

    \b
    syntax    what was written          tiles    the fused kernels, as data
    graph     tensors, one by one       source   the generated C++, or CUDA
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
    from irc.graph import printer
    from irc.show.dump import dump

    match stage:
        case "syntax":
            from irc.prepared import parse

            return "\n\n".join(dump(attention) for attention in parse(source))
        case "graph" | "backward":
            from irc.passes.differentiate import differentiate

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
