"""Frozen nodes as an indented listing: syntax trees and kernels, for reading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from irc.codegen.expr import Axis, Const, Index, Load, Local, Op, Size
from irc.grammar.source import Span
from irc.graph.printer import expression

HIDDEN = ("span", "op_span", "source")


def dump(node: object) -> str:
    """One line a node; expressions over the graph in index notation, plain values beside the node's name."""
    return "\n".join(_lines(node, 0, ""))


def _lines(node: Any, depth: int, label: str) -> Iterator[str]:
    lead = "  " * depth + label
    short = _short(node)
    if short is not None:
        yield lead + short
        return
    if isinstance(node, tuple):
        yield f"{lead}({len(node)})"
        for item in node:
            yield from _lines(item, depth + 1, "")
        return
    inline, below = [], []
    for field in fields(node):
        if field.name in HIDDEN:
            continue
        value = getattr(node, field.name)
        written = _short(value)
        if written is None:
            below.append((field.name, value))
        else:
            inline.append(f"{field.name}={written}")
    yield f"{lead}{type(node).__name__} {' '.join(inline)}".rstrip()
    for name, value in below:
        yield from _lines(value, depth + 1, f"{name}: ")


def _short(value: Any) -> str | None:
    """The value on one line, None where it needs more."""
    match value:
        case Const() | Index() | Size() | Load() | Local() | Op():
            return expression(value)
        case Axis(name, size, role):
            return f"{name}:{expression(size)}" + (f" ({role})" if role else "")
        case Span():
            return f"{value.line}:{value.column}"
        case tuple():
            parts = [_short(item) for item in value]
            return None if None in parts else f"({', '.join(str(p) for p in parts)})"
        case _:
            return None if is_dataclass(value) else str(value)
