"""What `make gpu` runs, with nothing of it run: real.py itself is for a machine with a device."""

from __future__ import annotations

import shutil
import subprocess
from types import SimpleNamespace

import pytest

import irc
from irc.runtime.cuda import device, nvcc
from tests.cuda import real as script


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    made: list[list[str]] = []

    def run(command: list[str]) -> SimpleNamespace:
        made.append(command)
        return SimpleNamespace(returncode="racecheck" in command)

    monkeypatch.setattr(device, "find", lambda: SimpleNamespace(name="a device", architecture="sm_90a"))
    monkeypatch.setattr(nvcc, "toolkits", lambda: iter(()))
    monkeypatch.setattr(subprocess, "run", run)
    return made


def test_all_tests_then_a_few_under_each_tool(commands: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path=None: f"/somewhere/{name}")
    assert script.main() == 1  # as the last of them ended
    whole, *watched = commands
    assert whole[-1] == str(script.HERE)
    assert [command[:3] for command in watched] == [
        ["/somewhere/compute-sanitizer", "--tool", tool] for tool in ("memcheck", "racecheck")
    ]
    assert all("--error-exitcode" in command and command[-2] == "-k" for command in watched)


def test_without_the_sanitizer(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    assert script.main() == 0 and len(commands) == 1
    assert "compute-sanitizer was not found: nothing ran under it" in capsys.readouterr().err


def test_without_a_device(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def none() -> None:
        raise irc.DeviceError("no CUDA device")

    monkeypatch.setattr(device, "find", none)
    assert script.main() == script.MISSING == 3
    assert "no tests on a device: no CUDA device" in capsys.readouterr().err
