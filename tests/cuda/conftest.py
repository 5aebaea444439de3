"""The device of these tests: the machine's, or else, or where IRC_TEST_DEVICE=emulated, the emulated driver."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.cuda import emulated


@pytest.fixture(scope="session")
def real() -> bool:
    """Whether tests run on the machine's own device."""
    return Path("/dev/nvidiactl").exists() and os.environ.get("IRC_TEST_DEVICE") != "emulated"


@pytest.fixture
def device(real: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs with target="cuda" run."""
    if not real:
        emulated.load()
        monkeypatch.setenv("IRC_NVCC", str(emulated.NVCC))
        monkeypatch.setenv("EMULATED_PYTHON", sys.executable)


@pytest.fixture
def emulator(real: bool, device: None) -> None:
    """The device is the emulated one."""
    if real:
        pytest.skip("needs a device that does as it is told")
