"""The command: what it prints, where, and how it exits."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from irc.cli import main
from irc.runtime import toolchain

EXAMPLES = Path(__file__).parents[1] / "examples"
CAUSAL = str(EXAMPLES / "causal.attn")
WINDOW = str(EXAMPLES / "softcap_window.attn")
PROGRAMS = sorted(p for p in EXAMPLES.rglob("*.attn") if p.parent.name != "bugzoo" or p.stem.endswith("_fixed"))


def irc(*arguments: str, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(main, list(arguments), input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def arrays(tmp_path: Path) -> tuple[str, dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    values = {name: random.standard_normal((1, 2, 7, 8)).astype(np.float32) for name in "qkv"}
    np.savez(tmp_path / "in.npz", **values)
    return str(tmp_path / "in.npz"), values


@pytest.mark.parametrize("spec", PROGRAMS, ids=lambda path: path.stem)
def test_every_example_is_proved(spec: Path) -> None:
    result = irc("check", str(spec), "--json")
    assert result.exit_code == 0, result.stdout + result.stderr
    (program,) = json.loads(result.stdout)["programs"]
    assert {p["status"] for p in program["properties"]} <= {"proved"}
    assert spec.read_text().startswith("# "), "an example begins with its paragraph"


def test_a_wrong_program_exits_1_with_place_and_caret_on_stderr(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.attn"
    wrong.write_text(Path(CAUSAL).read_text().replace("q[b,h,i,c]", "queries[b,h,i,c]"))
    result = irc("check", str(wrong))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert f"{wrong}:" in result.stderr
    assert "error[E" in result.stderr and "^" in result.stderr


def test_a_wrong_program_as_json_names_line_and_column() -> None:
    result = irc("check", "-", "--json", stdin=Path(CAUSAL).read_text().replace("j <= i", "jj <= i"))
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert not report["ok"]
    assert report["diagnostics"][0]["file"] == "<stdin>"
    assert report["diagnostics"][0]["line"] > 1


@pytest.fixture
def refuted(tmp_path: Path) -> str:
    """A file with a causal program whose mask is transposed."""
    path = tmp_path / "transposed.attn"
    path.write_text(Path(CAUSAL).read_text().replace("j <= i", "i <= j"))
    return str(path)


def test_check_shows_a_verdict_for_each_ensure() -> None:
    lines = irc("check", CAUSAL).stdout.splitlines()
    assert lines[0] == "causal: well typed"
    assert lines[-2].split()[:3] == ["✓", "causal", "proved:"]
    assert lines[-1].split()[:4] == ["✓", "rows", "nonempty", "proved:"]
    assert lines[-2].index("proved") == lines[-1].index("proved")


def test_check_draws_the_counterexample_and_exits_1(refuted: str) -> None:
    result = irc("check", refuted)
    assert result.exit_code == 1
    assert "  ✗ causal         refuted\n" in result.stdout
    assert "error[E601]: `causal` does not hold: query i = 0 sees key j = 1, 1 position after its own" in result.stderr
    assert "      0     ■ ✗\n" in result.stderr
    assert "note: this mask is transposed" in result.stderr and "help: write `allow j <= i`" in result.stderr


def test_check_says_what_the_readme_shows(refuted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(refuted).parent)
    (shown,) = re.findall(
        r"\$ irc check transposed\.attn\n(.*?)```", (EXAMPLES.parent / "README.md").read_text("utf-8"), re.DOTALL
    )
    assert irc("check", Path(refuted).name).output == shown


def test_check_folds_long_lines_at_the_width_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = irc("check", WINDOW).stdout.splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[-1].startswith(" " * 20)


def test_check_accepts_by_name(refuted: str) -> None:
    result = irc("check", refuted, "--accept", "causal")
    assert result.exit_code == 0
    assert "✗ causal         refuted, accepted: query i = 0" in result.stdout
    wrong = irc("check", refuted, "--accept", "casual")
    assert wrong.exit_code == 2 and "did you mean `causal`?" in wrong.stderr


def test_a_name_accepted_does_not_hide_what_is_wrong() -> None:
    result = irc("check", "-", "--accept", "causal", stdin=Path(CAUSAL).read_text().replace("j <= i", "jj <= i"))
    assert result.exit_code == 1 and "`jj`" in result.stderr


def test_check_as_json_carries_the_counterexample(refuted: str) -> None:
    result = irc("check", refuted, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert not report["ok"] and report["diagnostics"][0]["code"] == "E601"
    found, held = report["programs"][0]["properties"]
    assert (found["property"], found["status"], found["accepted"]) == ("causal", "refuted", False)
    assert found["model"]["sizes"]["S"] == 2 and found["model"]["indices"]["j"] == 1
    assert found["picture"]["filled"] == [[True, True], [False, True]]
    assert (found["picture"]["row"], found["picture"]["column"]) == (0, 1)
    assert (found["diagnosis"], found["fix"]) == ("transposed", "write `allow j <= i`")
    assert Path(refuted).read_text().splitlines()[found["at"]["line"] - 1].strip() == "allow  i <= j"
    assert held["status"] == "proved" and held["evidence"] and held["model"] is None


def test_check_writes_queries_that_a_solver_repeats(tmp_path: Path) -> None:
    import z3

    result = irc("check", WINDOW, "--smt2", str(tmp_path / "queries"))
    assert result.exit_code == 0, result.stderr
    files = sorted((tmp_path / "queries").iterdir())
    assert len(files) >= 4 and f"{len(files)} queries in" in result.stdout
    for file in files:
        solver = z3.Solver()
        solver.from_file(str(file))
        assert solver.check() == z3.unsat, file


def test_check_of_a_folder_is_a_table(refuted: str, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    shutil.copy(CAUSAL, tmp_path / "deep" / "causal.attn")
    (tmp_path / "wrong.attn").write_text("attention wrong {")
    result = irc("check", str(tmp_path))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["program", "verdict", "reason"]
    assert lines[1].split()[:2] == ["deep/causal", "proved"]
    assert lines[2].split()[:4] == ["transposed", "(causal)", "refuted", "causal:"]
    assert lines[-1] == "1 of 3 programs pass"
    assert any(line.split()[:2] == ["wrong", "wrong"] for line in lines)
    assert irc("check", str(tmp_path / "deep")).exit_code == 0


def test_check_of_a_folder_goes_on_after_what_is_no_text(tmp_path: Path) -> None:
    shutil.copy(CAUSAL, tmp_path / "causal.attn")
    (tmp_path / "bytes.attn").write_bytes(b"\xff\xfe")
    (tmp_path / "gone.attn").symlink_to(tmp_path / "nowhere")
    result = irc("check", str(tmp_path))
    assert result.exit_code == 1 and "1 of 3 programs pass" in result.stdout
    said = {line.split()[0]: line for line in result.stdout.splitlines() if line[:1].strip()}  # reasons are folded
    assert "E007" in said["bytes"] and "E007" in said["gone"] and "proved" in said["causal"]
    assert irc("check", str(tmp_path), "--json").exit_code == 1


@pytest.mark.parametrize("stage", ["graph", "backward", "tiles", "source"])
def test_a_refuted_program_can_be_shown(refuted: str, stage: str) -> None:
    result = irc("show", refuted, "--stage", stage, "--size", "D=8")
    assert result.exit_code == 0, result.stderr


def test_a_refuted_program_can_be_drawn(refuted: str) -> None:
    assert irc("plot", refuted, "--size", "S=2").stdout.splitlines()[-2:] == ["■■", "·■"]


def test_a_refuted_program_runs_if_accepted(refuted: str, arrays: tuple[str, dict[str, np.ndarray]]) -> None:
    arguments = ["run", refuted, "--inputs", arrays[0], "--target", "reference"]
    result = irc(*arguments)
    assert result.exit_code == 1 and "E601" in result.stderr
    assert irc(*arguments, "--accept", "causal").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "no/such/file.attn"],
        ["check", str(EXAMPLES / "c")],
        ["check", ""],
        ["show", CAUSAL, "--stage", "bread"],
        ["show", CAUSAL, "--stage", "source", "--dot"],
        ["show", CAUSAL, "--stage", "source", "--size", "D"],
        ["run", CAUSAL, "--set", "window"],
        ["run", CAUSAL],
        ["plot", WINDOW],
        ["plot", WINDOW, "--set", "window=3", "--size", "Q=3"],
        ["plot", WINDOW, "--set", "window=3", "--at", "h=9"],
    ],
)
def test_wrong_usage_exits_2_with_a_message(arguments: list[str]) -> None:
    result = irc(*arguments)
    assert result.exit_code == 2
    assert result.stderr.strip()


def test_a_target_that_kernels_are_not_made_for_exits_3_and_one_that_is_none_2() -> None:
    for target, code in (("cuda:sm_50", 3), ("abacus", 2)):
        result = irc("run", CAUSAL, "--target", target)
        assert result.exit_code == code and target in result.stderr


def test_a_missing_compiler_exits_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRC_CXX", "no-such-compiler")
    result = irc("doctor")
    assert result.exit_code == 3
    assert "no-such-compiler" in result.stderr


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("syntax", ["Attention", "Normaliser"]),
        ("graph", ["logsumexp", "j <= i"]),
        ("backward", ["q", "cotangent"]),
        ("tiles", ["TileKernel", "OnlineSoftmax"]),
        ("source", ['extern "C"', "allow  j <= i"]),
    ],
)
def test_show_prints_each_stage(stage: str, words: list[str]) -> None:
    result = irc("show", CAUSAL, "--stage", stage, "--size", "D=8")
    assert result.exit_code == 0, result.stderr
    assert all(word in result.stdout for word in words)


def test_show_draws_the_graph_for_graphviz() -> None:
    assert irc("show", CAUSAL, "--dot").stdout.lstrip().startswith("digraph")


def test_run_writes_outputs_and_gradients(arrays: tuple[str, dict[str, np.ndarray]], tmp_path: Path) -> None:
    path, values = arrays
    out = tmp_path / "made" / "out.npz"
    result = irc("run", CAUSAL, "--inputs", path, "--out", str(out), "--grad")
    assert result.exit_code == 0, result.stderr
    with np.load(out) as file:
        assert set(file) == {"o", "lse", "d_q", "d_k", "d_v"}
        np.testing.assert_array_equal(file["o"][:, :, 0], values["v"][:, :, 0])
        last = file["d_v"][:, :, -1]
    weight = np.exp(_scores(values)[:, :, -1] - _lse(values)[:, :, -1, None])[:, :, -1:]
    np.testing.assert_allclose(last, np.broadcast_to(weight, last.shape), rtol=1e-4)


def test_run_writes_bf16_in_a_file_that_it_reads(arrays: tuple[str, dict[str, np.ndarray]], tmp_path: Path) -> None:
    path, out = arrays[0], tmp_path / "out"
    for inputs in (path, str(out)):
        result = irc("run", CAUSAL, "--inputs", inputs, "--dtype", "bf16", "--out", str(out))
        assert result.exit_code == 0, result.stderr
        assert "bfloat16" in result.stdout
        with np.load(out) as file:
            found = dict(file)
        assert {a.dtype for a in found.values()} == {np.dtype(np.float32)}
        assert list(tmp_path.glob("out*")) == [out]
        with open(out, "wb") as file:
            np.savez(file, **{name: found["o"] for name in "qkv"})


def test_run_on_cpu_and_on_the_interpreter_agree(arrays: tuple[str, dict[str, np.ndarray]], tmp_path: Path) -> None:
    path, _ = arrays
    found = {}
    for target in ("cpu", "reference"):
        out = tmp_path / f"{target}.npz"
        settings = ["--set", "window=3", "--set", "cap=5.0", "--target", target]
        result = irc("run", WINDOW, "--inputs", path, *settings, "--out", str(out), "--grad")
        assert result.exit_code == 0, result.stderr
        with np.load(out) as file:
            found[target] = dict(file)
    for name, value in found["reference"].items():
        np.testing.assert_allclose(found["cpu"][name], value, atol=2e-5, err_msg=name)


def _scores(values: dict[str, np.ndarray]) -> np.ndarray:
    scores = values["q"].astype(float) @ values["k"].astype(float).swapaxes(-1, -2) / np.sqrt(8)
    return np.where(np.tri(7, dtype=bool), scores, -np.inf)


def _lse(values: dict[str, np.ndarray]) -> np.ndarray:
    return np.log(np.exp(_scores(values)).sum(-1))


def test_compile_writes_a_library_that_c_can_call(tmp_path: Path) -> None:
    result = irc("compile", CAUSAL, "--size", "D=8", "-o", str(tmp_path))
    assert result.exit_code == 0, result.stderr
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    library = ctypes.CDLL(str(tmp_path / "libcausal.so"))
    header = (tmp_path / "causal.h").read_text()
    assert [entry["name"] for entry in manifest["entries"]] == ["causal_forward", "causal_backward"]
    for entry in manifest["entries"]:
        assert hasattr(library, entry["name"])
        assert f"int {entry['name']}(" in header


def test_the_c_example_links_the_library_and_agrees_with_the_formula(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    assert compiler, "a C++ compiler comes with a C compiler"
    assert irc("compile", CAUSAL, "--size", "D=16", "-o", str(tmp_path)).exit_code == 0
    demo = str(tmp_path / "demo")
    library = [f"-I{tmp_path}", f"-L{tmp_path}", "-lcausal", f"-Wl,-rpath,{tmp_path}", "-lm"]
    source = str(EXAMPLES / "c" / "causal.c")
    subprocess.run([compiler, "-std=c11", "-Wall", "-Werror", source, *library, "-o", demo], check=True)
    done = subprocess.run([demo], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_compile_with_an_open_feature_size_says_which() -> None:
    result = irc("compile", CAUSAL, "-o", "unused")
    assert result.exit_code == 2
    assert "D" in result.stderr
    assert not Path("unused").exists()


def test_doctor_names_compiler_and_cache() -> None:
    result = irc("doctor")
    assert result.exit_code == 0, result.stderr
    assert "compiler" in result.stdout and "cache" in result.stdout
    assert all(f"\n{name} " in result.stdout for name in ("nvcc", "pycuda", "device", "cublaslt"))


def test_doctor_says_what_the_compiler_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "lacking_of", lambda *_: frozenset({toolchain.OPENMP}))
    told = irc("doctor").stdout
    assert "left out   -fopenmp, which it cannot build\n" in told
    assert "has no OpenMP: kernels run on one thread" in told


@pytest.mark.parametrize("command", ["check", "show", "compile", "run", "plot", "doctor"])
def test_help_teaches_with_an_example(command: str) -> None:
    text = irc(command, "--help").stdout
    assert "Example" in text and f"irc {command}" in text


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "irc", "--version"], capture_output=True, text=True, check=True)
    assert "irc" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file of Linux that is always full")
@pytest.mark.parametrize("command", [("plot", CAUSAL), ("check", CAUSAL)])
def test_an_output_that_is_full_is_named(command: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "irc", *command]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2 and done.stderr == "error: standard output: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file of Linux that is always full")
def test_a_disk_that_is_full_is_named_by_its_file(arrays: tuple[str, dict[str, np.ndarray]]) -> None:
    result = irc("run", CAUSAL, "--inputs", arrays[0], "--target", "reference", "--out", "/dev/full")
    assert result.exit_code == 2 and result.stderr.endswith("error: /dev/full: No space left on device\n")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = irc("compile", CAUSAL, "--size", "D=8", "-o", str(tmp_path / "file" / "inside"))
    assert result.exit_code == 2
    assert "Not a directory" in result.stderr and "inside" in result.stderr
