"""Options and fixtures of the whole suite."""

from __future__ import annotations

import os

import pytest

os.environ["COLUMNS"] = "120"  # what is written is folded at the width of the terminal
if "PYTEST_XDIST_WORKER" in os.environ:  # workers keep all processors busy, and two compilers do more work than one
    os.environ.setdefault("IRC_COMPILERS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-programs",
        action="store_true",
        help="rewrite the diagnostics expected at the end of tests/programs/*.attn; read the difference",
    )
