"""Makes docs/bugzoo.md from examples/bugzoo: `python docs/bugzoo.py`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from difflib import ndiff
from pathlib import Path

from irc.grammar.source import Source
from irc.show.check import Checked, check, table

ROOT = Path(__file__).parent.parent
PROGRAMS = Path("examples/bugzoo")
HEAD = """# A zoo of attention bugs

Each of these was written by somebody, trained or served with, and found late or by accident. Each is a program that
irc refuses, with the reason, beside its twin that it accepts. The texts and the verdicts below are what
`irc check --strict examples/bugzoo` works with and says; this page is made by `make gallery`.
"""


def page() -> str:
    """The page's text. To be called in the root of the checkout, from where the diagnostics name the files."""
    files = sorted(PROGRAMS.glob("*.attn"))
    found = check([Source(str(file), file.read_text(encoding="utf-8")) for file in files], strict=True)
    summary = f"## All of them\n\n```\n$ irc check --strict examples/bugzoo\n{table(PROGRAMS, found)}\n```\n"
    return "\n".join([HEAD, *_entries(found), summary])


def _entries(found: tuple[Checked, ...]) -> Iterator[str]:
    by_name = {Path(c.source.name).stem: c for c in found}
    for name, wrong in by_name.items():
        if not name.endswith("_fixed"):
            yield _entry(name, wrong, by_name[f"{name}_fixed"])


def _entry(name: str, wrong: Checked, right: Checked) -> str:
    story, program = _parts(wrong.source.text)
    remedy, repaired = _parts(right.source.text)
    said = "\n\n".join(d.render() for d in wrong.findings)
    changes = [line for line in ndiff(program, repaired) if line[:2] in ("- ", "+ ") and "attention" not in line]
    title = name.replace("_", " ").capitalize()
    listing, change = "\n".join(program), "\n".join(changes)
    return (
        f"## {title}\n\n{_linked(story)}\n\n```\n{listing}\n```\n\nirc says:\n\n```\n{said}\n```\n\n"
        f"The twin: {remedy}\n\n```diff\n{change}\n```\n"
    )


def _parts(text: str) -> tuple[str, list[str]]:
    """The comment above a program, and the program's lines."""
    lines = text.rstrip().splitlines()
    about = [line.removeprefix("#").strip() for line in lines if line.startswith("#")]
    return "\n".join(about), [line for line in lines if not line.startswith("#")]


def _linked(story: str) -> str:
    return re.sub(r"(https://\S+)", r"<\1>", story)


if __name__ == "__main__":
    os.chdir(ROOT)
    os.environ["COLUMNS"] = "110"  # of the table
    Path("docs/bugzoo.md").write_text(page(), encoding="utf-8")
    print("docs/bugzoo.md")
