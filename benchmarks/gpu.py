"""irc beside PyTorch's fused attention on a CUDA device: `python -m benchmarks.gpu [--out DIR] [--quick]`, or of a few
cases, where time is short: `--width 128 --length 8192,16384 --variant full,causal`.

Forward and backward in bf16, interleaved: every contestant once a round, medians over the rounds, by CUDA's events.
Rates are of useful work: 4 D operations a pair that the mask allows forward, 10 D backward, whatever anyone computes.
Without a device it says so and exits with 3.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

PASSES = {"forward": 4, "backward": 10}  # operations a feature and pair
WIDTHS, LENGTHS = (64, 128, 256), (512, 1024, 2048, 4096, 8192, 16384)
TOKENS, FEATURES = 16384, 2048  # batch · sequence, heads · width: the same work a token in every case
WINDOW, DOCUMENTS, CAP = 1024, 8, 30.0
ROUNDS = 9
MISSING = 3  # exit code

# What each variant adds: declarations, lines of its core.
VARIANTS: dict[str, tuple[str, str]] = {
    "full": ("", ""),
    "causal": ("", "allow j <= i"),
    "window": ("", f"allow i - {WINDOW} < j and j <= i"),
    "documents": (
        "input doc[B,S]: int\n  assume nondecreasing doc[b,s] over s",
        "allow doc[b,i] == doc[b,j] and j <= i",
    ),
    "alibi": ("const slope[H]", "bias slope[h] * (j - i)\n    allow j <= i"),
    "soft cap": ("", f"map {CAP} * tanh(score / {CAP})\n    allow j <= i"),
    "learnable bias": ("param T[H, 2 * S - 1]", "bias T[h, i - j + S - 1]"),
    "decode": ("", ""),  # of a sequence its last query alone
}
TEXT = """attention bench {{
  size B, H, S, D
  input q[B,H,{queries},D], k[B,H,S,D], v[B,H,S,D]
  {declared}
  core o[b,h,i,d] {{
    score q[b,h,i,c] * k[b,h,j,c]
    scale 1 / sqrt(D)
    {lines}
    softmax j
    matmul v[b,h,j,d]
  }}
  return o
}}
"""


@dataclass(frozen=True)
class Case:
    variant: str
    width: int
    length: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, H, S, D) of keys."""
        return TOKENS // self.length, FEATURES // self.width, self.length, self.width

    @property
    def queries(self) -> int:
        return 1 if self.variant == "decode" else self.length

    @property
    def text(self) -> str:
        """The program."""
        declared, lines = VARIANTS[self.variant]
        queries = "S" if self.queries == self.length else str(self.queries)
        return TEXT.format(declared=declared, lines=lines, queries=queries)

    @property
    def pairs(self) -> int:
        """Of query and key that the mask allows, of one head of one sequence."""
        n = self.length
        match self.variant:
            case "full" | "learnable bias" | "decode":
                return self.queries * n
            case "window":
                rest = max(0, n - WINDOW)  # rows that see a whole window
                return (n - rest) * (n - rest + 1) // 2 + rest * WINDOW
            case "documents":
                return DOCUMENTS * ((n // DOCUMENTS) * (n // DOCUMENTS + 1) // 2)
            case _:
                return n * (n + 1) // 2

    def work(self, which: str) -> int:
        """Operations of a pass."""
        batch, heads, _, width = self.shape
        return PASSES[which] * batch * heads * self.pairs * width


@dataclass(frozen=True)
class Result:
    """Median milliseconds by contestant, and why others are not among them."""

    case: Case
    which: str
    milliseconds: Mapping[str, float]
    refused: Mapping[str, str]

    def rate(self, name: str) -> float:
        """TFLOP/s."""
        return self.case.work(self.which) / self.milliseconds[name] / 1e9


def cases(
    widths: Sequence[int] = WIDTHS, lengths: Sequence[int] = LENGTHS, variants: Sequence[str] = tuple(VARIANTS)
) -> list[Case]:
    return [Case(*found) for found in product(variants, widths, lengths)]


def table(results: Sequence[Result], which: str, width: int, peak: float) -> str:
    """Rates of one pass and width in Markdown: a row for each case, irc first."""
    chosen = [r for r in results if r.which == which and r.case.width == width]
    names = ["irc", *sorted({name for r in chosen for name in r.milliseconds} - {"irc"})]
    lines = [f"| variant | S | {' | '.join(names)} | irc / best peer | irc / peak |", "|---" * (len(names) + 4) + "|"]
    for r in chosen:
        rates = {name: r.rate(name) for name in names if name in r.milliseconds}
        peers = [rate for name, rate in rates.items() if name != "irc"]
        cells = [f"{rates[name]:.1f}" if name in rates else "" for name in names]
        own = rates.get("irc")
        ratio = f"{own / max(peers):.2f}" if own is not None and peers else ""
        share = f"{own / peak:.0%}" if own is not None else ""
        lines.append(f"| {r.case.variant} | {r.case.length} | {' | '.join(cells)} | {ratio} | {share} |")
    return "\n".join(lines)


def report(results: Sequence[Result], header: Mapping[str, Any]) -> str:
    peak = header["peak"]
    parts = [
        f"# irc on {header['device']}",
        f"{header['date']}; {header['versions']}. Peak: a bf16 product by cuBLAS, {peak:.0f} TFLOP/s. "
        f"(B·S, H·D) = ({TOKENS}, {FEATURES}), bf16, TFLOP/s of useful work, medians of {ROUNDS} rounds.",
    ]
    for which, width in product(PASSES, sorted({r.case.width for r in results})):
        parts += [f"## {which}, D = {width}", table(results, which, width, peak)]
    refused = sorted({f"- {name}: {r.case.variant}: {why}" for r in results for name, why in r.refused.items()})
    return "\n\n".join([*parts, "## What is not in the tables", "\n".join(refused) or "Nothing."]) + "\n"


def pictures(results: Sequence[Result], folder: Path) -> None:
    """Rates over lengths: a file for each pass and width, a panel for each variant."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    for which, width in product(PASSES, sorted({r.case.width for r in results})):
        figure, axes = pyplot.subplots(1, len(VARIANTS), figsize=(3 * len(VARIANTS), 3), sharey=True, squeeze=False)
        for axis, variant in zip(axes[0], VARIANTS, strict=True):
            chosen = [r for r in results if (r.which, r.case.width, r.case.variant) == (which, width, variant)]
            for name in sorted({name for r in chosen for name in r.milliseconds}):
                points = [(r.case.length, r.rate(name)) for r in chosen if name in r.milliseconds]
                axis.plot(*zip(*points, strict=True), marker="o", label=name, linewidth=3 if name == "irc" else 1)
            axis.set(title=variant, xlabel="S", xscale="log")
            if chosen:
                axis.legend(fontsize="x-small")
        axes[0, 0].set_ylabel("useful TFLOP/s")
        figure.tight_layout()
        figure.savefig(folder / f"{which}_{width}.png", dpi=110)
        pyplot.close(figure)


def _numbers(text: str) -> tuple[int, ...]:
    found = tuple(int(part) for part in text.split(","))
    if any(number <= 0 or TOKENS % number for number in found):
        raise argparse.ArgumentTypeError(f"expected numbers that divide {TOKENS}")
    return found


def _variants(text: str) -> tuple[str, ...]:
    found = tuple(text.split(","))
    if unknown := [name for name in found if name not in VARIANTS]:
        raise argparse.ArgumentTypeError(f"there is no {unknown[0]}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, help="folder for results.md, results.json and pictures")
    parser.add_argument("--quick", action="store_true", help="width 64 and lengths 2048 and 8192 alone")
    parser.add_argument("--width", type=_numbers, metavar="N,...", help="of heads (default 64,128,256)")
    parser.add_argument("--length", type=_numbers, metavar="N,...", help="of sequences (default 512 to 16384)")
    parser.add_argument("--variant", type=_variants, metavar="NAME,...", help=f"of {', '.join(VARIANTS)}")
    given = parser.parse_args(arguments)
    widths = given.width or ((64,) if given.quick else WIDTHS)
    lengths = given.length or ((2048, 8192) if given.quick else LENGTHS)
    chosen = cases(widths, lengths, given.variant or tuple(VARIANTS))
    import irc
    from benchmarks.machine import describe

    try:
        from irc.runtime.cuda import device

        found = device.find()
        from benchmarks import gpu_contestants  # needs PyTorch

        gpu_contestants.check()
    except (irc.DeviceError, ImportError) as error:
        print(f"no benchmark on a device: {error}", file=sys.stderr)
        return MISSING
    peak = gpu_contestants.peak()
    header = {
        "device": found.name,
        "date": date.today().isoformat(),
        "versions": f"irc at {describe()['commit']}, {gpu_contestants.versions()}",
        "peak": peak,
    }
    folder = given.out or Path(__file__).parent / "results" / f"{header['date']}-{found.name.replace(' ', '-')}"
    folder.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    for case in chosen:
        for which in PASSES:
            times, refused = gpu_contestants.measure(case, which, ROUNDS)
            medians = {name: statistics.median(values) for name, values in times.items()}
            results.append(Result(case, which, medians, refused))
            said = ", ".join(f"{name} {results[-1].rate(name):.1f}" for name in medians)
            print(f"{case.variant}, S {case.length}, D {case.width}, {which}: {said}", flush=True)
        raw = {"header": header, "results": [asdict(r) for r in results]}
        (folder / "results.json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
        (folder / "results.md").write_text(report(results, header), encoding="utf-8")
    pictures(results, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
