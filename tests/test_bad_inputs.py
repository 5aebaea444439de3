"""What is no argument of ours, to the command and to `irc.compile`: every one ends in an error that names it."""

from __future__ import annotations

import copy
import errno
import pickle
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

import irc
from irc.cli import main
from irc.cli.common import read
from irc.grammar.diagnostic import Diagnostic
from irc.grammar.source import Source, Span
from irc.runtime import memory
from irc.runtime.emulator.findings import EmulatorError, Finding
from irc.runtime.machine import MOST_THREADS

EXAMPLES = Path(__file__).parents[1] / "examples"
CAUSAL, PADDING = str(EXAMPLES / "causal.attn"), str(EXAMPLES / "padding.attn")


def said(*arguments: str, stdin: bytes | None = None) -> tuple[int, str]:
    """How the command exits, and what it says; a traceback fails the test."""
    result = CliRunner().invoke(main, list(arguments), input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stderr


@pytest.fixture
def given(tmp_path: Path) -> str:
    path = tmp_path / "in.npz"
    np.savez(path, **{name: np.ones((1, 2, 5, 4), np.float32) for name in "qkv"})
    return str(path)


@pytest.mark.parametrize("contents", [b"", b"no archive", np.lib.format.magic(1, 0), b"PK\x03\x04cut short"])
def test_a_file_that_is_no_npz(contents: bytes, tmp_path: Path) -> None:
    path = tmp_path / "in.npz"
    path.write_bytes(contents)
    code, text = said("run", CAUSAL, "--inputs", str(path))
    assert code == 2 and f"{path} is no .npz file" in text


def test_a_name_longer_than_files_have() -> None:
    code, text = said("check", "x" * 5000)
    assert code == 2 and f"error: {'x' * 5000}: File name too long" in text


def test_an_npz_of_words(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", **{name: np.array(["a"]) for name in "qkv"})
    code, text = said("run", CAUSAL, "--inputs", str(tmp_path / "in.npz"))
    assert code == 2 and "q: expected f32, got <U1" in text


@pytest.mark.parametrize("value", ["[[1],[1,2]]", '{"a": 1}', '["x"]', "null", '"3"', f"[{10**30}]", "[" * 10**5, ""])
def test_a_value_that_is_no_number_nor_array(value: str) -> None:
    code, text = said("plot", PADDING, "--set", f"len={value}")
    assert code == 2 and "is not NAME=VALUE" in text


def test_an_integer_of_a_list_that_does_not_fit(given: str) -> None:
    documents = str(EXAMPLES / "documents.attn")
    code, text = said("run", documents, "--inputs", given, "--set", f"doc=[[0, 0, 1, 1, {2**32}]]")
    assert code == 2 and f"doc: expected integers of 32 bits, got {2**32}" in text


@pytest.mark.parametrize("size", ["=3", ",", "D", "D=", "D=4.5"])
def test_a_size_that_is_none(size: str) -> None:
    code, text = said("show", CAUSAL, "--stage", "source", "--size", size)
    assert code == 2 and "is not NAME=NUMBER" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((PADDING, "--set", "len=5"), "'len' has 1 dimensions, and what is given has 0"),
        ((PADDING, "--set", "len=[[[1]]]"), "'len' has 1 dimensions, and what is given has 3"),
        ((PADDING, "--set", "len=[1.5]"), "'len' is of type int, and what is given is float64"),
        ((CAUSAL, "--size", "S=-3"), "size S: expected a natural number, got -3"),
        ((CAUSAL, "--at", "z=0"), "'z' is no index beside query and key in 'causal'"),
        ((CAUSAL, "--size", "S=100000"), "10000000000 pairs are too many to draw (i 100000, j 100000), at most"),
        ((CAUSAL, "--size", "B=4000,S=100", "--show", "weights"), "pairs are too many to draw (b 4000, h 1, i 100"),
    ],
)
def test_what_a_plot_cannot_take(arguments: tuple[str, ...], message: str) -> None:
    code, text = said("plot", *arguments)
    assert code == 2 and message in text


@pytest.mark.parametrize("name", ["mask.foo", "mask"])
def test_an_image_of_no_format(name: str, tmp_path: Path) -> None:
    code, text = said("plot", CAUSAL, "--size", "S=4", "-o", str(tmp_path / name))
    assert code == 2 and "expected a name that ends in an image's format" in text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [("plot", CAUSAL, "-o"), ("compile", CAUSAL, "-o"), ("check", CAUSAL, "--smt2"), ("run", CAUSAL, "--out")],
)
def test_a_file_to_write_without_a_name(arguments: tuple[str, ...]) -> None:
    code, text = said(*arguments, "")
    assert code == 2 and "expected a name, got nothing" in text


@pytest.mark.parametrize(
    "arguments", [("compile", CAUSAL, "--size", "D=4", "-o"), ("check", str(EXAMPLES / "alibi.attn"), "--smt2")]
)
def test_a_folder_on_a_full_disk_is_named(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("irc.show.check.write_queries", full)
    monkeypatch.setattr("irc.export.export.export", full)
    assert said(*arguments, str(tmp_path)) == (2, f"error: {tmp_path}: No space left on device\n")


def test_characters_that_the_terminal_has_not() -> None:
    result = CliRunner(charset="latin-1").invoke(main, ["plot", CAUSAL, "--size", "S=2"])
    assert result.exit_code == 0 and r"\u25a0·" in result.stdout


def test_a_folder_is_checked_with_progress_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.attn").write_bytes(Path(CAUSAL).read_bytes())
    assert said("check", str(tmp_path)) == (0, "")
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    code, text = said("check", str(tmp_path))
    assert code == 0 and "checking" in text and "100%" in text


def test_integers_in_lists_where_floats_are_wanted() -> None:
    given = [f"--set={name}=[[[[1,2]]]]" for name in "qkv"]
    assert said("run", CAUSAL, *given) == (0, "")
    code, text = said("run", PADDING, *given, "--set", "len=[1.0]")
    assert code == 2 and "len: expected integers, got f32" in text


def test_results_that_cannot_be_written_are_named(given: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    code, text = said("run", CAUSAL, "--inputs", given, "--out", str(file / "out.npz"))
    assert code == 2 and f"error: {file}: " in text


def test_results_take_the_place_of_others_once_they_are_whole(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "to" / "out.npz"
    assert said("run", CAUSAL, "--inputs", given, "--out", str(out)) == (0, "")
    before = out.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    message = f"error: {out}: No space left on device\n"
    assert said("run", CAUSAL, "--inputs", given, "--out", str(out)) == (2, message)
    assert out.read_bytes() == before and list(out.parent.iterdir()) == [out]


def test_more_threads_than_a_process_can_start(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = said("bench", CAUSAL, "--size", "B=1,H=1,S=8,D=8", "--threads", str(MOST_THREADS + 1))
    assert code == 2 and str(MOST_THREADS) in text
    monkeypatch.setenv("IRC_THREADS", str(MOST_THREADS + 1))
    code, text = said("run", CAUSAL, "--inputs", given)
    assert code == 2 and f"IRC_THREADS: expected a number of threads from 1 to {MOST_THREADS}" in text


def test_text_on_standard_input_that_is_no_text() -> None:
    code, text = said("check", "-", stdin=b"\xff\xfe")
    assert code == 2 and "is no UTF-8 text" in text


def test_standard_input_and_output_that_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout"):
        monkeypatch.setattr(sys, name, None)
    with pytest.raises(click.BadParameter, match="no standard input"):
        read("-")
    main.main(["show", CAUSAL], standalone_mode=False)


def test_a_cache_that_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("IRC_CACHE_DIR", str(file))
    message = f"IRC_CACHE_DIR: {file} is no folder and cannot be made"
    code, text = said("doctor")
    assert code == 2 and message in text
    with pytest.raises(irc.InputError, match=message):
        irc.compile(CAUSAL)


def test_a_compiler_that_is_no_command(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRC_CXX", "g++ '")
    code, text = said("run", CAUSAL, "--inputs", given)
    assert code == 3 and "IRC_CXX is no command" in text


@pytest.mark.parametrize("program", ["", None, 3, b"attention {}"])
def test_what_is_no_program(program: Any) -> None:
    with pytest.raises(irc.InputError, match="program: expected a path or the text of a program, got"):
        irc.compile(program)


def test_a_path_that_is_none() -> None:
    with pytest.raises(irc.Error, match="cannot be read"):
        irc.compile("a\0b")


def test_a_path_is_named_once() -> None:
    with pytest.raises(irc.Error, match=r"^nowhere\.attn: cannot be read: No such file or directory$"):
        irc.compile("nowhere.attn")


def test_a_text_of_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.attn"
    path.write_bytes(Path(CAUSAL).read_bytes().decode().encode("utf-16"))
    with pytest.raises(irc.Error, match=f"^{path}: cannot be read: it is no UTF-8 text, at byte 0$"):
        irc.compile(path)


@pytest.mark.parametrize(
    ("named", "kind", "message"),
    [
        ({"target": None}, irc.InputError, "target: expected one of .*, got None"),
        ({"target": "gpu"}, irc.InputError, "target: expected one of cpu, .*, got 'gpu'"),
        ({"sizes": 4}, irc.InputError, "sizes: expected numbers by name"),
        ({"sizes": {"D": 4.0}}, irc.InputError, "sizes: D must be a natural number, got 4.0"),
        ({"sizes": {"D": True}}, irc.InputError, "sizes: D must be a natural number, got True"),
        ({"sizes": {"D": "4"}}, irc.InputError, "sizes: D must be a natural number, got '4'"),
        ({"sizes": {"D": 10**20}}, irc.InputError, f"sizes: D must be at most 2147483647, got {10**20}"),
        ({"schedule": 3}, irc.InputError, "schedule: expected a Schedule, .*, got 3"),
        ({"accept": 3}, irc.InputError, "accept: expected the text of a property, got 3"),
        ({"accept": [None]}, irc.InputError, "accept: expected the text of a property, got None"),
    ],
)
def test_arguments_of_another_type(named: dict[str, Any], kind: type[irc.Error], message: str) -> None:
    with pytest.raises(kind, match=message):
        irc.compile(CAUSAL, **named)


def test_arguments_without_a_name() -> None:
    program, x = irc.compile(CAUSAL), np.ones((1, 1, 3, 4), np.float32)
    for call in (program, program.forward):
        with pytest.raises(irc.InputError, match=r"causal: expected arguments by name, q=.*; got 2 without a name"):
            call(x, x, v=x)
    with pytest.raises(irc.InputError, match=r"backward: expected cotangents by name, o=.*; got 1 without a name"):
        program.forward(q=x, k=x, v=x).backward(x)


@pytest.mark.parametrize(("value", "kind"), [(None, "None"), (np.ones(3), "ndarray"), (["q"], "list")])
def test_what_is_no_mapping_from_names(value: Any, kind: str) -> None:
    program, x = irc.compile(CAUSAL), np.ones((1, 1, 3, 4), np.float32)
    given = {"q": x, "k": x, "v": x}
    with pytest.raises(irc.InputError, match=f"inputs: expected arrays by name, .* got {kind}"):
        program.jvp(value, given)
    with pytest.raises(irc.InputError, match=f"tangents: expected arrays by name, .* got {kind}"):
        program.jvp(given, value)
    with pytest.raises(irc.InputError, match=f"vectors: expected arrays by name, .* got {kind}"):
        program.hvp(given, value, {})
    with pytest.raises(irc.InputError, match=f"cotangents: expected arrays by name, .* got {kind}"):
        program.hvp(given, given, value)


def test_a_name_near_one_that_is_known() -> None:
    program, x = irc.compile(EXAMPLES / "softcap_window.attn"), np.ones((1, 2, 3, 4), np.float32)
    with pytest.raises(irc.InputError, match=r"^windw: unknown; softcap_window takes .*; did you mean `window`\?$"):
        program(q=x, k=x, v=x, windw=2, cap=3.0)
    with pytest.raises(irc.InputError, match=r"^Sq is a size"):
        program(q=x, k=x, v=x, window=2, cap=3.0, Sq=3)


@pytest.mark.parametrize("command", [("plot",), ("bench", "--size", "B=1,H=1,S=8,D=8")])
def test_a_name_that_no_program_takes(command: tuple[str, ...], given: str) -> None:
    code, text = said(*command, PADDING, "--set", "lenn=[3]")
    assert code == 2 and text == "error: lenn: unknown; padding takes q, k, v, len; did you mean `len`?\n"


def test_a_run_is_no_data() -> None:
    program, x = irc.compile(CAUSAL), np.ones((1, 1, 3, 4), np.float32)
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(irc.Error, match="copy or pickle its outputs"):
            copied(program.forward(q=x, k=x, v=x))


def test_sizes_are_integers_of_any_kind() -> None:
    x = np.ones((1, 1, 3, 4), np.float32)
    assert irc.compile(CAUSAL, sizes={"D": np.int64(4)})(q=x, k=x, v=x)[0].shape == x.shape


def test_more_memory_than_there_is() -> None:
    with pytest.raises(MemoryError, match="GiB for a tensor of a call"):
        memory.allocate((2**61,), "f32")


@pytest.mark.parametrize("number", [10**400, -(10**400), 1e39, np.float64(-1e300)])
def test_a_number_beyond_the_largest_float(number: float) -> None:
    program = irc.compile(EXAMPLES / "softcap_window.attn")
    x = np.ones((1, 2, 3, 4), np.float32)
    with pytest.raises(irc.InputError, match="cap: expected a number, got one beyond the largest float"):
        program(q=x, k=x, v=x, window=2, cap=number)


def test_a_disk_that_is_full(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(Path, "write_bytes", full)
    message = f"the cache in {tmp_path / 'cache'} cannot be written: No space left on device"
    code, text = said("run", CAUSAL, "--inputs", given)
    assert code == 2 and message in text
    with pytest.raises(irc.InputError, match=message):
        irc.compile(CAUSAL)
    assert not list((tmp_path / "cache").glob("building-*"))


def test_a_command_that_is_stopped(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for at in ("irc.compiler.compile", "irc.cli.main.get_command"):  # once it runs, and while its modules are imported
        monkeypatch.setattr(at, stopped)
        assert said("run", CAUSAL, "--inputs", given) == (130, "stopped\n")


def test_errors_pass_between_processes() -> None:
    """A pool of processes that cannot read what a worker raised waits for ever."""
    finding = Diagnostic("E000", "wrong", Span(Source("a.attn", "attention a {"), 1, 1, 1, 10), help="write it")
    place = Finding("race", "two write", (0, 0, 0), (1, 0, 0), ())
    given = [irc.SpecError((finding,)), EmulatorError("k", [place]), irc.InputError("a"), irc.DeviceError("b")]
    for error in (*given, irc.ToolchainError("c"), irc.Error("d")):
        for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
            assert type(again) is type(error) and str(again) == str(error) and vars(again) == vars(error)
