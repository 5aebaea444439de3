"""BERT's tokeniser for lower-cased text: split on spaces and punctuation, then greedily into the longest known pieces.

As described by Devlin et al. 2019 and Wu et al. 2016. The vocabulary is a text file with one piece a line; a piece
that continues a word starts with `##`.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path


class WordPiece:
    def __init__(self, vocabulary: Path) -> None:
        pieces = vocabulary.read_text(encoding="utf-8").split("\n")
        self.ids = {piece: number for number, piece in enumerate(pieces) if piece}

    def __call__(self, text: str, limit: int) -> list[int]:
        """The token ids of a text between [CLS] and [SEP], at most `limit` in all."""
        pieces = [piece for word in words(text) for piece in self.split(word)]
        return [self.ids[p] for p in ["[CLS]", *pieces[: limit - 2], "[SEP]"]]

    def split(self, word: str) -> list[str]:
        """The word as known pieces, the longest first; one [UNK] where that fails."""
        pieces, start = [], 0
        while start < len(word):
            mark = "##" if start else ""
            ends = (end for end in range(len(word), start, -1) if mark + word[start:end] in self.ids)
            end = next(ends, None)
            if end is None or len(word) > 100:
                return ["[UNK]"]
            pieces.append(mark + word[start:end])
            start = end
        return pieces


def words(text: str) -> list[str]:
    """Lower-cased words without accents; every punctuation mark and every Chinese character is a word of its own."""
    plain = unicodedata.normalize("NFD", text.lower())
    spaced = []
    for char in plain:
        category = unicodedata.category(char)
        if char.isspace():
            spaced.append(" ")
        elif category == "Mn" or category.startswith("C") or char == "\ufffd":
            continue
        elif is_mark(char, category) or "\u4e00" <= char <= "\u9fff" or "\u3400" <= char <= "\u4dbf":
            spaced.append(f" {char} ")
        else:
            spaced.append(char)
    return "".join(spaced).split()


def is_mark(char: str, category: str) -> bool:
    """Unicode punctuation, and every ASCII character that is neither letter, digit nor space (`$` and `^` too)."""
    return category.startswith("P") or ("!" <= char <= "~" and not char.isalnum())
