"""Texts are in UTF-8 wherever they are read or written, not in the encoding of the user's language."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXTS = {"read_text", "write_text", "open", "fdopen"}


def _says_none(call: ast.Call) -> bool:
    """Whether the call reads or writes text and names no encoding: `open`, `path.read_text`, a command's output."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    given = {keyword.arg for keyword in call.keywords}
    modes = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    of_bytes = name in ("open", "fdopen") and any("b" in mode for mode in modes if set(mode) <= set("rwxab+"))
    of_files = not ast.unparse(call.func).startswith(("os.open", "Image."))
    texts = name in TEXTS and of_files and not of_bytes
    return (texts or bool({"text", "universal_newlines"} & given)) and "encoding" not in given


@pytest.mark.parametrize("folder", ["irc", "grammar", "codegen", "runtime"])
def test_texts_name_their_encoding(folder: str) -> None:
    files = [file for file in sorted((ROOT / folder).rglob("*.py")) if not any(p.is_symlink() for p in file.parents)]
    calls = [
        (f, n) for f in files for n in ast.walk(ast.parse(f.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)
    ]
    assert [f"{file}:{call.lineno}" for file, call in calls if _says_none(call)] == []
