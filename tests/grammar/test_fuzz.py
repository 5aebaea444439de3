"""No text makes the parser do anything but parse it or report it."""

from __future__ import annotations

import random
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from irc.grammar.diagnostic import SyntaxErrors
from irc.grammar.parser import MOST_DIAGNOSTICS, parse
from irc.grammar.source import Source

PROGRAMS = [path.read_text() for path in sorted((Path(__file__).parents[2] / "examples").glob("*.attn"))]
FRAGMENTS = (
    *("attention", "size", "core", "project", "merge", "score", "softmax", "align", "allow", "let", "ensure", "over"),
    *("with", "nondecreasing", "assume", "stat", "mask", "drop", "sum", "offset", "not", "and", "true", "x", "h", "1"),
    *("{", "}", "(", ")", "[", "]", ",", ":", "=", "==", "<=", "+", "-", "*", "/", "//", "^", "**", "&&", "!", ";"),
    *("\n", "\n", "\r", "\x0c", " ", " ", "#", "1e999", ".5", "1.", "α", "@", "'", "\u2028", "\ufeff", "\0", "9" * 30),
)


def is_handled(text: str) -> None:
    source = Source("fuzz", text)
    try:
        parse(source)
    except SyntaxErrors as errors:
        found = errors.diagnostics
        assert 0 < len(found) <= MOST_DIAGNOSTICS
        assert [d.span.line for d in found] == sorted(d.span.line for d in found)
        for diagnostic in found:
            span = diagnostic.span
            assert 1 <= span.line <= span.end_line <= max(1, len(text.splitlines()))
            assert 1 <= span.column <= len(source.line(span.line)) + 2
            assert diagnostic.render()


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_random_text_is_parsed_or_reported(text: str) -> None:
    is_handled(text)


@settings(max_examples=600, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=60))
def test_random_fragments_are_parsed_or_reported(fragments: list[str]) -> None:
    is_handled(" ".join(fragments))
    is_handled("attention a {\n" + "".join(fragments))


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(PROGRAMS), st.integers(0, 2**32), st.integers(1, 6))
def test_mutated_programs_are_parsed_or_reported(program: str, seed: int, changes: int) -> None:
    chance = random.Random(seed)
    for _ in range(changes):
        start = chance.randrange(len(program) + 1)
        end = min(len(program), start + chance.choice((0, 1, 1, 2, 8, 40)))
        program = program[:start] + chance.choice(("", *FRAGMENTS)) + program[end:]
    is_handled(program)


def test_deep_and_long_inputs_are_reported() -> None:
    chains = ("-" * 5000 + "x", "not " * 5000 + "x", "1+" * 5000 + "1", "2^" * 3000 + "2", "1<" * 3000 + "2")
    for text in (*chains, "(" * 5000, "{" * 5000, "x[" * 3000, "9" * 9000):
        is_handled(text)
        is_handled("attention a {\nassume " + text + "\n}\n")
