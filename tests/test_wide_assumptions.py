"""What is assumed of products that 64 bits do not hold is an error, and no comparison that wraps round."""

from __future__ import annotations

import numpy as np
import pytest

import irc
from irc.export.checks import input_checks

SPEC = """
attention wide {
  size B, S, N, D
  input q[B,S,D], k[B,S,D], v[B,S,D], T[N], idx[B]: int
  assume 0 <= idx[b], idx[b] * 8589934592 <= (N - 1) * 8589934592
  core o[b,i,d] {
    score q[b,i,c] * k[b,j,c]
    bias T[idx[b]] * j
    softmax j
    matmul v[b,j,d]
  }
  return o
}
"""


@pytest.mark.parametrize(("entry", "message"), [(3, "which fails at b = 0"), (2**30, "numbers beyond 64 bits")])
def test_a_call_that_overflows_what_is_assumed(entry: int, message: str) -> None:
    program = irc.compile(SPEC, target="reference")
    x = np.zeros((1, 4, 2))
    program(q=x, k=x, v=x, T=np.ones(3), idx=np.array([2]))
    with pytest.raises(irc.InputError, match=message):
        program(q=x, k=x, v=x, T=np.ones(3), idx=np.array([entry]))


def test_an_entry_for_c_checks_it_too() -> None:
    texts = [check.text for check in input_checks(irc.compile(SPEC, target="reference").graph)]
    assert len(texts) == 3 and texts[1].endswith("for which numbers beyond 64 bits may be computed")
