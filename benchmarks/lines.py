"""A file of lines, one a case, that a run which was interrupted goes on with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.progress import Progress
from benchmarks.store import set_aside

Measure = Callable[[], tuple[str, str]]  # a line, and the verdict that ends it


def record(output: Path, header: str, title: str, cases: Mapping[tuple[str, ...], Measure], good: str) -> int:
    """Write the lines of cases, by the words that they begin with, each at once; a case whose line stands there under
    the same header is not measured again. How many of the file's lines have another verdict than `good`."""
    lines = _begun(output, header, title)
    before = [line.split() for line in lines[2:]]
    left = {key: measure for key, measure in cases.items() if not any(words[: len(key)] == [*key] for words in before)}
    progress = Progress(len(cases), len(cases) - len(left))
    for key, measure in left.items():
        progress.begin(" ".join(key))
        text, verdict = measure()
        lines.append(f"{text}  {verdict}")
        output.write_text("\n".join(lines) + "\n", encoding="utf-8")
        progress.end(verdict)
    failed = sum(not line.endswith(f"  {good}") for line in lines[2:])
    print(f"{output}: {len(lines) - 2} lines, {failed} of them with a finding")
    return failed


def _begun(output: Path, header: str, title: str) -> list[str]:
    """The lines that a file begins with: those that it holds, if its header is this one."""
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.exists():
        lines = output.read_text(encoding="utf-8").splitlines()
        if lines[:2] == [header, title]:
            return lines
        set_aside(output)
    return [header, title]
