"""Rows that fall back on other keys where the program counts none: `rows nonempty` of masks that ask a count."""

from __future__ import annotations

import pytest

from irc.elaborate.build import build
from irc.grammar.parser import parse
from irc.grammar.source import Source
from irc.proof.prove import prove
from irc.proof.verdict import Verdict

TEXT = """attention masked {
  size B, S, D
  input q[B,S,D], mask[B,S,S], real[B,S]: int
  assume S >= 1
  project { SUMMED }
  core o[b,i,d] {
    score q[b,i,c] * q[b,j,c]
    allow MASK
    softmax j
    matmul q[b,j,d]
  }
  return o
  ensure rows nonempty
}
"""


def verdict(counted: str, mask: str, summed: str = "n[b,i] = sum(j: where(COUNTED, 1, 0))") -> Verdict:
    text = TEXT.replace("SUMMED", summed).replace("COUNTED", counted).replace("MASK", mask)
    (program,) = parse(Source("<string>", text))
    (found,) = prove(build(program))
    return found


@pytest.mark.parametrize(
    "counted, mask",
    [
        ("mask[b,i,j] > 0", "mask[b,i,j] > 0 or n[b,i] == 0"),
        ("mask[b,i,j] > 0", "mask[b,i,j] > 0 or not n[b,i] > 0"),
        ("mask[b,i,j] > 0 and j <= i", "j <= i and (mask[b,i,j] > 0 or n[b,i] == 0)"),
        ("real[b,j] == 1", "real[b,j] == 1 or n[b,i] <= 0 and j == i"),
        ("real[b,j] == 1", "where(n[b,i] != 0, real[b,j] == 1, j == i)"),
    ],
)
def test_a_row_has_what_is_counted_or_what_it_falls_back_on(counted: str, mask: str) -> None:
    assert str(verdict(counted, mask)) == "proved: every query has a key: j = i or one that is counted"


@pytest.mark.parametrize(
    "counted, mask",
    [
        ("mask[b,i,j] > 0", "mask[b,i,j] > 0 or n[b,i] <= 1"),  # a number above 1 is no case of its own
        ("mask[b,i,j] > 0", "mask[b,i,j] > 0 or n[b,i] != 0"),
        ("mask[b,i,j] > 1", "mask[b,i,j] > 0 and n[b,i] != 0 or n[b,i] == 0 and j > i"),
        ("mask[b,i,j] > 0", "j <= i and (mask[b,i,j] > 0 or n[b,i] == 0)"),  # those counted may lie in the future
        ("mask[b,i,j] > 0", "mask[b,i,j] > 0 or n[b,j] == 0"),  # each key asks another count
        ("mask[b,i,j] > 0", "mask[b,i,j] > 0 or n[b,max(i - 1, 0)] == 0"),
    ],
)
def test_what_a_count_does_not_tell_is_not_decided(counted: str, mask: str) -> None:
    found = verdict(counted, mask)
    assert found.status == "not decided"
    assert "depends on `n`, which the program computes" in str(found)


def test_rows_where_there_may_be_no_key_at_all() -> None:
    text = """attention masked {
      size B, N, S, D
      input q[B,N,D], k[B,S,D], mask[B,N,S]
      project { n[b,i] = sum(j: where(mask[b,i,j] > 0, 1, 0)) }
      core o[b,i,d] {
        score q[b,i,c] * k[b,j,c]
        allow mask[b,i,j] > 0 or n[b,i] == 0
        softmax j
        matmul k[b,j,d]
      }
      return o
      ensure rows nonempty
    }"""
    (program,) = parse(Source("<string>", text))
    (found,) = prove(build(program))
    assert found.status == "refuted"
    assert "has no key, for there is none" in str(found)


@pytest.mark.parametrize(
    "summed, mask, proved",
    [
        ("n[b,j] = sum(i: where(mask[b,j,i] > 0, 1, 0))", "mask[b,i,j] > 0 or n[b,i] == 0", True),
        ("n[b,j] = sum(i: where(mask[b,i,j] > 0, 1, 0))", "mask[b,i,j] > 0 or n[b,i] == 0", False),
        ("n[b,j] = sum(k: where(mask[b,j,k] > 0, 1, 0))", "mask[b,i,i] > 0 or n[b,i] == 0", False),
        ("n[b,j] = sum(i: where(real[b,i] > 0, 1, 0))", "real[b,j] > 0 or n[b,i] == 0", True),
        ("n[b,j] = sum(i: where(real[b,i] > 0, 1, 0))", "real[b,i] > 0 or n[b,i] == 0", False),
    ],
)
def test_indices_of_a_count_are_its_own(summed: str, mask: str, proved: bool) -> None:
    """Whatever they are called: in the core's names, rows of the count may be its keys, and the other way."""
    assert verdict("", mask, summed).status == ("proved" if proved else "not decided")
