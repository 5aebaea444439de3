"""The statement words, and which of them may begin a statement where."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

NORMALISERS = ("softmax", "sigmoid", "relu", "normalize", "linear")

# Where a statement stands: at the top of a file, or inside the braces that follow one of these words.
STATEMENTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "file": ("attention",),
        "attention": (
            *("size", "input", "param", "const", "scalar", "assume", "let"),
            *("project", "core", "merge", "return", "ensure"),
        ),
        "project": ("let",),
        "merge": ("let",),
        "core": (
            *(
                "align",
                "score",
                "scale",
                "bias",
                "map",
                "allow",
                "block",
                *NORMALISERS,
                "drop",
                "matmul",
                "stat",
                "let",
            ),
        ),
    }
)

ALL_STATEMENTS = frozenset(word for words in STATEMENTS.values() for word in words)
BLOCKS = frozenset({"attention", "project", "merge", "core"})

FOREIGN: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "&&": ("AND", "and"),
        "&": ("AND", "and"),
        "∧": ("AND", "and"),
        "||": ("OR", "or"),
        "|": ("OR", "or"),
        "∨": ("OR", "or"),
        "!": ("NOT", "not"),
        "~": ("NOT", "not"),
        "¬": ("NOT", "not"),
        "**": ("CARET", "^"),
        "=>": ("COMPARATOR", ">="),
        "=<": ("COMPARATOR", "<="),
        "<>": ("COMPARATOR", "!="),
        "≤": ("COMPARATOR", "<="),
        "≥": ("COMPARATOR", ">="),
        "⩽": ("COMPARATOR", "<="),
        "⩾": ("COMPARATOR", ">="),
        "≠": ("COMPARATOR", "!="),
        "·": ("STAR", "*"),
        "⋅": ("STAR", "*"),
        "∗": ("STAR", "*"),
        "×": ("STAR", "*"),
        "−": ("MINUS", "-"),
        "÷": ("SLASH", "/"),
        "∕": ("SLASH", "/"),
    }
)
"""Operators of other languages: the terminal and the spelling that ours has for each."""


def nearest(word: str, choices: tuple[str, ...]) -> str | None:
    """The choice that `word` is most likely a slip for, if any."""
    found = get_close_matches(word.lower(), choices, n=1, cutoff=0.6)
    return found[0] if found else None
