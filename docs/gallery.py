"""Makes docs/examples.md, masks.md and variants.md, with pictures, from examples: `python docs/gallery.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from irc.grammar.source import Source
from irc.pipeline import front
from irc.show.draw import draw
from irc.show.fill import complete
from irc.show.plot import Picture, pictures, sizes_for

DOCS = Path(__file__).parent
FOLDER = DOCS.parent / "examples"
PICTURES = """\
A row of a picture is a query, a column a key; grey pairs do not exist. A blue square is a pair that exists; where there
is a bias, its colour is the score that the pair has when q·k is 0. Where mask and bias say little, *weights* are shown,
what the values are multiplied by; or *scores*, as the normaliser takes them; or the *map* from the score as it is first
written to the logit, or to the weight where there is no softmax, a point a pair. Those are computed in float64 from
small inputs: where none are said, queries and keys are cosines and sines of the position, whose product falls with
distance."""
MADE = "This page is made by `make gallery` with `irc plot`; what each picture shows is in"
EXAMPLES = f"""# The examples

The programs of `examples/`, each a whole one to start from. `tests/test_examples.py` compares the kernels of
each with the interpreter, forward and backward.

{PICTURES}

{MADE} `examples/pictures.json`.
"""
MASKS = f"""# The gallery of masks

One program a mask. A blue square is a pair that exists: a row is a query, a column a key. Each program is in
`examples/masks/`, is compiled, and is compared forward and backward with dense attention by `tests/test_masks.py`.
What stands under `ensure` is proved for all sizes: `irc check examples/masks` shows it.

{MADE} `examples/masks/pictures.json`.
"""
VARIANTS = f"""# The gallery of variants

One program a variant, in `examples/variants/`. `tests/test_variants.py` compares each with a dense formula of its own,
its gradients with central differences of that formula in float64, and the fused kernels with the interpreter, in f32
and, of some, in bf16. What stands under `ensure` is proved for all sizes. The masks have
[a page of their own](masks.md), and [another](attn_gym.md) says where each function of the package attn-gym is found;
what `sigmoid`, `relu`, `normalize` and `linear` mean [stands here](normalisers.md).

{PICTURES}

What is not expressible: a token's state that is computed from the state of the one before, as the delta rule's
(DeltaNet, PaTH), where that is no sum. A sum over the positions before,
`g[b,s] over s: S = sum(t: where(t <= s, x[b,t], 0))`, is made in one pass, and so is its gradient: of one number a
token, as `forgetting` has, or of pairs, which are a tensor then, as in stick-breaking attention. Nothing is sorted
inside a program either: a choice of keys is a table that is read, as in `topk_tiles`.

{MADE} `examples/variants/pictures.json`.
"""


def examples() -> str:
    """The text of docs/examples.md."""
    return page(EXAMPLES, "examples")


def masks() -> str:
    """The text of docs/masks.md."""
    return page(MASKS, "masks")


def variants() -> str:
    """The text of docs/variants.md."""
    return page(VARIANTS, "variants")


def programs(name: str) -> dict[str, Path]:
    """The programs of a page by their own names."""
    if name == "examples":
        whole = [FOLDER / f"{model}/{model}.attn" for model in ("charlm", "minilm")]
        return {path.stem: path for path in sorted([*FOLDER.glob("*.attn"), *whole], key=lambda p: p.stem)}
    return {path.stem: path for path in sorted((FOLDER / name).glob("*.attn"))}


def page(head: str, name: str) -> str:
    return "\n".join([head, *(entry(name, path) for path in programs(name).values())])


def chosen(name: str) -> dict[str, Any]:
    """What the pictures of a page show, by program: arguments of `irc plot`."""
    folder = FOLDER if name == "examples" else FOLDER / name
    found: dict[str, Any] = json.loads((folder / "pictures.json").read_text(encoding="utf-8"))
    return found


def entry(name: str, path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    about = "\n".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))
    program = text[text.index("\nattention ") + 1 :].rstrip()
    title = path.stem.replace("_", " ").capitalize()
    shown = chosen(name)[path.stem].get("show", "pairs")
    picture = f'<img src="{name}/{path.stem}.png" alt="{title}: {shown}">'
    return f"## {title}\n\n{about}\n\n{picture}\n\n```\n{program}\n```\n"


def pictured(path: Path, at: dict[str, Any]) -> tuple[Picture, ...]:
    """What is drawn of a program: `at` holds the arguments of `irc plot`."""
    graph = front(Source(str(path), path.read_text(encoding="utf-8")))
    shown, values = at.get("show", "pairs"), at.get("set", {})
    sizes = sizes_for(graph, at["size"], values, shown)
    filled = complete(graph, sizes, values, at.get("fill", ()), whole=shown != "pairs")
    return tuple(pictures(graph, sizes, filled, {}, shown, each=at.get("each")))


def draw_all(name: str) -> None:
    """docs/NAME/PROGRAM.png for every program of a page."""
    paths = programs(name)
    for program, at in chosen(name).items():
        draw(pictured(paths[program], at), DOCS / name / f"{program}.png")


if __name__ == "__main__":
    for name, text in (("examples", examples()), ("masks", masks()), ("variants", variants())):
        draw_all(name)
        (DOCS / f"{name}.md").write_text(text, encoding="utf-8")
        print(f"docs/{name}.md")
