"""What a user is told about a mistake of syntax: its code, place, message and way out."""

from __future__ import annotations

import pytest

from irc.grammar.diagnostic import Diagnostic, SyntaxErrors
from irc.grammar.parser import MOST_DIAGNOSTICS, parse
from irc.grammar.source import Source


def mistakes(text: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(SyntaxErrors) as caught:
        parse(Source("test", text))
    return caught.value.diagnostics


def the_mistake(text: str) -> Diagnostic:
    found = mistakes(text)
    assert len(found) == 1, "\n".join(d.render() for d in found)
    return found[0]


def in_core(line: str) -> str:
    return f"attention a {{\n  core o[b,i] {{\n    {line}\n    softmax j\n  }}\n  return o\n}}\n"


def in_program(lines: str) -> str:
    return f"attention a {{\n{lines}\n}}\n"


@pytest.mark.parametrize(
    ("line", "code", "under", "message", "help"),
    [
        ("score q[b,i] +", "E001", "", "expected an expression after `+`, found end of line", "inside ( ) and [ ]"),
        ("score 2 q[b,i]", "E001", "q", "expected an operator or end of line after `2`, found `q`", "write `*`"),
        ("score + q[b,i]", "E001", "+", "expected an expression after `score`, found `+`", "leave the `+` out"),
        ("allow j = i", "E001", "=", "expected an operator or end of line after `j`, found `=`", "write `==`"),
        ("allow x if y", "E001", "if", "expected an operator or end of line after `x`, found `if`", "where("),
        ("let x == 3", "E001", "==", "expected `=` after `x`, found `==`", "write `=` to define"),
        ("score = q[b,i]", "E001", "=", "expected an expression after `score`, found `=`", "leave the `=` out"),
        ("score += 1", "E001", "+", "expected an expression after `score`, found `+`", "is a `bias`"),
        ("map max(a, dim=1)", "E001", "=", "expected an operator, `,` or `)` after `dim`, found `=`", "have no names"),
        (
            "allow j in doc",
            "E001",
            "in",
            "expected an operator or end of line after `j`, found `in`",
            "low <= j < high",
        ),
        ("allow j is i", "E001", "is", "expected an operator or end of line after `j`, found `is`", "write `==`"),
        ("score x // a dot", "E001", "dot", "expected an operator or end of line after `a`, found `dot`", "with `#`"),
        ("softmax(score, 1)", "E001", ",", "expected a name or a number after `score`, found `,`", "`softmax j`"),
        ("softmax j with", "E001", "", "expected an expression after `with`, found end of line", None),
        ("if j <= i", "E001", "if", "there is no statement `if`", "`allow p` says which pairs exist"),
        ("score_mod(x) = x", "E001", "score_mod", "there is no statement `score_mod`", "`map e`"),
        ("score q[b,0:2]", "E001", ":", "expected an operator, `,` or `]` after `0`, found `:`", "the whole axis"),
        ("scroe q[b,i]", "E001", "scroe", "there is no statement `scroe`", "did you mean `score`?"),
        ("foo bar", "E001", "foo", "expected a statement in `core`, found `foo`", "one of `align`, `score`"),
        ("y[b] = 3", "E001", "y", "expected a statement in `core`, found `y`", "an index assignment stands in"),
        ("size B", "E001", "size", "`size` cannot stand inside `core`", "it is a statement of `attention`"),
        ("and x", "E001", "and", "expected a statement, found `and`", "put the expression in ( )"),
        ("// note", "E001", "//", "expected a statement, found `//`", "a comment begins with `#`"),
        ("align frist", "E001", "frist", "there is no alignment `frist`", "did you mean `align first`?"),
        ("align offset", "E001", "offset", "expected an expression after `offset`, found end of line", None),
        ("align last 3", "E001", "3", "`align last` takes nothing more", "an offset is `align offset e`"),
        ("scale 2d", "E001", "2d", "`2d` is neither a number nor a name", "write `2 * d`"),
        ("bias max(n: x)", "E001", "max", "expected `sum(n: …)`, found `max(…: …)`", "only `sum`"),
        ("bias f(a b)", "E001", ")", "expected a name or `:` after `b`, found `)`", "separated by `,`"),
        ("allow ()", "E001", ")", "expected an expression after `(`, found `)`", None),
        ("allow x && y", "E002", "&&", "there is no operator `&&`", "write `and`"),
        ("allow x || y", "E002", "||", "there is no operator `||`", "write `or`"),
        ("allow !x", "E002", "!", "there is no operator `!`", "write `not`"),
        ("allow ~x", "E002", "~", "there is no operator `~`", "write `not`"),
        ("scale x ? 1 : 2", "E002", "?", "unexpected character `?`", "write `where("),
        ("scale 1 / math.sqrt(D)", "E002", ".", "unexpected character `.`", "as in `sqrt(D)`"),
        ("scale q[b, ...]", "E002", ".", "unexpected character `.`", "every index is written"),
        ("scale D ** 2", "E002", "**", "there is no operator `**`", "write `^`"),
        ("allow j ≤ i", "E002", "≤", "there is no operator `≤`", "write `<=`"),
        ("align last;", "E002", ";", "statements are not separated by `;`", "end the line instead"),
        ("map α * α", "E002", "α", "unexpected character `α`", "letters a to z"),
        ("score q[b,i] @ k", "E002", "@", "unexpected character `@`", "x[b,s,e] * W[e,f]"),
        ("score (q[b,i]", "E003", "(", "`(` is never closed", "write the `)`"),
        ("score q[b,i)", "E003", ")", "expected `]` to close `[`, found `)`", None),
        ("score q[b,i])", "E003", ")", "`)` closes nothing that was opened", None),
        (
            "mask j <= i",
            "E004",
            "mask",
            "`mask` does not say whether it keeps or removes",
            "`block p` for what may not",
        ),
        ("scale 1e999", "E006", "1e999", "the number is too large", None),
        (f"scale {'9' * 5000}", "E006", "9" * 5000, "the number is too large", None),
    ],
)
def test_a_mistake_in_a_core(line: str, code: str, under: str, message: str, help: str | None) -> None:
    found = the_mistake(in_core(line))
    assert (found.code, found.message, found.span.text(), found.span.line) == (code, message, under, 3)
    assert found.help is None if help is None else help in (found.help or "")


@pytest.mark.parametrize(
    ("lines", "code", "under", "message", "help"),
    [
        ("scalar w: int = 8", "E001", "=", "expected `,` or end of line after `int`, found `=`", "`let w = …`"),
        ("size B,", "E001", "", "expected a name after `,`, found end of line", "inside ( ) and [ ]"),
        ("input x: itn", "E001", "itn", "there is no type `itn`", "did you mean `int`?"),
        ("const b[(2.5 h)]", "E001", "2.5", "expected a whole number in a product axis, found `2.5`", None),
        ("input x[B", "E003", "[", "`[` is never closed", "write the `]`"),
        ("assume nondecreasing d[s]", "E001", "", "expected an operator or `over` after `]`, found end of line", None),
        ("ensure x == 3", "E001", "x == 3", "expected `allow == …`, found `x == …`", None),
        ("block x", "E001", "block", "`block` cannot stand inside `attention`", "it is a statement of `core`"),
        ("merge {\n y = 3\n}", "E001", "=", "expected `[` after `y`, found `=`", "`let y = …`"),
        ("merge { y[b] = }", "E001", "", "expected an expression after `=`, found `}`", None),
        ("size B {\n foo\n}", "E001", "{", "expected `,`, `=` or end of line after `B`, found `{`", None),
        ("}", "E003", "}", "`}` closes nothing that was opened", None),
    ],
)
def test_a_mistake_in_a_program(lines: str, code: str, under: str, message: str, help: str | None) -> None:
    found = the_mistake(in_program(lines))
    assert (found.code, found.message, found.span.text()) == (code, message, under)
    assert found.help is None if help is None else help in (found.help or "")


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n"])
def test_an_empty_text_asks_for_a_program(text: str) -> None:
    assert the_mistake(text).message == "expected `attention`, found end of file"


def test_every_mistake_is_found_in_one_run_and_sorted_by_line() -> None:
    text = in_program("sise B\ncore o b {\n  socre x\n  allow j = i\n}\nmerge {\n  y = 3\n  z[b] = (1\n}\nreturn y y")
    assert [d.span.line for d in mistakes(text)] == [2, 3, 4, 5, 8, 9, 11]


def test_a_broken_statement_is_reported_once() -> None:
    assert the_mistake(in_core("allow x @ y @ z w = 3")).code == "E002"


def test_no_more_than_the_limit_is_reported() -> None:
    assert len(mistakes(in_program("size\n" * 50))) == MOST_DIAGNOSTICS


def test_a_core_without_its_closing_brace_is_named() -> None:
    found = the_mistake("attention a {\n  core o[b] {\n    score x\n  return o\n}")
    assert (found.code, found.span.line, found.message) == ("E003", 2, "the `{` of `core` is never closed")
    assert found.notes[0].span is not None and found.notes[0].span.text() == "return"


def test_a_program_without_its_closing_brace_is_named() -> None:
    found = the_mistake("attention a {\n  size B\n")
    assert (found.code, found.span.line, found.message) == ("E003", 1, "the `{` of `attention` is never closed")


def test_an_open_bracket_does_not_hide_the_next_statement() -> None:
    found = mistakes(in_core("score (q[b,i]\n    allow x y"))
    assert [(d.code, d.span.line) for d in found] == [("E003", 3), ("E001", 4)]


def test_operations_nested_without_end_are_refused() -> None:
    assert the_mistake(in_core("score " + "-" * 300 + "x")).code == "E006"


def test_the_diagnostic_is_drawn_with_a_caret() -> None:
    assert the_mistake(in_core("allow j = i")).render() == (
        "test:3:13: error[E001]: expected an operator or end of line after `j`, found `=`\n"
        "  3 |     allow j = i\n"
        "    |             ^\n"
        "  help: write `==` to compare"
    )


def test_of_a_very_long_line_is_drawn_what_stands_around_the_place() -> None:
    text = "score " + "x + " * 100 + "y y" + " + x" * 100
    shown, carets = the_mistake(in_core(text)).render().splitlines()[1:3]
    assert len(shown) < 220 and shown.count("…") == 2
    assert shown[carets.index("^") :].startswith("y + x") and shown[: carets.index("^")].endswith("x + y ")
    shown, carets = the_mistake(in_core("score " + "-" * 3000 + "x")).render().splitlines()[1:3]
    assert len(carets) <= len(shown) < 220 and set(carets.partition("|")[2]) == {" ", "^"}
