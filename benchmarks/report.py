"""results.md: the tables, from results.json alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks.cases import MAIN, PASSES, Case
from benchmarks.peers import ENTRIES
from benchmarks.processes import ALONE, RESULTS
from benchmarks.store import Store
from benchmarks.summary import Row, row
from benchmarks.targets import reason, target

FILE = "results.md"
ABOUT = """\
Rates are useful GFLOP/s: 2 D operations a product and allowed pair, two products forward and five backward, whatever
anyone computes beside; of decode steps, GB/s of keys and values read. All results were first compared with irc's.
All are called once a round in one process, in a new order each round, each after the process has come to rest and one
call that is not timed; medians over the rounds. *ratio* is irc's speed as a multiple of the fastest peer's; *share*, of
the ceiling, which takes part in every round; **short**, that the ratio is below the target. An empty cell: not
possible, see the end."""


def write(folder: Path) -> None:
    """Of what the folder holds."""
    parts = []
    if (folder / RESULTS).exists():
        parts += _together(Store.read(folder / RESULTS))
    if alone := sorted((folder / ALONE).glob("*.json")):
        parts += _alone([Store.read(path) for path in alone], folder / RESULTS)
    (folder / FILE).write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _together(store: Store) -> list[str]:
    rows = [row(result) for result in store.results]
    header = store.header
    parts = [
        "# irc beside its peers, CPU",
        f"{header['machine']}, {header['compiler']}, Python {header['python']}; irc at {header['commit']}, "
        f"{header['date']}. Command: `python -m benchmarks`; at most {header['rounds']} rounds of a case, "
        f"{header['seconds']:g} s.",
        ABOUT,
        "## Ceilings",
        _ceilings(rows),
        "## Targets",
        *_targets(rows),
    ]
    for title, chosen in _groups(rows):
        if chosen:
            parts += [f"## {title}", _rates(chosen)]
    parts += ["## Before the first result", _setup(rows), "## Memory", _memory(rows)]
    parts += ["## Who took part", _contestants(store), "## What is not in the tables", _missing(rows)]
    return parts


def _groups(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    def chosen(want: Callable[[Case], bool]) -> list[Row]:
        return [r for r in rows if want(r.result.case)]

    threads = sorted({r.result.case.threads for r in rows}, reverse=True)
    groups = [
        (
            f"{work.capitalize()}, (B,H,S,D) = {MAIN}, {_threads(n)}",
            chosen(lambda c, w=work, n=n: c.work == w and c.shape == MAIN and c.threads == n),  # type: ignore[misc]
        )
        for n in threads
        for work in PASSES
    ]
    groups.append(("Other shapes", chosen(lambda c: not c.decodes and c.shape != MAIN)))
    groups.append(("Decode: one token, 32 query heads, 8 of keys, GB/s", chosen(lambda c: c.decodes)))
    return groups


def _rates(rows: Sequence[Row]) -> str:
    names = [e.name for e in ENTRIES if any(e.name in r.rates for r in rows)]
    shapes, threads = {r.result.case.shape for r in rows}, {r.result.case.threads for r in rows}
    lines = []
    for r in rows:
        case = r.result.case
        label = [case.dtype if case.decodes else f"{case.variant} {case.dtype}"]
        label += [case.work] if len({x.result.case.work for x in rows}) > 1 else []
        label += [str(case.shape)] if len(shapes) > 1 else []
        label += [_threads(case.threads)] if len(threads) > 1 else []
        wanted = target(case)
        verdict = {None: "", True: "reached", False: "**short**"}[r.reached]
        lines.append(
            [" ".join(label)]
            + [f"**{r.rates[n]:.1f}**" if n == r.peer else f"{r.rates[n]:.1f}" if n in r.rates else "" for n in names]
            + [f"{r.ratio:.2f}" if r.ratio else "", f"{wanted:g}" if wanted else "", verdict]
            + [f"{r.share:.0%}" if r.share else ""]
        )
    return _table(["case", *names, "ratio", "target", "", "share"], lines)


def _ceilings(rows: Sequence[Row]) -> str:
    lines = []
    for name, threads in sorted({(r.result.ceiling, r.result.case.threads) for r in rows}):
        mine = [r for r in rows if (r.result.ceiling, r.result.case.threads) == (name, threads)]
        rates = [r.ceiling for r in mine]
        unit = "GB/s" if mine[0].result.case.decodes else "GFLOP/s"
        quiet = statistics.median(r.result.quiet for r in mine)
        lines.append([name, _threads(threads), f"{statistics.median(rates):.0f} {unit}",
                      f"{min(rates):.0f} to {max(rates):.0f}", f"{quiet:.0%}"])  # fmt: skip
    return _table(["ceiling", "", "median", "over the cases", "of the processors, left by others"], lines)


def _targets(rows: Sequence[Row]) -> list[str]:
    known = [r for r in rows if r.reached is not None]
    short = [r for r in known if not r.reached]
    lines = [
        [r.result.case.name, f"{r.ratio:.2f}", f"{target(r.result.case):g}", str(r.peer), reason(r.result.case) or "?"]
        for r in short
    ]
    told = f"{len(known) - len(short)} of {len(known)} reached."
    return [told, _table(["falls short", "ratio", "target", "fastest peer", "reason"], lines)] if short else [told]


def _setup(rows: Sequence[Row]) -> str:
    """Compile time and masks, of forward cases at the main shape; MiB and seconds."""
    lines = []
    for r in rows:
        case, timings = r.result.case, r.result.timings
        if case.shape != MAIN or case.work not in ("forward", "forward+backward"):
            continue
        notes = {name: timings[name].notes for name in ("irc", "flex", "compiled") if name in timings}
        cells = [
            _number(notes.get("irc", {}).get("compile seconds"), 1),
            _number(notes.get("flex", {}).get("compile seconds"), 1),
            _number(notes.get("flex", {}).get("mask seconds"), 0.001),
            _number(notes.get("flex", {}).get("mask bytes"), 2**20),
            _number(notes.get("compiled", {}).get("compile seconds"), 1),
        ]
        if any(cells):
            lines.append([case.name, *cells])
    heads = [
        "case",
        "irc compiles, s",
        "flex compiles, s",
        "block mask, ms",
        "in MiB",
        "compiled compiles, s",
    ]
    said = "irc compiles forward and backward at once, and each text once: further cases with it find the kernels."
    return said + "\n\n" + _table(heads, lines)


def _memory(rows: Sequence[Row]) -> str:
    """MiB beyond what was held before, at the height of a first call."""
    chosen = [r for r in rows if r.result.case.shape == MAIN and r.result.case.work == "forward+backward"]
    chosen = [r for r in chosen or rows if r.result.case.threads == max(x.result.case.threads for x in rows)]
    names = [e.name for e in ENTRIES if any(_peak(r, e.name) for r in chosen)]
    lines = [[r.result.case.name, *(_number(_peak(r, n), 2**20) for n in names)] for r in chosen]
    return "MiB more than before, at the height of a first call.\n\n" + _table(["case", *names], lines)


def _peak(r: Row, name: str) -> float | None:
    timing = r.result.timings.get(name)
    return timing.peak if timing else None


def _contestants(store: Store) -> str:
    versions = store.header["versions"]
    lines = [[e.name, f"{e.distribution} {versions.get(e.distribution, '')}".strip(), e.about] for e in ENTRIES
             if any(e.name in r.timings for r in store.results)]  # fmt: skip
    farthest: dict[str, float] = {}
    for result in store.results:
        for timing in result.timings.values():
            for name, distance in timing.distances.items() if timing.seconds else ():
                where = f"of {'tables' if name in ('slope', 'table') else 'results'} in {result.case.dtype}"
                farthest[where] = max(farthest.get(where, 0.0), distance)
    agreed = ", ".join(f"{distance:.1e} {where}" for where, distance in farthest.items())
    said = f"The largest relative distance between irc and a peer that was timed: {agreed}."
    return _table(["", "", ""], lines) + "\n\n" + said


def _missing(rows: Sequence[Row]) -> str:
    """Each reason once, with the cases that it holds for."""
    reasons: dict[tuple[str, str], list[Case]] = {}
    for r in rows:
        for name, timing in r.result.timings.items():
            if timing.reason:
                reasons.setdefault((name, timing.reason), []).append(r.result.case)
    lines = [[name, why, _where(cases)] for (name, why), cases in reasons.items()]
    return _table(["", "reason", "cases"], lines)


def _where(cases: Sequence[Case]) -> str:
    parts: list[list[str]] = [[c.variant for c in cases], [c.work for c in cases], [c.dtype for c in cases]]
    return f"{len(cases)}: " + "; ".join(", ".join(dict.fromkeys(part)) for part in parts)


def _alone(stores: Sequence[Store], together: Path) -> list[str]:
    beside = {r.case: row(r).rates for r in Store.read(together).results} if together.exists() else {}
    lines = []
    for store in stores:
        for result in store.results:
            for name, rate in row(result).rates.items():
                shared = beside.get(result.case, {}).get(name)
                if shared:
                    lines.append([result.case.name, name, f"{rate:.1f}", f"{shared:.1f}", f"{shared / rate:.2f}"])
    about = "Each contestant in a process of its own, and the rate from the tables above as a part of that."
    return ["## Alone", about, _table(["case", "", "alone", "interleaved", "interleaved / alone"], lines)]


def _number(value: float | None, unit: float) -> str:
    return "" if value is None else f"{value / unit:.3g}" if value < 100 * unit else f"{value / unit:.0f}"


def _threads(number: int) -> str:
    return "1 thread" if number == 1 else f"{number} threads"


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in line] for line in lines)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
