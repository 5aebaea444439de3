"""Names of a program as C++ has them, beside the templates' own.

A name of the spec is printed as it is written, unless C++ or a template has it too: any word that stands in a template,
so that nobody keeps a list. Names that the compiler makes have a dot or a space, which no name of the spec has: `d.q`
is printed as `d__q`; with a space it is a template's own variable, `row first` is `row_first`.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"

KEYWORDS = frozenset(
    """alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t char8_t class
    co_await co_return co_yield compl concept const const_cast consteval constexpr constinit continue decltype
    default delete do double dynamic_cast else enum explicit export extern false float for friend goto if inline int
    long mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public register
    reinterpret_cast requires return short signed sizeof static static_assert static_cast struct switch template
    this thread_local throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t
    while xor xor_eq irc std stdin stdout stderr""".split()  # noqa: SIM905
)
_OWN = ("row_", "column_", "span_", "size_", "panel_", "batch_", "draws_", "gather_", "made_", "pairs_", "search_")
"""How names begin that are made here, beside those in templates."""

OF_TENSORS = re.compile(r"_(ptr|s[0-9]+)$")
"""How names end that are a tensor's: its pointer and its strides."""


def plain(name: str) -> str:
    """Letters, digits and underscores; a double underscore of the spec is spelt out, so that one stands for a dot."""
    name = name.replace("u5f", "u75u35u66").replace("__", "u5fu5f").replace(".", "__")
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else f"u{ord(c):x}" for c in name)


def identifier(name: str) -> str:
    """A name of an index or a value as a C++ identifier, which differs from all others."""
    if " " in name:
        return name.replace(" ", "_")
    text = plain(name)
    if "." in name:
        return text
    if not text or text[0].isdigit():
        return f"n{text}"
    return f"{text}__" if _is_taken(text) else text


def size_name(name: str) -> str:
    text = plain(name)
    return f"size_{text}__" if OF_TENSORS.search(text) else f"size_{text}"


def pointer_name(tensor: str) -> str:
    return f"{plain(tensor)}_ptr"


def stride_name(tensor: str, dimension: int) -> str:
    return f"{plain(tensor)}_s{dimension}"


@cache
def _is_taken(text: str) -> bool:
    words, begins, ends = _vocabulary()
    is_macro = text.isupper() and len(text) > 1
    return bool(is_macro or text in words or text.startswith(begins) or text.endswith(ends) or OF_TENSORS.search(text))


@cache
def _vocabulary() -> tuple[frozenset[str], tuple[str, ...], tuple[str, ...]]:
    """Words of the templates and of C++, and what names begin and end with that templates make of others."""
    printed = (path for path in sorted(TEMPLATES.rglob("*.j2")) if path.suffixes[0] not in (".h", ".cuh"))
    code = "\n".join(map(_code, printed))
    words = set(re.findall(r"(?<![\w\0.])[A-Za-z_]\w*(?![\w\0])", code))
    begins, ends = re.findall(r"(?<![\w\0])([A-Za-z]\w*_)\0", code), re.findall(r"\0(_\w+)(?![\w\0])", code)
    return KEYWORDS | words, tuple({*_OWN, *begins}), tuple(set(ends))


def _code(path: Path) -> str:
    """The template without comments and texts, and a zero where an expression stands."""
    text = re.sub(r"\{#.*?#\}|\{%.*?%\}", " ", path.read_text(encoding="utf-8"), flags=re.S)
    text = re.sub(r"\{\{.*?\}\}", "\0", text, flags=re.S)
    return re.sub(r'//.*|"[^"\n]*"|#include.*', "", text)
