"""Drives the parser over the tokens, and past every mistake to the next statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from lark import Token, Tree
from lark.exceptions import UnexpectedToken

from irc.grammar.diagnostic import Diagnostic
from irc.grammar.expectation import unexpected
from irc.grammar.places import Places

if TYPE_CHECKING:
    from lark.parsers.lalr_interactive_parser import InteractiveParser

# What stands in for a broken header, so that the statements inside its braces are read all the same.
HEADERS: Final = {
    "ATTENTION": ("ATTENTION", "NAME"),
    "PROJECT": ("PROJECT",),
    "MERGE": ("MERGE",),
    "CORE": ("CORE", "NAME", "LSQB", "NAME", "RSQB"),
}


def run(
    parser: InteractiveParser, tokens: Sequence[Token], places: Places, found: list[Diagnostic]
) -> Tree[Token] | None:
    """The tree of the whole text, or None where `found` has grown. `tokens` are laid out, so braces balance."""
    state = parser.parser_state
    index = start = 0
    boundary = list(state.state_stack), list(state.value_stack)
    while index < len(tokens):
        before = list(state.state_stack), list(state.value_stack)
        try:
            parser.feed_token(tokens[index])
        except UnexpectedToken:
            state.state_stack[:], state.value_stack[:] = before
            end = _end(tokens, start)
            if not _spoilt(tokens[start:end], found, places):
                found.append(unexpected(tokens, start, index, parser.accepts(), places))  # type: ignore[no-untyped-call]
            state.state_stack[:], state.value_stack[:] = boundary
            index = _resume(parser, tokens, start)
        else:
            index += 1
        if tokens[index - 1].type in ("_END", "LBRACE"):
            start = index
            boundary = list(state.state_stack), list(state.value_stack)
    if found:
        return None
    end_of_file = len(places.source.text)
    try:
        tree: Tree[Token] = parser.feed_token(Token("$END", "", start_pos=end_of_file, end_pos=end_of_file))
    except UnexpectedToken:
        # Only statements can be missing here: an unfinished one has failed at its _END.
        span = places.span(end_of_file, end_of_file)
        help = "a program begins with `attention name {`"
        found.append(Diagnostic("E001", "expected `attention`, found end of file", span, help=help))
        return None
    return tree


def _end(tokens: Sequence[Token], start: int) -> int:
    """The index after the last token of the statement that begins at `start`, or of its header if it has a block."""
    index = start
    while tokens[index].type not in ("_END", "LBRACE"):
        index += 1
    return index + 1


def _spoilt(statement: Sequence[Token], found: Sequence[Diagnostic], places: Places) -> bool:
    """Whether something in the statement has been reported, of which the rest is likely to be the consequence."""
    span = places.span(statement[0].start_pos or 0, statement[-1].end_pos or 0)
    first, last = (span.line, span.column), (span.end_line, span.end_column)
    return any(first <= (other.span.line, other.span.column) <= last for other in found)


def _resume(parser: InteractiveParser, tokens: Sequence[Token], start: int) -> int:
    """Brings the parser, which stands before a broken statement, to where it can go on, and says at which token."""
    index = _end(tokens, start)
    if tokens[index - 1].type == "_END":
        return index
    state = parser.parser_state
    boundary = list(state.state_stack), list(state.value_stack)
    try:
        for kind in (*HEADERS[tokens[start].type], "LBRACE"):
            parser.feed_token(Token(kind, "_", start_pos=0, end_pos=0))
    except (KeyError, UnexpectedToken):
        state.state_stack[:], state.value_stack[:] = boundary
        return _after_block(tokens, index)
    return index


def _after_block(tokens: Sequence[Token], index: int) -> int:
    """The index after a block whose first token stands at `index`, and after the end of its statement."""
    depth = 1
    while depth:
        depth += {"LBRACE": 1, "RBRACE": -1}.get(tokens[index].type, 0)
        index += 1
    return index + 1
