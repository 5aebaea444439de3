"""What a program says of itself where it is printed, and to editors."""

import inspect

import irc
from irc.grammar.source import Source
from irc.show import check, signature

TEXT = """attention steps {
  size  B, H, S, D
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D], doc[B,S]: int, lambda[H]
  scalar cap: float, n: int
  core o[b,i,h,d], lse[b,h,i] {
    score  q[b,h,i,c] * k[b,h,j,c] * lambda[h] / cap
    allow  doc[b,i] == doc[b,j] and j <= i + n - n
    softmax j
    matmul v[b,h,j,d]
  }
  merge { y[b,s,(h d)] = o[b,s,h,d] }
  return y, lse
  ensure causal
}
"""
LINE = (
    "steps(q[B,H,S,D], k[B,H,S,D], v[B,H,S,D], doc[B,S]: int, lambda[H], cap: float, n: int)"
    " -> y[B,S,H * D], lse[B,H,S]"
)


def test_a_program_says_what_it_takes_and_returns() -> None:
    program = irc.compile(TEXT, sizes={"D": 16}, target="reference")
    assert repr(program) == f"<irc {LINE}, f64 on reference, D=16>"
    assert str(program).splitlines() == [repr(program), f"  causal: {program.verdicts['causal']}"]
    assert signature.signature(program.graph) == LINE


def test_editors_see_the_arguments() -> None:
    program = irc.compile(TEXT, target="reference")
    names = [f"{p}" for p in inspect.signature(program).parameters.values()]
    assert names == ["q", "k", "v", "doc", "cap", "n", "**others"]  # of which `lambda` is one
    assert "precision" in inspect.signature(type(program)).parameters


def test_check_lists_results() -> None:
    (found,) = check.check([Source("steps.attn", TEXT)])
    assert "  return   y[B,S,H * D]: float" in check.text(found).splitlines()
