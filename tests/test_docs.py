"""Pages that a command makes say what the command would say now."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from irc.check import check
from irc.grammar.source import Source

ROOT = Path(__file__).parent.parent
ZOO = sorted((ROOT / "examples" / "bugzoo").glob("*.attn"))


@pytest.mark.parametrize(
    ("maker", "text", "page"),
    [("bugzoo", "page", "bugzoo"), ("gallery", "masks", "masks"), ("gallery", "variants", "variants")],
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


def test_every_mask_has_a_picture() -> None:
    masks = ROOT / "examples" / "masks"
    names = {p.stem for p in masks.glob("*.attn")}
    assert set(json.loads((masks / "pictures.json").read_text(encoding="utf-8"))) == names
    assert {p.stem for p in (ROOT / "docs" / "masks").glob("*.png")} == names


def test_pictures_of_variants_are_of_programs() -> None:
    variants = ROOT / "examples" / "variants"
    shown = set(json.loads((variants / "pictures.json").read_text(encoding="utf-8")))
    assert shown <= {p.stem for p in variants.glob("*.attn")}
    assert {p.stem for p in (ROOT / "docs" / "variants").glob("*.png")} == shown
