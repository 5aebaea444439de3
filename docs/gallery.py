"""Makes docs/masks.md and docs/variants.md, with pictures, from examples: `python docs/gallery.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from irc.grammar.source import Source
from irc.pipeline import front
from irc.plot import draw, pictures, sizes_for

DOCS = Path(__file__).parent
EXAMPLES = DOCS.parent / "examples"
MASKS = """# The gallery of masks

One program a mask. A blue square is a pair that exists: a row is a query, a column a key. Each program is in
`examples/masks/`, is compiled, and is compared forward and backward with dense attention by `tests/test_masks.py`.
What stands under `ensure` is proved for all sizes: `irc check examples/masks` shows it.

This page is made by `make gallery`; sizes and tables of the pictures are in `examples/masks/pictures.json`.
"""
VARIANTS = """# The gallery of variants

One program a variant, in `examples/variants/`. `tests/test_variants.py` compares each with a dense formula of its own,
its gradients with central differences of that formula in float64, and the fused kernels with the interpreter, in f32
and, of some, in bf16. What stands under `ensure` is proved for all sizes.

Where a bias or a mask is to be seen, a picture shows it: a row is a query, a column a key. The masks have
[a page of their own](masks.md), and [another](attn_gym.md) says where each function of the package attn-gym is found.
What is not expressible: a weight that depends on the weights of other keys of its row, as in stick-breaking attention,
and running sums made in the core. The nearest is a running sum made outside and read as an input, as `forgetting` does.

This page is made by `make gallery`; sizes and tables of the pictures are in `examples/variants/pictures.json`.
"""


def masks() -> str:
    """The text of docs/masks.md."""
    return page(MASKS, EXAMPLES / "masks")


def variants() -> str:
    """The text of docs/variants.md."""
    return page(VARIANTS, EXAMPLES / "variants")


def page(head: str, programs: Path) -> str:
    return "\n".join([head, *(entry(path) for path in sorted(programs.glob("*.attn")))])


def chosen(programs: Path) -> dict[str, Any]:
    """What the pictures show: sizes and values by program."""
    found: dict[str, Any] = json.loads((programs / "pictures.json").read_text(encoding="utf-8"))
    return found


def entry(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    about = "\n".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))
    program = text[text.index("\nattention ") + 1 :].rstrip()
    title = path.stem.replace("_", " ").capitalize()
    picture = f'<img src="{path.parent.name}/{path.stem}.png" width="360" alt="the pairs of {title.lower()}">\n\n'
    shown = picture if path.stem in chosen(path.parent) else ""
    return f"## {title}\n\n{about}\n\n{shown}```\n{program}\n```\n"


def draw_all(programs: Path) -> None:
    """docs/FOLDER/NAME.png for every program that has a picture."""
    (DOCS / programs.name).mkdir(exist_ok=True)
    for name, at in chosen(programs).items():
        path = programs / f"{name}.attn"
        graph = front(Source(str(path), path.read_text(encoding="utf-8")))
        values = at.get("set", {})
        sizes = sizes_for(graph, at["size"], values)
        draw(tuple(pictures(graph, sizes, values, {})), DOCS / programs.name / f"{name}.png")


if __name__ == "__main__":
    for name, text in (("masks", masks()), ("variants", variants())):
        draw_all(EXAMPLES / name)
        (DOCS / f"{name}.md").write_text(text, encoding="utf-8")
        print(f"docs/{name}.md")
