"""Expressions that grow through `let` and from stage to stage: refused before they exhaust a pass."""

from __future__ import annotations

import pytest

from irc.elaborate.build import build
from irc.error import SpecError
from irc.grammar.nodes import DEEPEST
from irc.grammar.parser import parse
from irc.grammar.source import Source


def program(stages: str, before: str = "") -> str:
    return f"""
attention t {{
  size  B, S, D
  input q[B,S,D], k[B,S,D], v[B,S,D]
{before}
  core o[b,i,d] {{
    score q[b,i,c] * k[b,j,c]
{stages}
    softmax j
    matmul v[b,j,d]
  }}
  return o
}}
"""


def refused(source: str) -> tuple[str, str]:
    """The message of the one mistake, and the text that it is about."""
    with pytest.raises(SpecError) as raised:
        build(parse(Source("<test>", source))[0])
    (found,) = raised.value.diagnostics
    assert found.code == "E006"
    return found.message, found.span.text()


def chain(length: int, value: str) -> str:
    """Lets, each of which reads the one before."""
    return "let x0 = 1.5\n" + "\n".join(f"let x{n} = {value.format(f'x{n - 1}')}" for n in range(1, length))


@pytest.mark.parametrize("length", [DEEPEST + 1, 5000])
def test_lets_of_lets_of_lets(length: int) -> None:
    message = f"with all that it names, `x{DEEPEST}` is more than {DEEPEST} operations deep"
    for before, stages in ((chain(length, "{} + 1"), ""), ("", chain(length, "{} + 1"))):
        assert refused(program(stages, before)) == (message, f"x{DEEPEST}")
    assigned = f"project {{\n{chain(length, '{} + 1')}\nw[b] = x1\n}}"
    assert refused(program("", assigned)) == (message, f"x{DEEPEST}")


def test_lets_that_double() -> None:
    message, text = refused(program(chain(60, "{0} * {0}")))
    assert (message, text) == ("with all that it names, `x13` is more than 10000 operations", "x13")


PAIR = "with this stage, what the core computes of a pair is"


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (
            "map tanh(score)",
            f"{PAIR} more than {DEEPEST} operations deep",
        ),
        ("map score * score", f"{PAIR} more than 10000 operations"),
        ("scale 2", f"{PAIR} more than {DEEPEST} operations deep"),
        ("allow j <= i", f"with this stage, the mask is more than {DEEPEST} operations deep"),
    ],
)
def test_stages_without_end(stage: str, message: str) -> None:
    assert refused(program(f"{stage}\n" * 300)) == (message, stage)


def test_a_let_grows_with_the_score_that_it_reads() -> None:
    assert refused(program("let twice = 2 * score\n" + "map twice\n" * 300))[1] == "map twice"


def test_what_an_assignment_names_counts() -> None:
    nested = "exp(" * 60 + "x59" + ")" * 60
    assigned = f"project {{\n{chain(60, '{} + 1')}\nw[b] = {nested}\n}}"
    message, text = refused(program("", assigned))
    assert (message, text) == (f"with all that it names, the expression is more than {DEEPEST} operations deep", nested)


def test_many_shallow_ones_are_no_mistake() -> None:
    lets = "\n".join(f"let x{n} = {n}" for n in range(500))
    maps = "map tanh(score)\n" * (DEEPEST - 4)
    build(parse(Source("<test>", program(f"{lets}\nallow j <= i + x7\n{maps}")))[0])


@pytest.mark.parametrize("length", [DEEPEST, 5000])
def test_a_chain_of_comparisons_is_as_deep_as_it_is_long(length: int) -> None:
    deep = f"is more than {DEEPEST} operations deep"
    assert refused(program("allow i " + "<= j " * length))[0] == f"with this stage, the mask {deep}"
    assumed = "assume S " + "<= S " * length
    assert refused(program("", assumed))[0] == f"with all that it names, the assumption {deep}"
    promised = program("").rstrip()[:-1] + "ensure allow == (i " + "<= j " * length + ")\n}"
    assert refused(promised)[0] == f"with all that it names, the promise {deep}"


def test_a_chain_of_some_comparisons_is_built() -> None:
    build(parse(Source("<test>", program("allow i " + "<= j " * (DEEPEST // 2))))[0])
