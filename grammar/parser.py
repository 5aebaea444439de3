"""Text to syntax tree.

The grammar is attention.lark; lexer and tables are lark's. Between the two stands layout.py, behind them nodes.py.
After a mistake the parser forgets the statement it is in and goes on with the next one, so that one run reports all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from irc.grammar.diagnostic import Diagnostic, SyntaxErrors
from irc.grammar.places import Places
from irc.grammar.source import Source
from irc.grammar.syntax import Attention

if TYPE_CHECKING:
    from lark import Lark, Token

MOST_DIAGNOSTICS = 20

Keep = Callable[[str, Callable[[], bytes]], bytes]  # of the grammar and what makes its tables: the tables


def parse(source: Source, keep: Keep = lambda _, make: make()) -> tuple[Attention, ...]:
    """The programs of a text, in their order. Raises `SyntaxErrors` with every mistake found, up to 20, by line.
    keep: where tables may be kept, which take twenty times as long to make as to read."""
    # Here, because lark takes longer to import than most programs take to run.
    from irc.grammar.layout import lay_out
    from irc.grammar.nodes import build
    from irc.grammar.recovery import run

    places = Places(source)
    fresh = _tables(keep).parse_interactive(source.text)
    tokens, found = lay_out(list(fresh.lexer_thread.lex(fresh.parser_state)), places)  # type: ignore[no-untyped-call]
    tree = run(fresh, tokens, places, found)
    programs = build(tree, places, found) if tree is not None else ()
    if found:
        raise SyntaxErrors(_in_order(found))
    return programs


def _in_order(found: list[Diagnostic]) -> tuple[Diagnostic, ...]:
    """The first diagnostics by place. Two at one place are one mistake seen twice, and the first saw it closer."""
    first: dict[tuple[int, int], Diagnostic] = {}
    for diagnostic in found:
        first.setdefault((diagnostic.span.line, diagnostic.span.column), diagnostic)
    return tuple(first[place] for place in sorted(first))[:MOST_DIAGNOSTICS]


class _Kept:
    """Asks lark to keep terminals that no rule uses. The layout uses them."""

    always_accept = ("NEWLINE", "FOREIGN", "STRANGE")

    @staticmethod
    def process(stream: Iterator[Token]) -> Iterator[Token]:
        return stream


@cache
def _tables(keep: Keep) -> Lark:
    from lark import Lark

    grammar = Path(__file__).with_name("attention.lark").read_text(encoding="utf-8")

    def make() -> bytes:
        made = BytesIO()
        Lark(grammar, parser="lalr", lexer="basic", postlex=_Kept(), propagate_positions=True).save(made)
        return made.getvalue()

    return Lark.load(BytesIO(keep(grammar, make)))
