"""Programs with what the compiler says of them: a wrong one ends in its diagnostics, on lines that start with `#! `."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import irc.elaborate
from irc.grammar.source import Source
from irc.show.check import check

FOLDER = Path(__file__).parent / "programs"
MARK = "#! "


def said(path: Path, text: str) -> str:
    """Every diagnostic of a program, rendered."""
    return "\n".join(d.render() for checked in check([Source(path.name, text)]) for d in checked.findings)


def parted(text: str) -> tuple[str, str]:
    """The program, and the diagnostics expected of it."""
    lines = text.splitlines()
    program = [line for line in lines if not line.startswith(MARK.strip())]
    expected = [line.removeprefix(MARK.strip()).removeprefix(" ") for line in lines if line not in program]
    return "\n".join(program).rstrip() + "\n", "\n".join(expected)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.attn")), ids=lambda p: p.stem)
def test_diagnostics_are_those_written_in_the_program(path: Path, pytestconfig: pytest.Config) -> None:
    program, expected = parted(path.read_text(encoding="utf-8"))
    found = said(path, program)
    if pytestconfig.getoption("--update-programs"):
        marked = "".join(f"{MARK}{line}".rstrip() + "\n" for line in found.splitlines())
        path.write_text(f"{program}\n{marked}", encoding="utf-8")
    else:
        assert [line.rstrip() for line in found.splitlines()] == expected.splitlines()
    assert found, "a program in this folder is wrong or warned of; an accepted one belongs in accepted/"


@pytest.mark.parametrize("path", sorted((FOLDER / "accepted").glob("*.attn")), ids=lambda p: p.stem)
def test_accepted_programs_are_checked_without_a_word(path: Path) -> None:
    assert said(path, path.read_text(encoding="utf-8")) == ""


def test_every_diagnostic_has_a_program() -> None:
    package = Path(irc.elaborate.__file__).parents[1]
    sources = [*package.glob("elaborate/*.py"), *package.glob("proof/*.py")]
    codes = {code for path in sources for code in re.findall(r'"([EW]\d{3})"', path.read_text(encoding="utf-8"))}
    shown = {code for path in FOLDER.glob("*.attn") for code in re.findall(r"\[([EW]\d{3})\]", path.read_text("utf-8"))}
    assert codes - shown == set()
