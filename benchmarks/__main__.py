"""python -m benchmarks: irc beside its peers, in the same run, with the machine's ceilings."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from benchmarks import plot, report
from benchmarks.cases import DTYPES, MAIN, choose
from benchmarks.peers import ENTRIES
from benchmarks.processes import Limits, forget, run_alone, run_together
from benchmarks.variants import Shape

ABOUT = """\
Measures irc and its peers interleaved in one process for each number of threads: every round calls each once, and the
medians over the rounds are compared. Everyone's results are first checked against irc's. The machine's ceilings take
part in every round too.

Writes into the output folder: results.json after every case, and from it results.md and plots in the end. A run that
was interrupted goes on where it was when the same command is given again. It starts anew when irc, a peer or the limits
of a case have changed; the earlier results are then in results.old.
"""
EXAMPLES = """\
examples:
  python -m benchmarks                                  all of the standard cases, about twenty minutes
  python -m benchmarks --quick                          the main cases at one shape with few rounds, two minutes
  python -m benchmarks --only 'causal forward'          cases whose name has these words; may be given again
  python -m benchmarks --only decode --dtype bf16 --threads 2
  python -m benchmarks --shape 2,16,1024,128 --only window --peers sdpa,flex
  python -m benchmarks --list --only documents          names of cases, nothing measured
  python -m benchmarks --alone --only 'full forward'    each contestant in a process of its own, as it comes

A peer that is not installed is listed as absent; `make bench` installs all of them. On a busy machine the medians move:
the shares of ceilings, measured in the same rounds, tell how much.
"""


def _shape(text: str) -> Shape:
    numbers = text.split(",")
    if len(numbers) != 4 or not all(n.strip().isdecimal() and int(n) for n in numbers):
        raise argparse.ArgumentTypeError(f"expected four natural numbers B,H,S,D, got {text!r}")
    return Shape(*(int(n) for n in numbers))


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a number, 1 or more, got {text!r}")
    return int(text)


def _names(text: str) -> list[str]:
    known = [entry.name for entry in ENTRIES]
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"no peer {name!r}; there are {', '.join(known)}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=ABOUT,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--only", action="append", default=[], metavar="WORDS", help="cases whose name has all these words")
    add("--shape", action="append", default=[], type=_shape, metavar="B,H,S,D", help="every variant at this shape")
    add("--dtype", action="append", default=[], choices=list(DTYPES), help="standard: f32 and bf16, a few f16")
    add("--threads", action="append", default=[], type=_count, metavar="N", help="standard: 2 and 1")
    add("--peers", type=_names, metavar="NAME,…", help=f"of {', '.join(e.name for e in ENTRIES if e.name != 'irc')}")
    add("--everywhere", action="store_true", help=f"peers that store queries x keys at every shape, not {MAIN} alone")
    add("--rounds", type=_count, default=15, help="most rounds of a case (default 15)")
    add("--seconds", type=float, default=3.0, help="time after which a case ends, but for three rounds (default 3)")
    add("--quick", action="store_true", help="one shape, 2 threads, full and causal; at most 5 rounds of one second")
    add("--alone", action="store_true", help="no interleaving: what each peer reaches in a process of its own")
    add("--output", type=Path, metavar="DIR", help="default out/benchmarks, with --quick out/benchmarks-quick")
    add("--fresh", action="store_true", help="measure again what the output folder holds")
    add("--list", action="store_true", help="name the cases, and measure nothing")
    return parser


def main() -> None:
    parser = _parser()
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.seconds = min(given.rounds, 5), min(given.seconds, 1.0)
        given.threads = given.threads or [2]
        given.only = given.only or ["full", "causal"]
        given.shape = given.shape or [MAIN]
    given.output = given.output or Path("out/benchmarks-quick" if given.quick else "out/benchmarks")
    cases = choose(given.only, given.shape, given.dtype, given.threads)
    if not cases:
        parser.error("no case has these words; --list shows all")
    if given.list:
        print("\n".join(case.name for case in cases))
        return
    names = tuple(e.name for e in ENTRIES if given.peers is None or e.name in ("irc", *given.peers))
    limits = Limits(given.rounds, given.seconds, given.everywhere)
    if given.fresh:
        forget(given.output)
    given.output.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the process that measures ends as well
    try:
        if given.alone:
            run_alone(cases, names, limits, given.output)
        else:
            run_together(cases, names, limits, given.output)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from here")
    finally:
        report.write(given.output)
        plot.write(given.output)
        print(f"{given.output / report.FILE}", file=sys.stderr)


if __name__ == "__main__":
    main()
