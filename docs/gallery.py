"""Makes docs/masks.md and its pictures from examples/masks: `python docs/gallery.py`."""

from __future__ import annotations

import json
from pathlib import Path

from irc.grammar.source import Source
from irc.pipeline import front
from irc.plot import draw, pictures, sizes_for

DOCS = Path(__file__).parent
PROGRAMS = DOCS.parent / "examples" / "masks"
HEAD = """# The gallery of masks

One program a mask. A blue square is a pair that exists: a row is a query, a column a key. Each program is in
`examples/masks/`, is compiled, and is compared forward and backward with dense attention by `tests/test_masks.py`.
What stands under `ensure` is proved for all sizes: `irc check examples/masks` shows it.

This page is made by `make gallery`; sizes and tables of the pictures are in `examples/masks/pictures.json`.
"""


def page() -> str:
    """The page's text."""
    return "\n".join([HEAD, *(entry(path) for path in sorted(PROGRAMS.glob("*.attn")))])


def entry(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    about = "\n".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))
    program = text[text.index("attention ") :].rstrip()
    title = path.stem.replace("_", " ").capitalize()
    picture = f'<img src="masks/{path.stem}.png" width="360" alt="the pairs that {title.lower()} allows">'
    return f"## {title}\n\n{about}\n\n{picture}\n\n```\n{program}\n```\n"


def draw_masks() -> None:
    """docs/masks/NAME.png for every mask."""
    for name, chosen in json.loads((PROGRAMS / "pictures.json").read_text(encoding="utf-8")).items():
        path = PROGRAMS / f"{name}.attn"
        graph = front(Source(str(path), path.read_text(encoding="utf-8")))
        values = chosen.get("set", {})
        sizes = sizes_for(graph, chosen["size"], values)
        draw(tuple(pictures(graph, sizes, values, {})), DOCS / "masks" / f"{name}.png")


if __name__ == "__main__":
    draw_masks()
    (DOCS / "masks.md").write_text(page(), encoding="utf-8")
    print("docs/masks.md")
