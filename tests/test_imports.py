"""Who may import whom: the four folders are four layers, and this is what keeps them so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {  # a folder, and the parts of irc.* that it may import besides itself
    "irc": {"grammar", "codegen", "runtime", "compiler"},
    "runtime": {"codegen"},
    "grammar": set[str](),
    "codegen": set[str](),
}


def modules(folder: str) -> list[Path]:
    """The folder's Python files; the links inside irc/ lead to the other folders and are not followed."""
    linked = {path.resolve() for path in (ROOT / "irc").iterdir() if path.is_symlink()}
    files = sorted((ROOT / folder).rglob("*.py"))
    if folder != "irc":
        return files
    return [f for f in files if not any(f.resolve().is_relative_to(link) for link in linked)]


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported, at any depth of the file."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module, names, level):
                assert level == 0, f"line {node.lineno}: imports are written in full, `from irc.… import …`"
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in names)


def part(name: str) -> str | None:
    """Which of the four a name belongs to, None for what is not ours: `irc.codegen.expr` is of codegen."""
    if name in ("grammar", "codegen", "runtime") or name.startswith(("grammar.", "codegen.", "runtime.")):
        return "top-level"
    if name != "irc" and not name.startswith("irc."):
        return None
    second = name.split(".")[1] if "." in name else "compiler"
    return second if second in ("grammar", "codegen", "runtime") else "compiler"


def violations(folder: str, text: str) -> list[str]:
    own = "compiler" if folder == "irc" else folder
    return [
        f"line {line}: {folder} imports {name}"
        for line, name in imported(ast.parse(text))
        if (target := part(name)) is not None and target != own and target not in ALLOWED[folder]
    ]


@pytest.mark.parametrize("folder", list(ALLOWED))
def test_imports_point_one_way(folder: str) -> None:
    files = modules(folder)
    assert files, f"{folder} has no module"
    found = {str(f.relative_to(ROOT)): violations(folder, f.read_text()) for f in files}
    assert not {name: lines for name, lines in found.items() if lines}


@pytest.mark.parametrize(
    ("folder", "text"),
    [
        ("grammar", "from irc.graph.ir import Graph"),
        ("grammar", "from irc.codegen.expr import Expr"),
        ("codegen", "import irc.runtime.plan"),
        ("codegen", "def f():\n    from irc.elaborate.build import build"),
        ("runtime", "from irc import grammar"),
        ("runtime", "import irc"),
        ("irc", "from codegen.expr import Expr"),
    ],
)
def test_a_wrong_import_is_seen(folder: str, text: str) -> None:
    assert violations(folder, text)


def test_the_links_in_irc_lead_to_the_folders() -> None:
    for name in ("grammar", "codegen", "runtime"):
        assert (ROOT / "irc" / name).is_symlink()
        assert (ROOT / "irc" / name).resolve() == (ROOT / name).resolve()
