"""Options and fixtures of the whole suite."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from irc.runtime import toolchain

os.environ["COLUMNS"] = "120"  # what is written is folded at the width of the terminal
if "PYTEST_XDIST_WORKER" in os.environ:  # workers keep all processors busy, and two compilers do more work than one
    os.environ.setdefault("IRC_COMPILERS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-programs",
        action="store_true",
        help="rewrite the diagnostics expected at the end of tests/programs/*.attn; read the difference",
    )


@pytest.fixture(autouse=True)
def _optimise(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests marked `optimise(level)` compile the kernels of CPUs so. With -O0, in a quarter of the time: those of what
    passes and masks make of programs, in each form, where numbers are compared to a tolerance. All that is of bits, and
    of the templates (kernels, their forms, few rows, examples and their variants), is compiled as users have it."""
    if marker := request.node.get_closest_marker("optimise"):
        honest = toolchain.find
        monkeypatch.setattr(toolchain, "find", lambda: replace(f := honest(), flags=(*f.flags, *marker.args)))
