"""What every compilation needs alike is made once and kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import jinja2
import lark
import pytest

from irc import prepared
from irc.codegen import render
from irc.grammar import parser
from irc.grammar.source import Source

SOURCE = Source("test", "attention a {\n  size B\n  input x[B]\n  merge { y[b] = x[b] }\n  return y\n}\n")


def made_again(*given: object, **named: object) -> NoReturn:
    raise AssertionError("made again")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty one, and nothing kept in this process."""
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path))
    parser._tables.cache_clear()
    render.environment.cache_clear()
    yield tmp_path
    parser._tables.cache_clear()
    render.environment.cache_clear()
    prepared.keep_templates()


def test_the_parsers_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = prepared.parse(SOURCE)
    assert programs == parser.parse(SOURCE)
    parser._tables.cache_clear()
    monkeypatch.setattr(lark.Lark, "__init__", made_again)
    assert prepared.parse(SOURCE) == programs


def test_tables_that_were_altered_are_made_again(cache: Path) -> None:
    programs = prepared.parse(SOURCE)
    (kept,) = cache.rglob(prepared.TABLES)
    kept.write_bytes(b"")
    parser._tables.cache_clear()
    assert prepared.parse(SOURCE) == programs
    assert kept.stat().st_size > 0


def test_the_code_of_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared.keep_templates()
    source = render.render((), "nothing", "# nothing")
    render.environment.cache_clear()
    prepared.keep_templates()
    monkeypatch.setattr(jinja2.Environment, "compile", made_again)
    assert render.render((), "nothing", "# nothing") == source
    render.environment.cache_clear()
    with pytest.raises(AssertionError, match="made again"):
        render.render((), "nothing", "# nothing")
