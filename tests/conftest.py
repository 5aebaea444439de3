"""Options and fixtures of the whole suite."""

from __future__ import annotations

import os

import pytest

os.environ["COLUMNS"] = "120"  # what is written is folded at the width of the terminal


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-programs",
        action="store_true",
        help="rewrite the diagnostics expected at the end of tests/programs/*.attn; read the difference",
    )
