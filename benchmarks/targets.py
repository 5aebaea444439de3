"""What the issue asks of each case, as a multiple of the fastest peer, and why a case that falls short does."""

from __future__ import annotations

import tomllib
from pathlib import Path

from benchmarks.cases import Case

REASONS = Path(__file__).with_name("reasons.toml")
CUSTOM = ("window", "alibi", "softcap", "documents")
CUSTOM_TARGETS = {"forward": 1.8, "forward+backward": 2.5}
DECODE = 1.2
TARGETS = {
    ("forward", "f32", "full"): 1.1,
    ("forward", "f32", "causal"): 1.6,
    ("forward", "bf16", "full"): 1.15,
    ("forward", "bf16", "causal"): 2.4,
    ("backward", "f32", "full"): 1.5,
    ("backward", "f32", "causal"): 2.0,
    ("backward", "bf16", "full"): 1.6,
    ("backward", "bf16", "causal"): 2.4,
}


def target(case: Case) -> float | None:
    """None where the issue sets none."""
    if case.decodes:
        return DECODE
    if case.variant in CUSTOM and case.dtype in ("f32", "bf16"):
        return CUSTOM_TARGETS.get(case.work)
    return TARGETS.get((case.work, case.dtype, case.variant))


def reason(case: Case) -> str:
    """Of `reasons.toml`, the text under the most words that all stand in the case's name; empty where there is none."""
    texts: dict[str, str] = tomllib.loads(REASONS.read_text(encoding="utf-8"))
    fitting = [words for words in texts if set(words.split()) <= set(case.name.split())]
    return texts[max(fitting, key=lambda words: len(words.split()))] if fitting else ""
