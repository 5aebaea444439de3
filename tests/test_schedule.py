"""Sizes of tiles: that no choice changes what a kernel means, and that the model's is close to the best measured."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import irc
from irc.cli import main
from irc.codegen.kernel import TileKernel
from irc.codegen.schedule import SPILL, Caches, Footprint, Schedule, Tiles, best
from irc.compiler import PRECISIONS
from irc.grammar.source import Source
from irc.pipeline import back, rendered
from irc.runtime import machine
from irc.tuning import tuned
from irc.tuning.measure import all_sizes, random_arguments
from irc.tuning.tune import Step, tune
from tests.test_kernels import TOLERANCE, relative

SPEC = """
attention masked {
  size B, S, D
  input q[B,S,D], k[B,S,D], v[B,S,D]
  core o[b,i,d] {
    score q[b,i,c] * k[b,j,c]
    scale 1 / sqrt(D)
    allow j <= i and i - j < 70
    softmax j
    matmul v[b,j,d]
  }
  return o
}
"""
TABLE = """
attention relative {
  size B, S, D
  input q[B,S,D], k[B,S,D], v[B,S,D]
  param t[2 * S - 1]
  core o[b,i,d] {
    score q[b,i,c] * k[b,j,c]
    bias t[i + j]
    softmax j
    matmul v[b,j,d]
  }
  return o
}
"""  # one of whose kernels adds to elements
SIZES = {"B": 1, "S": 131, "D": 5}
EXTREMES = (Tiles(1, 16), Tiles(8, 512))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path))


def kernel_names(program: irc.Program) -> list[str]:
    made = back(program.graph, program.kernel_sizes(SIZES), program.precision, host=program.host)
    assert made.backward is not None
    return [kernel.name for kernel in (*made.forward.kernels, *made.backward.kernels)]


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("tiles", EXTREMES, ids=str)
@pytest.mark.parametrize("spec", [SPEC, TABLE], ids=["mask", "table"])
def test_any_choice_means_the_same(spec: str, tiles: Tiles, dtype: str) -> None:
    usual = irc.compile(spec, dtype=dtype)
    schedule = Schedule(machine.caches(), tuple((name, tiles) for name in kernel_names(usual)))
    program = usual.scheduled(schedule, {"D": SIZES["D"]})
    assert set(re.findall("COLUMNS = ([0-9]+), BLOCK", program.source)) == {str(tiles.columns)}, "of every kernel"
    assert set(re.findall("PANELS = ([0-9]+), ROWS", program.source)) == {str(tiles.panels)}
    arguments = random_arguments(program, SIZES, {})
    exact = irc.compile(spec, target="reference").forward(**{n: a.astype(np.float64) for n, a in arguments.items()})
    run = program.forward(**arguments)
    cotangent = np.ones_like(run.outputs["o"])
    assert relative(run.outputs["o"], exact.outputs["o"]) < TOLERANCE[dtype]
    wanted = exact.backward(o=cotangent.astype(np.float64))
    for name, gradient in run.backward(o=cotangent).items():
        assert relative(gradient, wanted[name]) < 3 * TOLERANCE[dtype], name


def steps(*candidates: Tiles, spec: str = SPEC) -> Iterator[Step]:
    program = irc.compile(spec)
    sizes = all_sizes(program, SIZES)
    return tune(program, sizes, random_arguments(program, sizes, {}), rounds=1, threads=1, candidates=candidates)


def test_a_measurement_that_was_stopped_goes_on(store: None) -> None:
    running = steps(*EXTREMES)
    first = next(running)
    assert (first.done, first.total) == (1, 2)
    running.close()
    again, last = steps(*EXTREMES)
    assert again.ratios == first.ratios, "measured once"
    assert set(last.best) == {*last.ratios}
    assert all(ratio == min(first.ratios[name], last.ratios[name]) for name, (_, ratio) in last.best.items())


def test_kernels_that_add_to_elements_are_measured_too(store: None) -> None:
    program = irc.compile(TABLE)
    built = program.built(all_sizes(program, SIZES))
    names = {name for name, kernel in built.kernels.items() if isinstance(kernel, TileKernel)}
    assert any(kernel.order == "elements" for kernel in built.kernels.values() if isinstance(kernel, TileKernel))
    (step,) = steps(EXTREMES[0], spec=TABLE)
    assert set(step.ratios) == set(step.best) == names


def test_what_is_stored_is_compiled(store: None) -> None:
    program = irc.compile(SPEC)
    name = kernel_names(program)[0]
    file = tuned.path(program.text, program.kernel_sizes(SIZES), program.precision)
    tuned.write(file, {"chosen": {name: [2, 32]}})
    assert program.schedule(SIZES) == Schedule(machine.caches(), ((name, Tiles(2, 32)),))
    assert program.schedule({**SIZES, "B": 7, "S": 12}) == program.schedule(SIZES)
    assert not program.schedule({**SIZES, "D": 6}).chosen, "of other features nothing is known"
    assert not irc.compile(SPEC, dtype="bf16").schedule(SIZES).chosen
    made = back(program.graph, {"D": 5}, program.precision)
    made = rendered(made, program.text, program.schedule(SIZES))
    assert made.source.count("PANELS = 2, ") == made.source.count("COLUMNS = 32, ") == 1


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"chosen": 3}', '{"chosen": {"k": [0, 96]}}', '{"chosen": {"k": [4, 7]}}']
)
def test_a_damaged_file_of_choices_chooses_nothing(text: str, store: None) -> None:
    source, precision = Source("<string>", SPEC), PRECISIONS["f32"]
    file = tuned.path(source, {}, precision)
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert tuned.schedule(source, {}, precision) == Schedule(machine.caches())


def test_the_command_asks_for_every_size_and_table(tmp_path: Path) -> None:
    spec = tmp_path / "spec.attn"
    spec.write_text(SPEC.replace("i - j < 70", "i - j < w").replace("core o", "scalar w: int\n  core o"))
    result = CliRunner().invoke(main, ["tune", str(spec), "--size", "B=1"])
    assert result.exit_code == 2 and "--size S=…,D=…" in result.stderr
    result = CliRunner().invoke(main, ["tune", str(spec), "--size", "B=1,S=9,D=4"])
    assert result.exit_code == 2 and "w: what masks read is not made up" in result.stderr
    result = CliRunner().invoke(main, ["tune", str(spec), "--size", "B=1,S=9,D=4,N=3"])
    assert result.exit_code == 2 and "no such size" in result.stderr


def test_a_command_that_is_stopped_says_what_it_kept(store: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*given: object) -> Iterator[Step]:
        yield Step(Tiles(4, 96), {"kernel": 0.8}, {"kernel": (Tiles(4, 96), 0.8)}, 1, 12)
        raise KeyboardInterrupt

    monkeypatch.setattr("irc.tuning.tune.tune", stopped)
    result = CliRunner().invoke(main, ["tune", "-", "--size", "B=1,S=9,D=4"], input=SPEC)
    assert result.exit_code == 130
    assert "the same command goes on from there" in result.stderr
    assert "kernel: 4 panels, 96 columns, 1.25x the model's speed" in result.stdout


def test_caches_are_read_as_linux_tells_them(tmp_path: Path) -> None:
    for index, (level, kind, size) in enumerate(
        [("1", "Data", "32K"), ("1", "Instruction", "64K"), ("2", "Unified", "2M")]
    ):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(f"{text}\n")
    processor = tmp_path / "cpuinfo"
    assert machine.read(tmp_path, processor) == Caches(32 << 10, 2 << 20)
    assert machine.read(tmp_path / "none", processor) == Caches()
    processor.write_text("processor\t: 0\nvendor_id\t: AuthenticAMD\n")
    assert machine.read(tmp_path / "none", processor) == Caches(spill=SPILL["AuthenticAMD"])


def test_tiles_shrink_with_the_caches() -> None:
    footprint = Footprint(kept=8, row=1536, column=768)
    large, small = best(footprint, Caches(64 << 10, 2 << 20)), best(footprint, Caches(32 << 10, 256 << 10))
    assert large.columns > small.columns and large.panels >= small.panels


@pytest.mark.parametrize(("first", "cache"), [(32 << 10, 2), (48 << 10, 1)])
def test_small_caches_are_not_filled_with_what_comes_next(first: int, cache: int) -> None:
    text = """attention t {
  size  I, J, D
  input q[I,D], k[J,D]
  core o[i,d] {
    score  q[i,c] * k[j,c]
    softmax j
    matmul k[j,d]
  }
  return o
}"""
    source = irc.compile(text, sizes={"D": 64}, schedule=Schedule(Caches(first))).source
    assert source.count(f"irc::Stream<T, float, 64, COLUMNS, {cache}> ") == 2


def test_tiles_that_templates_cannot_make_are_refused() -> None:
    for panels, columns in ((0, 96), (4, 0), (4, 40)):
        with pytest.raises(ValueError, match="tiles of"):
            Tiles(panels, columns)


RESULTS = Path(__file__).parents[1] / "benchmarks/results"
SWEEPS = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*-sweep.json"))}
SWEPT = [(name, case) for name, sweep in SWEEPS.items() for case in sweep["cases"]]


@pytest.mark.parametrize(("sweep", "case"), SWEPT, ids=[f"{name} {case['name']}" for name, case in SWEPT])
def test_the_models_choice_is_within_a_twentieth_of_the_best_of_a_sweep(sweep: str, case: dict[str, Any]) -> None:
    tiles = best(Footprint(**case["footprint"]), Caches(**SWEEPS[sweep]["caches"]))
    seconds = case["seconds"]
    assert seconds[f"{tiles.panels} x {tiles.columns}"] <= 1.05 * min(seconds.values())
