"""`irc plot`: what a core does with its pairs, drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from irc.cli.common import MISSING, arguments, check_names, fail, failures, graphs, load_arrays, read, writing
from irc.cli.options import Written, assignments, set_option, sizes_option, spec_argument

if TYPE_CHECKING:
    from irc.show.plot import Shown


@click.command()
@spec_argument
@sizes_option
@set_option
@click.option(
    "--inputs", type=click.Path(exists=True, dir_okay=False), help="An .npz file with tensors the mask reads."
)
@click.option("--at", multiple=True, metavar="h=2", callback=assignments("INDEX=NUMBER", int), help="Which head.")
@click.option("--each", metavar="h", help="A picture for each value of an index beside query and key.")
@click.option(
    "--show",
    "shown",
    type=click.Choice(["pairs", "scores", "weights", "map"]),
    default="pairs",
    show_default=True,
    help="What is drawn of each pair.",
)
@click.option(
    "--fill", "formulas", multiple=True, metavar="FORMULA", help="A tensor by a formula: 'k[b,h,s,c] = sin(s + c)'."
)
@click.option("--tiles", is_flag=True, help="Which tiles kernels skip, mask, and take whole.")
@click.option(
    "--tile",
    nargs=2,
    type=click.IntRange(1),
    default=(8, 8),
    show_default=True,
    metavar="ROWS COLUMNS",
    help="The shape of a tile drawn.",
)
@click.option("-o", "path", type=Written(path_type=Path, dir_okay=False), help="An image; without it, characters.")
def plot(
    spec: str,
    sizes: dict[str, int],
    values: dict[str, Any],
    inputs: str | None,
    at: dict[str, int],
    each: str | None,
    shown: Shown,
    formulas: tuple[str, ...],
    tiles: bool,
    tile: tuple[int, int],
    path: Path | None,
) -> None:
    """Draw what each core does with its (query, key) pairs, for chosen sizes.

    \b
    pairs    which are allowed and blocked, and the bias where there is one
    scores   the scores as the normaliser takes them
    weights  what the values are multiplied by, and what a row sums to
    map      the curve from the score as first written to the logit of a softmax, or to the weight

    All but the first are computed by the interpreter from the program's inputs: those of --set and --inputs; those of
    --fill, formulas of indices and sizes; and for other floating tensors cosines and sines of the position, so that a
    score falls with distance. With --tiles, what kernels make of the mask.

    \b
    Examples:  irc plot examples/softcap_window.attn --size Sq=16,Sk=24 --set window=6
               irc plot examples/documents.attn --set 'doc=[[0,0,0,1,1,2,2,2]]' -o mask.png
               irc plot examples/differential.attn --show weights --set 'weight=[0.5]' -o two.png
               irc plot examples/variants/relu.attn --show map -o relu.png
               irc plot examples/variants/retention.attn --show weights --fill 'gamma[h] = 1 - 2 ^ (-2 - h)'
                    --size H=3 --each h -o decay.png
               irc plot examples/causal.attn --size S=64 --tiles -o tiles.png
    """
    from irc.show import draw as drawing
    from irc.show import plot as plotting
    from irc.show.fill import complete

    source = read(spec)
    given = load_arrays(inputs) | values
    with failures():
        programs = graphs(source)
        check_names(given, programs)
        for graph in programs:
            arrays = arguments(graph, given, float)
            known = plotting.sizes_for(graph, sizes, arrays, shown)
            filled = complete(graph, known, arrays, formulas, whole=shown != "pairs")
            for assumption in plotting.broken(graph, known, filled):
                click.echo(f"warning: {assumption}: no call takes this", err=True)
            drawn = tuple(plotting.pictures(graph, known, filled, at, shown, tile if tiles else None, each))
            if path is None:
                click.echo("\n\n".join(drawing.text(picture) for picture in drawn))
                continue
            try:
                with writing(path):
                    drawing.draw(drawn, path)
            except ImportError:
                fail("error: pictures need matplotlib: pip install 'attention-irc[plot]'", MISSING)
            click.echo(path)
