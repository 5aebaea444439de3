"""The run of the gallery in the emulator: what agrees, what is found, and what is not run again."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import emulated


def run(monkeypatch: pytest.MonkeyPatch, output: Path) -> tuple[int, list[str]]:
    words = ["emulated", "causal", "--dtype", "f32", "--schedules", "2", "--size", "S=9", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as left:
        emulated.main()
    assert isinstance(left.value.code, int)
    return left.value.code, output.read_text(encoding="utf-8").splitlines()


def test_a_program_that_agrees_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, lines = run(monkeypatch, tmp_path / "emulated.txt")
    assert code == 0 and len(lines) == 3 and lines[2].endswith("  agrees"), lines
    assert run(monkeypatch, tmp_path / "emulated.txt") == (0, lines)


def test_a_barrier_that_is_missing_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = emulated.watched
    monkeypatch.setattr(emulated, "watched", lambda text, *more: watched(text.replace("__syncthreads();", ""), *more))
    code, lines = run(monkeypatch, tmp_path / "emulated.txt")
    assert code == 1 and "EmulatorError" in lines[2]


def test_results_that_differ_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = emulated.results

    def drawn(program, values):  # type: ignore[no-untyped-def]
        found = results(program, values)
        found.outputs["o"] = found.outputs["o"] + np.float32(np.random.default_rng().random())
        return found

    monkeypatch.setattr(emulated, "results", drawn)
    code, lines = run(monkeypatch, tmp_path / "emulated.txt")
    assert code == 1 and lines[2].endswith("  differs, bits depend on the schedule")
