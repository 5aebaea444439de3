"""The benchmark suite measures what it says, on shapes so small that no time means anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import irc
from benchmarks import report
from benchmarks.cases import MAIN, Case, Problem, choose
from benchmarks.measure import FEW, interleaved
from benchmarks.store import Result, Store, Timing
from benchmarks.targets import target
from benchmarks.variants import VARIANTS, WINDOW, Shape

ROOT = Path(__file__).parent.parent
TINY = "1,2,24,8"


def problem(variant: str, shape: Shape) -> Problem:
    return Problem(Case(variant, "forward", "f32", shape, 1))


def allowed(given: Problem) -> np.ndarray:
    """[B,H,S,S]"""
    shape = given.case.shape
    at = np.ogrid[: shape.batch, : shape.heads, : shape.tokens, : shape.tokens]
    mask = True if given.variant.allowed is None else given.variant.allowed(at, given.tables)
    return np.broadcast_to(mask, (shape.batch, shape.heads, shape.tokens, shape.tokens))


@pytest.mark.parametrize("shape", [Shape(1, 1, 1, 4), Shape(2, 3, 37, 4), Shape(1, 2, WINDOW + 45, 4)], ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_pairs_are_those_of_the_mask(variant: str, shape: Shape) -> None:
    given = problem(variant, shape)
    assert given.variant.pairs(shape, given.tables) * shape.heads == np.count_nonzero(allowed(given))


@pytest.mark.parametrize("variant", VARIANTS)
def test_functions_that_peers_are_given_say_what_the_text_says(variant: str) -> None:
    given = problem(variant, Shape(2, 2, WINDOW + 14, 4))
    arrays = given.operands | given.tables
    exact = {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in arrays.items()}
    q, k, v = (exact[n] for n in "qkv")
    s = np.einsum("bhic,bhjc->bhij", q, k) * given.scale
    at = np.ogrid[tuple(slice(n) for n in s.shape)]
    if given.variant.score is not None:
        s = given.variant.score(s, at, exact, np)
    weights = np.exp(s) * allowed(given)
    expected = np.einsum("bhij,bhjd->bhid", weights / weights.sum(-1, keepdims=True), v)
    names = {"q", "k", "v"} | given.tables.keys()
    o = irc.compile(given.variant.spec(), target="reference")(**{n: exact[n] for n in names})
    np.testing.assert_allclose(o, expected, rtol=1e-10)


def test_every_candidate_is_in_the_first_rounds_and_slow_ones_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.measure.rest", lambda: None)
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)

    def takes(seconds: float) -> None:
        nonlocal now
        now += seconds

    candidates = {"a": lambda: takes(1.0), "b": lambda: takes(1.5), "slow": lambda: takes(30.0)}
    times = interleaved(candidates, rounds=9)
    assert len(times["slow"].seconds) == FEW
    assert len(times["a"].seconds) == len(times["b"].seconds) == 2 * FEW, "steady, so that more rounds add nothing"
    assert [times[name].median for name in candidates] == pytest.approx([1.0, 1.5, 30.0])
    assert len(interleaved(candidates, rounds=9, seconds=10)["a"].seconds) == FEW, "the time is up"


def test_selection_is_by_words_of_names() -> None:
    chosen = choose(only=["causal forward"], threads=[2])
    assert chosen and all(c.variant == "causal" and c.work == "forward" and c.threads == 2 for c in chosen)
    assert {c.work for c in choose(only=["decode"])} == {"decode"}
    assert {c.shape for c in choose(shapes=[Shape(1, 1, 5, 4)])} == {Shape(1, 1, 5, 4)}
    assert len(set(choose())) == len(choose())


def test_results_are_read_as_they_were_written_and_of_another_header_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    timing = Timing((1.0, 2.0), (1.5, 2.5), distances={"o": 1e-7}, peak=3.0, notes={"compile seconds": 1.0})
    result = Result(choose()[0], 1.0, "read", (1.0,), 1.0, {"irc": timing, "sdpa": Timing(reason="absent: torch")})
    store = Store.open(path, {"irc": "a", "date": "2026-11-25"})
    store.add(result)
    store.add(replace(result, work=2.0))
    assert Store.open(path, {"irc": "a", "date": "2026-11-26"}).results == [replace(result, work=2.0)]
    assert Store.open(path, {"irc": "b", "date": "2026-11-26"}).results == []


def test_the_issue_s_targets() -> None:
    assert target(Case("causal", "forward", "bf16", MAIN, 2)) == 2.4
    assert target(Case("documents", "forward+backward", "f32", MAIN, 2)) == 2.5
    assert target(Case("full", "decode", "f32", Shape(1, 32, 4096, 128), 2)) == 1.2
    assert target(Case("full", "forward", "f16", MAIN, 2)) is None


def run(output: Path, *arguments: str, hidden: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(hidden), str(ROOT)])
    command = [sys.executable, "-m", "benchmarks", "--shape", TINY, "--threads", "1", "--dtype", "f32", "--rounds", "3"]
    return subprocess.run(
        [*command, "--output", str(output), *arguments],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


def test_a_run_lists_what_is_absent_and_measures_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('torch is hidden')\n")
    chosen = ("--only", "causal forward", "--only", "causal backward", "--peers", "sdpa")
    first = run(tmp_path / "out", *chosen, hidden=tmp_path)
    assert first.returncode == 0, first.stderr
    text = (tmp_path / "out" / report.FILE).read_text(encoding="utf-8")
    assert re.search(r"\| sdpa \| absent: torch is hidden \| 2: causal; forward, backward; f32 \|", text)
    results = Store.read(tmp_path / "out" / "results.json").results
    assert [len(r.timings["irc"].seconds) for r in results] == [3, 3] and all(len(r.rates) == 3 for r in results)
    assert (tmp_path / "out" / "forward.png").exists() == (tmp_path / "out" / "backward.png").exists()

    written = (tmp_path / "out" / "results.json").read_bytes()
    again = run(tmp_path / "out", *chosen, hidden=tmp_path)
    assert again.returncode == 0 and "[1/2]" not in again.stderr
    assert (tmp_path / "out" / "results.json").read_bytes() == written


def test_a_wrong_selection_says_what_there_is(tmp_path: Path) -> None:
    unknown = run(tmp_path, "--peers", "sdpaa", hidden=tmp_path)
    assert unknown.returncode == 2 and "no peer 'sdpaa'; there are irc," in unknown.stderr
    nothing = run(tmp_path, "--only", "casual", hidden=tmp_path)
    assert nothing.returncode == 2 and "--list shows all" in nothing.stderr
