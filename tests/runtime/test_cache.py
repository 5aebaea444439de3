"""Entries are built once, and nothing but a whole and unaltered entry of our own is ever answered."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys

import pytest

from irc.runtime import cache

KEY = cache.key(["text"])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def build(path):
    (path / "a.txt").write_text("alpha")
    (path / "b.txt").write_text("beta")


def refuse(path):
    raise AssertionError("built although the entry stands")


def test_second_request_does_not_build():
    entry = cache.get_or_build(KEY, build)
    assert cache.get_or_build(KEY, refuse) == entry
    assert (entry / "a.txt").read_text() == "alpha"


def truncate(entry):
    (entry / "a.txt").write_text("alp")


def alter(entry):
    (entry / "b.txt").write_text("bete")


def remove(entry):
    (entry / "b.txt").unlink()


def add(entry):
    (entry / "c.txt").write_text("foreign")


def spoil_manifest(entry):
    (entry / cache.MANIFEST).write_text('{"key"')


def empty_manifest(entry):
    (entry / cache.MANIFEST).write_text("[]")


def other_key(entry):
    manifest = entry / cache.MANIFEST
    manifest.write_text(manifest.read_text().replace(KEY, "0" * 64))


def link(entry):
    (entry.parent / "elsewhere").write_text("alpha")
    (entry / "a.txt").unlink()
    (entry / "a.txt").symlink_to(entry.parent / "elsewhere")


def link_entry(entry):
    entry.rename(entry.parent / "moved")
    entry.symlink_to(entry.parent / "moved")


def replace_by_file(entry):
    entry.rename(entry.parent / "moved")
    entry.write_text("not a directory")


DAMAGES = [truncate, alter, remove, add, spoil_manifest, empty_manifest, other_key, link, link_entry, replace_by_file]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__)
def test_damaged_entry_is_built_again(damage):
    damage(cache.get_or_build(KEY, build))
    entry = cache.get_or_build(KEY, build)
    assert cache.intact(entry, KEY)
    assert sorted(p.name for p in entry.iterdir()) == ["a.txt", "b.txt", cache.MANIFEST]
    assert ((entry / "a.txt").read_text(), (entry / "b.txt").read_text()) == ("alpha", "beta")


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners of files")
def test_entry_of_another_user_is_not_trusted(monkeypatch):
    entry = cache.get_or_build(KEY, build)
    monkeypatch.setattr(os, "getuid", lambda: entry.stat().st_uid + 1)
    assert not cache.intact(entry, KEY)


def test_without_a_folder_of_the_user_nothing_is_kept(folder):
    """HOME is a file, in which nothing can be made."""
    (folder / "home").touch()
    (folder / "temporary").mkdir()
    unset = ("IRC_CACHE_DIR", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"HOME": str(folder / "home"), "TMPDIR": str(folder / "temporary")}
    code = """
import os
from irc.runtime import cache
assert cache.directory().is_dir() and cache.directory() == cache.directory()
if not os.fork():
    raise SystemExit  # a copy of the process leaves the folder to it
os.wait()
assert cache.directory().is_dir()
cache.check_kept()
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert f"InputError: {folder / 'home'}/.cache/irc cannot be written, so that nothing is kept" in done.stderr
    assert not list((folder / "temporary").iterdir())


def test_failed_build_leaves_nothing(folder):
    def fail(path):
        (path / "half").write_text("")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        cache.get_or_build(KEY, fail)
    assert not list((folder / "cache").rglob("half"))
    assert cache.get_or_build(KEY, build).is_dir()


def _ask(log, start):
    def logged(path):
        build(path)
        with open(log, "a") as file:
            file.write("built\n")

    start.wait()
    assert cache.intact(cache.get_or_build(KEY, logged), KEY)


def test_concurrent_processes_build_once(folder):
    context = multiprocessing.get_context("fork")
    start = context.Barrier(6)
    workers = [context.Process(target=_ask, args=(folder / "log", start)) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [w.exitcode for w in workers] == [0] * 6
    assert (folder / "log").read_text() == "built\n"


def test_key_tells_every_part_apart():
    keys = {
        cache.key(["ab", "c"]),
        cache.key(["a", "bc"]),
        cache.key(["abc"]),
        cache.key(["ab", "c"], ["-O3"]),
        cache.key(["ab", "c"], compiler="g++ 12"),
    }
    assert len(keys) == 5
    assert cache.key(["ab", "c"]) in keys
