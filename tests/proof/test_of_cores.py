"""What is promised of one of several cores, which it names."""

from __future__ import annotations

import pytest

from irc.elaborate.build import build
from irc.error import SpecError
from irc.grammar.source import Source
from irc.prepared import parse
from irc.proof.prove import prove

SPEC = """
attention two {
  size B, S, D
  input q[B,S,D], k[B,S,D], v[B,S,D]
  core o[b,i,d] {
    score q[b,i,c] * k[b,j,c]
    allow j <= i
    softmax j
    matmul v[b,j,d]
  }
  core p[b,i,d] {
    score q[b,i,c] * k[b,j,c]
    allow j < i
    softmax j
    matmul v[b,j,d]
  }
  merge { y[b,s,d] = o[b,s,d] + p[b,s,d] }
  return y
  ensure PROMISE
}
"""


@pytest.mark.parametrize(
    ("promise", "status"),
    [
        ("allow == (j <= i)", "refuted"),
        ("o: allow == (j <= i)", "proved"),
        ("p: allow == (j <= i)", "refuted"),
        ("p: allow == (j < i)", "proved"),
        ("o: rows nonempty", "proved"),
        ("p: rows nonempty", "refuted"),
        ("rows nonempty", "refuted"),
    ],
)
def test_a_promise_of_one_core(promise: str, status: str) -> None:
    (verdict,) = prove(build(parse(Source("two", SPEC.replace("PROMISE", promise)))[0]))
    assert verdict.status == status and verdict.text == promise
    if status == "refuted":
        assert verdict.core == "p"


@pytest.mark.parametrize(
    ("promise", "message"),
    [
        ("x: allow == (j <= i)", "there is no core `x`"),
        ("o: causal", "`causal` speaks of the whole program, and not of `o` alone"),
        ("o: allow == (j <= n)", "core `o` has not all of the indices `j`, `n`"),
    ],
)
def test_what_no_core_can_promise(promise: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        build(parse(Source("two", SPEC.replace("PROMISE", promise)))[0])
    assert [d.message for d in caught.value.diagnostics] == [message]
