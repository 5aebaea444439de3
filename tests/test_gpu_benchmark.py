"""The benchmark on a device, as far as it is none of the device's: programs, counts of work, tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import irc
from benchmarks import gpu
from benchmarks.gpu import DOCUMENTS, VARIANTS, WINDOW, Case, Result
from irc.runtime.cuda import device

ROOT = Path(__file__).parent.parent


def allowed(variant: str, length: int) -> np.ndarray:
    i, j = np.indices((length, length))
    document = length // DOCUMENTS
    return {
        "full": np.ones((length, length), bool),
        "learnable bias": np.ones((length, length), bool),
        "decode": np.ones((1, length), bool),
        "window": (j <= i) & (j > i - WINDOW),
        "documents": (i // document == j // document) & (j <= i),
    }.get(variant, j <= i)


@pytest.mark.parametrize("variant", VARIANTS)
def test_pairs_are_those_that_the_mask_allows(variant: str) -> None:
    for length in (512, 2048):
        assert Case(variant, 64, length).pairs == allowed(variant, length).sum()


@pytest.mark.parametrize("variant", VARIANTS)
def test_programs_compile_and_have_gradients(variant: str) -> None:
    length, rng = 16, np.random.default_rng(0)
    case = Case(variant, 64, length)
    program = irc.compile(case.text, target="reference")
    given = {n: rng.standard_normal((1, 2, case.queries if n == "q" else length, 4)) for n in "qkv"}
    if variant == "documents":
        given["doc"] = np.arange(length, dtype=np.int32)[None] // (length // DOCUMENTS)
    if variant == "alibi":
        given["slope"] = np.array([0.5, 0.25])
    if variant == "learnable bias":
        given["T"] = rng.standard_normal((2, 2 * length - 1))
    run = program.forward(**given)
    assert run.backward(o=run.outputs["o"])["q"].shape == given["q"].shape


def test_every_case_does_the_same_work_a_token() -> None:
    found = gpu.cases()
    assert len(found) == len(VARIANTS) * len(gpu.WIDTHS) * len(gpu.LENGTHS)
    assert {(c.shape[0] * c.shape[2], c.shape[1] * c.shape[3]) for c in found} == {(gpu.TOKENS, gpu.FEATURES)}


def test_a_few_cases_can_be_chosen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    made: list[tuple[object, ...]] = []
    monkeypatch.setattr(gpu, "cases", lambda *given: made.append(given) or [])
    chosen = ["--width", "128", "--length", "8192,16384", "--variant", "full,soft cap"]
    monkeypatch.setattr(device, "find", refused)
    assert [gpu.main(chosen), gpu.main(["--quick"]), gpu.main([])] == [gpu.MISSING] * 3
    everything = tuple(VARIANTS)
    assert made[0] == ((128,), (8192, 16384), ("full", "soft cap"))
    assert made[1:] == [((64,), (2048, 8192), everything), (gpu.WIDTHS, gpu.LENGTHS, everything)]
    for wrong in (["--width", "100"], ["--length", "x"], ["--variant", "causal,half"]):
        with pytest.raises(SystemExit):
            gpu.main(wrong)
    assert "there is no half" in capsys.readouterr().err


def refused(*_: object) -> None:
    raise irc.DeviceError("none")


def test_the_table_says_what_was_measured() -> None:
    case = Case("causal", 64, 2048)
    work = case.work("forward")
    assert work == 4 * 8 * 32 * 64 * 2048 * 2049 // 2
    result = Result(case, "forward", {"flash": work / 1e9 / 200, "irc": work / 1e9 / 300}, {"cuDNN": "refused"})
    assert (
        gpu.table([result], "forward", 64, 600.0).splitlines()[-1] == "| causal | 2048 | 300.0 | 200.0 | 1.50 | 50% |"
    )
    header = {"device": "a device", "date": "today", "versions": "versions", "peak": 600.0}
    text = gpu.report([result], header)
    assert "- cuDNN: causal: refused" in text and "## forward, D = 64" in text
    assert json.dumps(header)


def test_pictures_are_drawn(tmp_path: Path) -> None:
    results = [Result(Case("causal", 64, n), which, {"irc": 1.0}, {}) for n in (512, 1024) for which in gpu.PASSES]
    gpu.pictures(results, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["backward_64.png", "forward_64.png"]


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a device")
@pytest.mark.parametrize("command", (["-m", "benchmarks.gpu"], ["tests/cuda/real.py"]))
def test_without_a_device_it_says_so_and_exits_3(command: list[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert "device" in done.stderr
