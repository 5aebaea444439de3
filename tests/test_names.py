"""The compiler knows no attention variant: none is named in its code. (Comments may cite papers.)"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VARIANTS = frozenset(
    re.findall(
        r"\w+",
        """alibi alphafold axial bert bigbird cosformer deberta differential dropkey evoformer fire flex forgetting
        gemma gpt gqa graphormer kerple linformer llama longformer mla mqa natten paged pagedattention perceiver
        performer reformer retention retnet rope rotary sandwich shaw softcap stickbreaking streaming swin t5 talking
        triangle vsa xl""",
    )
)
FILES = sorted(
    path
    for folder in ("irc", "codegen", "runtime", "grammar")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".j2", ".h", ".cpp", ".cuh", ".lark") and "__pycache__" not in path.parts
)


def words(text: str) -> set[str]:
    """The words that names are put together from: `rotaryEmbedding_of_T5` has rotary, embedding, of, t5."""
    parts = re.findall(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*", text)
    return {part.lower() for part in parts}


def names(path: Path, text: str) -> Iterator[str]:
    """Identifiers, and strings that are one word: what code can decide by. Texts and comments are for reading."""
    if path.suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NAME:
                yield token.string
            elif token.type == tokenize.STRING and re.fullmatch(r"\w+", inner := token.string.strip("\"'")):
                yield inner
        return
    code = re.sub(r"//[^\n]*|/\*.*?\*/|\{#.*?#\}", "", text, flags=re.DOTALL)
    yield from re.findall(r"[A-Za-z_]\w*", code)


def named(path: Path, text: str) -> set[str]:
    return {word for name in names(path, text) for word in words(name)} & VARIANTS


def test_no_file_of_the_compiler_names_a_variant() -> None:
    assert len(FILES) > 100
    found = {str(p.relative_to(ROOT)): named(p, p.read_text(encoding="utf-8")) for p in FILES}
    assert {path: which for path, which in found.items() if which} == {}


@pytest.mark.parametrize(
    ("file", "text", "variant"),
    [
        ("a.py", "def fuse_rotary(x): pass", "rotary"),
        ("a.py", "if name == 'alibi': pass", "alibi"),
        ("a.py", "class SwinWindows: pass", "swin"),
        ("a.py", "T5 = 1", "t5"),
        ("a.h", "static float softcap(float x);", "softcap"),
        ("a.j2", "{% if kernel.mla %}", "mla"),
    ],
)
def test_a_name_is_found(file: str, text: str, variant: str) -> None:
    assert named(Path(file), text) == {variant}


def test_a_citation_is_no_name() -> None:
    assert named(Path("a.py"), '"""Divides as in retention."""\n# Sun et al. 2023, retention\nx = 1') == set()
    assert named(Path("a.h"), "int x; // the soft cap of Gemma\n") == set()
