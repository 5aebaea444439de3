"""The machine's compiler: found, asked, and understood when it refuses."""

from __future__ import annotations

import ctypes
import stat
from pathlib import Path

import pytest

from irc.codegen.render import TEMPLATES, environment
from irc.runtime import toolchain
from irc.runtime.errors import ToolchainError

SOURCE = 'extern "C" int irc_answer() { return 42; }\n'


def test_compiles_a_library_that_loads(tmp_path):
    toolchain.compile(SOURCE, tmp_path / "kernels.so")
    assert ctypes.CDLL(str(tmp_path / "kernels.so")).irc_answer() == 42
    assert (tmp_path / "kernels.cpp").read_text() == SOURCE


def test_refused_source_is_kept_and_the_first_errors_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "cache"))
    source = "int f() { return undeclared_name; }\n"
    with pytest.raises(ToolchainError, match="undeclared_name") as caught:
        toolchain.compile(source, tmp_path / "kernels.so")
    (kept,) = (tmp_path / "cache" / "failed").iterdir()
    assert kept.read_text() == source
    assert str(kept) in str(caught.value)


def test_missing_compiler_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.delenv("IRC_CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError, match=r"apt install g\+\+.*IRC_CXX"):
        toolchain.find()


def test_chosen_compiler_that_does_not_exist_is_named(monkeypatch):
    monkeypatch.setenv("IRC_CXX", "no-such-compiler --flag")
    with pytest.raises(ToolchainError, match="'no-such-compiler'"):
        toolchain.find()


def test_chosen_compiler_keeps_its_arguments(monkeypatch):
    monkeypatch.setenv("IRC_CXX", "g++ -g")
    found = toolchain.find()
    assert found.command[1:] == ("-g",)
    assert "g++" in found.version


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ("g++ -march=x86-64-v2", {toolchain.NATIVE}),
        ("g++ -mcpu=cortex-a72", {toolchain.NATIVE}),
        ("g++ -g -O1 -mno-avx512f", {"-O3"}),
        ("g++ -Ofast", set()),
    ],
)
def test_what_is_chosen_stands_for_a_flag_of_ours(monkeypatch, given, missing):
    """The machine's own instructions, named last, would win."""
    usual = toolchain.find()
    monkeypatch.setenv("IRC_CXX", given)
    found = toolchain.find()
    assert set(usual.flags) - set(found.flags) == missing
    assert set(found.flags) <= set(usual.flags)


def without(lacking: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chooses a compiler that refuses a flag, and counts its starts in the folder's file `starts`."""
    real = toolchain.find().command[0]
    fake = folder / "simple-cxx"
    refuse = f'for a; do [ "$a" = {lacking} ] && {{ echo "error: unknown" >&2; exit 1; }}; done'
    fake.write_text(f'#!/bin/sh\necho start >> {folder}/starts\n{refuse}\nexec {real} "$@"\n')
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("IRC_CXX", str(fake))


@pytest.mark.parametrize("lacking", ["-fopenmp", toolchain.NATIVE])
@pytest.mark.filterwarnings("ignore:.*has no OpenMP")
def test_compiler_that_lacks_a_flag_still_compiles(tmp_path, monkeypatch, lacking):
    without(lacking, tmp_path, monkeypatch)
    toolchain.compile(SOURCE, tmp_path / "kernels.so")
    assert ctypes.CDLL(str(tmp_path / "kernels.so")).irc_answer() == 42
    started = len((tmp_path / "starts").read_text().splitlines())
    toolchain.compile(SOURCE, tmp_path / "again.so")  # without asking again
    assert len((tmp_path / "starts").read_text().splitlines()) == started + 1


def test_without_openmp_one_thread_does_everything_and_a_warning_says_so(tmp_path, monkeypatch):
    without("-fopenmp", tmp_path, monkeypatch)
    headers = environment().get_template("cpu/system.j2").render()
    source = headers + '\nextern "C" int threads() { return omp_get_num_threads() + omp_get_thread_num(); }\n'
    with pytest.warns(RuntimeWarning, match=r"simple-cxx has no OpenMP: kernels run on one thread.*libomp.*IRC_CXX"):
        toolchain.compile(source, tmp_path / "kernels.so")
    assert ctypes.CDLL(str(tmp_path / "kernels.so")).threads() == 1


def test_a_library_without_openmp_is_made_again_when_that_has_come(tmp_path, monkeypatch):
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "cache"))
    without("-fopenmp", tmp_path, monkeypatch)
    tools = toolchain.find()
    with pytest.warns(RuntimeWarning, match="has no OpenMP"):
        first = toolchain.library(SOURCE, tools)
    lacking = first.with_name(toolchain.LACKING)
    assert toolchain.library(SOURCE, tools) == first and lacking.read_text() == "-fopenmp"
    fake = tmp_path / "simple-cxx"
    fake.write_text(fake.read_text().replace("= -fopenmp", "= -nothing"))
    monkeypatch.setattr(toolchain, "_known_to_lack", {})  # as in another process
    toolchain.lacking_of.cache_clear()
    assert toolchain.library(SOURCE, tools) == first and not lacking.exists()


def test_parts_of_a_source_become_one_library_and_errors_of_either_are_shown(tmp_path):
    source = """
    #if !defined(IRC_PARTS) || defined(IRC_PART_0)
    extern "C" int first() { return 1; }
    #endif
    #if !defined(IRC_PARTS) || defined(IRC_PART_1)
    extern "C" int second() { return 2; }
    #endif
    """
    toolchain.compile(source, tmp_path / "kernels.so")
    library = ctypes.CDLL(str(tmp_path / "kernels.so"))
    assert (library.first(), library.second()) == (1, 2)
    assert {p.name for p in tmp_path.iterdir()} == {"kernels.so", "kernels.cpp"}
    with pytest.raises(ToolchainError, match="nonsense"):
        toolchain.compile(source.replace("return 2", "return nonsense"), tmp_path / "broken.so")
    toolchain.compile(source, tmp_path / "second.so", parts={1: 40})
    library = ctypes.CDLL(str(tmp_path / "second.so"))
    assert library.second() == 2
    assert not hasattr(library, "first")
    toolchain.compile(source, tmp_path / "both.so", parts={0: 40, 1: 40})
    library = ctypes.CDLL(str(tmp_path / "both.so"))
    assert (library.first(), library.second()) == (1, 2)
    assert not list(tmp_path.glob("*.o"))
    with pytest.raises(ToolchainError, match="nonsense"):
        toolchain.compile(source.replace("return 2", "return nonsense"), tmp_path / "b.so", parts={0: 40, 1: 40})


def test_parts_are_shared_out_by_their_lengths():
    lengths = {0: 20, 1: 5, 2: 21, 3: 16, 4: 1}
    assert toolchain.shared_out(lengths, 2) == [[2, 1, 4], [0, 3]]
    assert sorted(map(sorted, toolchain.shared_out(lengths, 8))) == [[0], [1], [2], [3], [4]]
    assert toolchain.shared_out(lengths, 1) == [[2, 0, 3, 1, 4]]


def test_headers_of_the_system_are_compiled_once(tmp_path, monkeypatch):
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "cache"))
    found = []
    for number in (1, 2):
        headers = "#include <cmath>\n\n#include <vector>\n"
        toolchain.compile(f"// a program\n{headers}int answer() {{ return {number}; }}\n", tmp_path / f"{number}.so")
        found.append(sorted((tmp_path / "cache").glob("entries/*/*/headers.h*")))
    assert found[0] == found[1]
    if "clang" not in toolchain.find().version:
        assert [path.name for path in found[0]] == ["headers.h", "headers.h.gch"]
        assert found[0][0].read_text() == headers


def test_headers_that_cannot_be_compiled_alone_are_left_in_their_place(tmp_path):
    toolchain.compile("#include <cstdint>\n#if 1\n#include <cmath>\nint half;\n#endif\n", tmp_path / "a.so")
    ctypes.CDLL(str(tmp_path / "a.so"))


def test_a_compiler_that_fails_without_a_word(monkeypatch):
    monkeypatch.setenv("IRC_CXX", "false")
    with pytest.raises(ToolchainError, match="false --version` failed:\nexit code 1, without a word"):
        toolchain.find()


def test_arithmetic_without_infinity_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("IRC_CXX", f"{toolchain.find().command[0]} -ffast-math")
    with pytest.raises(ToolchainError, match="compile without -ffast-math"):
        toolchain.compile((TEMPLATES / "cpu" / "scalar.h").read_text(), tmp_path / "kernels.so")
