"""The benchmark suite with PyTorch, on a tiny shape: its ways to compute a case agree with irc's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.store import Store

ROOT = Path(__file__).parents[2]
PEERS = "sdpa,sdpa mask,eager"
VARIANTS = ("causal", "alibi", "softcap")


def test_pytorch_computes_what_irc_does(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--shape", "2,2,24,8", "--threads", "1", "--dtype", "f32"]
    chosen = [word for name in VARIANTS for word in ("--only", f"{name} forward+backward")]
    options = ["--rounds", "1", "--peers", PEERS, "--everywhere", "--output", str(tmp_path)]
    subprocess.run([*command, *chosen, *options], check=True, cwd=ROOT, capture_output=True)
    results = {r.case.variant: r.timings for r in Store.read(tmp_path / "results.json").results}
    timed = {name: {v for v in VARIANTS if results[v][name].seconds} for name in PEERS.split(",")}
    assert timed == {"sdpa": {"causal"}, "sdpa mask": {"causal", "alibi"}, "eager": set(VARIANTS)}
    assert results["softcap"]["sdpa mask"].reason == "not possible: a map of the score is neither a mask nor a bias"
