"""Built things on disk, each made once: a directory of files under a key, with a manifest of their checksums.

What may be loaded: an entry that belongs to this user and holds exactly the regular files of its manifest, each with
the checksum written there. Anything else (cut short, altered, put there by another) is thrown away and built again.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

import platformdirs

from irc.runtime.errors import InputError

MANIFEST = "manifest.json"


def directory() -> Path:
    """IRC_CACHE_DIR, else the user's cache directory; where that cannot be written, one for this process alone. Raises
    InputError where IRC_CACHE_DIR names no folder that can be written."""
    return _shared() or _private()


def check_kept() -> None:
    """Raises InputError where the directory is for this process alone: what is put there is lost."""
    if _shared() is None:
        raise InputError(f"{_of_user()} cannot be written, so that nothing is kept: name a folder in IRC_CACHE_DIR")


def _of_user() -> Path:
    return Path(platformdirs.user_cache_dir("irc", appauthor=False))


def _shared() -> Path | None:
    """The directory that other processes read too, if there is one."""
    chosen = os.environ.get("IRC_CACHE_DIR")
    path = Path(chosen).expanduser().absolute() if chosen else _of_user()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        if chosen:
            raise InputError(f"IRC_CACHE_DIR: {path} is no folder and cannot be made: {error.strerror}") from error
        return None
    if os.access(path, os.W_OK | os.X_OK):
        return path
    if chosen:
        raise InputError(f"IRC_CACHE_DIR: {path} cannot be written")
    return None


@lru_cache(maxsize=1)
def _private() -> Path:
    """One that goes with this process, but not with its copies."""
    path, owner = Path(tempfile.mkdtemp(prefix="irc-")), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(path, ignore_errors=True)

    atexit.register(remove)
    return path


def key(parts: Iterable[str], flags: Iterable[str] = (), compiler: str = "") -> str:
    """A name for what these texts, compiled this way, become on this machine. What the texts do not tell of the program
    that makes the entry (its own files, for one) is a part of its own."""
    digest = hashlib.sha256()
    for group in (list(parts), list(flags), [compiler, machine()]):
        digest.update(json.dumps(group).encode())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def machine() -> str:
    """The processor, down to its instruction set: code compiled for one machine may not run on another."""
    lines = [platform.system(), platform.machine(), platform.processor()]
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name = line.partition(":")[0].strip()
            if name in ("model name", "flags", "Features", "CPU part") and line not in lines:
                lines.append(line)
    except OSError:
        pass
    return "\n".join(lines)


@lru_cache(maxsize=1)
def version() -> str:
    from importlib import metadata  # slow to import, and asked for by people alone

    try:
        return metadata.version("attention-irc")
    except metadata.PackageNotFoundError:
        return "uninstalled"


def always(entry: Path) -> bool:
    """That an entry stays what it was."""
    return True


def found(key: str, holds: Callable[[Path], bool] = always) -> Path | None:
    """The directory of an entry, where there is one that can be trusted, and that is still what would be built."""
    entry = _entry(key)
    return entry if intact(entry, key) and holds(entry) else None


def _entry(key: str) -> Path:
    return directory() / "entries" / key[:2] / key


def get_or_build(key: str, build: Callable[[Path], None], holds: Callable[[Path], bool] = always) -> Path:
    """The directory of an entry. When there is none that can be trusted and still `holds`, `build` fills an empty
    directory first.

    Of processes that ask at once, one builds and the others wait. What `build` raises passes through, and leaves
    nothing behind; but InputError says that a file could not be written.
    """
    if kept := found(key, holds):
        return kept
    try:
        return _built(key, build, holds)
    except OSError as error:
        raise InputError(f"the cache in {directory()} cannot be written: {error.strerror or error}") from error


def _built(key: str, build: Callable[[Path], None], holds: Callable[[Path], bool]) -> Path:
    root, entry = directory(), _entry(key)
    from filelock import FileLock  # slow to import, and not needed for what is there

    locks = root / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    entry.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(locks / f"{key}.lock")):
        if kept := found(key, holds):
            return kept
        fresh = Path(tempfile.mkdtemp(prefix="building-", dir=root))
        try:
            build(fresh)
            files = {path.name: _checksum(path) for path in sorted(fresh.iterdir())}
            (fresh / MANIFEST).write_text(json.dumps({"key": key, "files": files}, indent=1), encoding="utf-8")
            _discard(entry)
            fresh.rename(entry)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return entry


def intact(entry: Path, key: str) -> bool:
    """Whether the entry is whole, unaltered, ours, and stored under its own key."""
    try:
        if not _ours(entry) or entry.is_symlink():
            return False
        manifest = json.loads((entry / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
        present = {path.name for path in entry.iterdir()} - {MANIFEST}
        return (
            manifest["key"] == key
            and present == set(files)
            and all(_ours(entry / name) and _checksum(entry / name) == sum for name, sum in files.items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _ours(path: Path) -> bool:
    return not hasattr(os, "getuid") or path.lstat().st_uid == os.getuid()


def _checksum(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        raise ValueError(f"{path} is not a regular file")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _discard(entry: Path) -> None:
    """Remove what stands in the way, whatever it is."""
    if entry.is_symlink() or entry.is_file():
        entry.unlink()
    elif entry.exists():
        shutil.rmtree(entry)
