"""Pages that a command makes say what the command would say now."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from irc.grammar.source import Source
from irc.show.check import check
from irc.show.draw import draw
from tests.test_imports import modules

ROOT = Path(__file__).parent.parent
PAGES = ("examples", "masks", "variants")
GALLERY = runpy.run_path(str(ROOT / "docs" / "gallery.py"))
ZOO = sorted((ROOT / "examples" / "bugzoo").glob("*.attn"))


@pytest.mark.parametrize(
    ("maker", "text", "page"),
    [("bugzoo", "page", "bugzoo"), *(("gallery", name, name) for name in PAGES)],
)
def test_page_is_current(maker: str, text: str, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "110")
    made = runpy.run_path(str(ROOT / "docs" / f"{maker}.py"))[text]()
    assert (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") == made, "run `make gallery`"


@pytest.mark.parametrize("path", ZOO, ids=lambda p: p.stem)
def test_a_bug_is_refused_and_its_twin_is_not(path: Path) -> None:
    (found,) = check([Source(str(path), path.read_text(encoding="utf-8"))], strict=True)
    assert found.ok == path.stem.endswith("_fixed")
    assert path.with_name(f"{path.stem.removesuffix('_fixed')}_fixed.attn").exists()


@pytest.mark.parametrize("page", PAGES)
def test_every_program_of_a_page_has_a_picture_and_cites_a_paper(page: str) -> None:
    programs = GALLERY["programs"](page)
    assert set(GALLERY["chosen"](page)) == set(programs)
    assert {p.stem for p in (ROOT / "docs" / page).glob("*.png")} == set(programs)
    for path in programs.values():
        about = "".join(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
        assert re.search(r"\b(19|20)\d\d\b|arXiv", about), path.name


@pytest.mark.parametrize("page", PAGES)
def test_pictures_are_computed_from_what_stands_beside_the_programs(page: str) -> None:
    for name, path in GALLERY["programs"](page).items():
        shown = GALLERY["pictured"](path, GALLERY["chosen"](page)[name])
        assert shown, name
        for picture in shown:
            assert picture.numbers is None or np.isfinite(picture.numbers.values[picture.allowed]).all(), name


def test_a_picture_is_drawn_to_the_same_bytes(tmp_path: Path) -> None:
    path = GALLERY["programs"]("variants")["softcap_learned"]
    for name in ("one", "two"):
        draw(GALLERY["pictured"](path, GALLERY["chosen"]("variants")["softcap_learned"]), tmp_path / f"{name}.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert (tmp_path / "one.png").stat().st_size < 2**14


def test_architecture_names_every_module_and_no_other() -> None:
    files = [p for folder in ("irc", "grammar", "codegen", "runtime") for p in modules(folder)]
    named = set(re.findall(r"\b(\w+\.py)\b", (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")))
    found = {p.name for p in files if not p.stem.startswith("__")}
    assert found - named == set()
    assert named - found <= {p.name for p in (ROOT / "tests").rglob("*.py")}
