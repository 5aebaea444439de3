"""Masks that nearly have a property: what is said of each, and that the fix offered is right."""

from __future__ import annotations

import re

import pytest

from irc.elaborate.build import build
from irc.grammar.parser import parse
from irc.grammar.source import Source
from irc.graph.ir import Graph
from irc.proof.prove import prove
from irc.proof.verdict import Verdict

SELF = """attention a {{
  size B, S, D
  input q[B,S,D], k[B,S,D], v[B,S,D], doc[B,S]: int, len[B]: int
  scalar w: int
  assume w >= 1{assume}
  core o[b,i,d] {{
    score q[b,i,c] * k[b,j,c]
    {mask}
    softmax j
    matmul v[b,j,d]
  }}
  return o
  ensure {ensure}
}}
"""
CROSS = SELF.replace("q[B,S,D], k[B,S,D], v[B,S,D]", "q[B,Sq,D], k[B,Sk,D], v[B,Sk,D]").replace(
    "B, S, D", "B, S, Sq, Sk, D"
)
LAST = CROSS.replace("    score", "    align last\n    score")
FIRST = CROSS.replace("    score", "    align first\n    score")
PLANE = SELF.replace("S,D]", "(Y X),D]").replace("B, S, D", "B, S, Y, X, D")
PACKED = (
    SELF.replace("len[B]: int", "cu[N + 1]: int")
    .replace("B, S, D", "B, S, D, N")
    .replace("w >= 1", "w >= 1, nondecreasing cu[n] over n, cu[0] == 0, cu[N] == S")
)
TABLES = (
    CROSS.replace("len[B]: int", "x[N + 1]: int, y[N + 1]: int")
    .replace("Sk, D", "Sk, D, N", 1)
    .replace(
        "w >= 1", "nondecreasing x[n] over n, nondecreasing y[n] over n, x[0] == 0, y[0] == 0, x[N] == Sq, y[N] == Sk"
    )
)
BY_SEGMENT = TABLES.replace("    score", "    align offset y[segment(x, i) + 1] - x[segment(x, i) + 1]\n    score")


def graph_of(text: str) -> Graph:
    (program,) = parse(Source("a.attn", text))
    return build(program)


def verdict(template: str, mask: str, ensure: str, assume: str = "") -> Verdict:
    more = f", {assume}" if assume else ""
    return prove(graph_of(template.format(mask=mask, ensure=ensure, assume=more)))[0]


@pytest.mark.parametrize(
    ("template", "mask", "ensure", "assume", "name", "fix"),
    [
        (SELF, "allow j > i", "causal", "", "complemented", "write `block j > i`, or `allow j <= i`"),
        (SELF, "block j <= i", "causal", "", "complemented", "write `allow j <= i`, or `block i < j`"),
        (SELF, "allow i <= j", "causal", "", "transposed", "write `allow j <= i`"),
        (SELF, "block j < i", "causal", "", "transposed", "write `block i < j`"),
        (SELF, "allow i - w < j and i <= j", "causal", "", "transposed", "write `allow i - w < j and j <= i`"),
        (SELF, "allow doc[b,i] == doc[b,j] and i <= j", "causal", "", "transposed",
         "write `allow doc[b,i] == doc[b,j] and j <= i`"),
        (SELF, "allow j <= i + 1", "causal", "", "off by one", "write `allow j <= i`"),
        (SELF, "allow j - 1 <= i", "causal", "", "off by one", "write `allow j <= i`"),
        (SELF, "block j > i + 1", "causal", "", "off by one", "write `block i < j`"),
        (SELF, "allow j < i", "rows nonempty", "", "off by one", "write `allow j <= i`"),
        (SELF, "allow j < i + 2\n    allow doc[b,i] == doc[b,j]", "causal", "", "off by one", "write `allow j <= i`"),
        (SELF, "allow i - w <= j and j <= i", "window(w)", "", "window off by one",
         "write `allow i - w < j and j <= i`"),
        (SELF, "block i - j > w", "window(w)", "", "window off by one", "write `block w <= i - j`"),
        (SELF, "", "causal", "", "mask missing", "add `allow j <= i`"),
        (SELF, "allow abs(i - j) < w", "causal", "", "mask missing", "add `allow j <= i`"),
        (SELF, "allow j <= i", "window(w)", "", "mask missing", "add `allow i - w < j`"),
        (SELF, "allow j <= i", "allow == (doc[b,i] == doc[b,j] and j <= i)", "", "mask missing",
         "add `allow doc[b,i] == doc[b,j]`"),
        (SELF, "allow j < len[b]", "rows nonempty", "", "assumption missing", "add `assume len[b] >= 1`"),
        (SELF, "allow abs(i - j) < w - 1", "rows nonempty", "", "off by one", "write `allow abs(i - j) < w`"),
        (LAST, "allow j <= pos(i)", "rows nonempty", "", "assumption missing", "add `assume Sq <= Sk`"),
        (LAST, "allow j <= i", "causal", "", "alignment lost", "write `allow j <= pos(i)`"),
        (LAST, "allow j <= i", "allow == (j <= pos(i))", "Sq <= Sk", "alignment lost", "write `allow j <= pos(i)`"),
        (LAST, "allow j <= i + (Sq - Sk)", "allow == (j <= pos(i))", "Sq <= Sk", "alignment negated",
         "write `allow j <= pos(i)`"),
        (LAST, "allow j <= i - (Sk - Sq)", "rows nonempty", "Sq <= Sk", "alignment negated",
         "write `allow j <= pos(i)`"),
        (LAST, "allow j > pos(i)", "causal", "Sq <= Sk", "complemented",
         "write `block j > pos(i)`, or `allow j <= pos(i)`"),
        (LAST, "allow j >= pos(i)", "causal", "Sq <= Sk", "transposed", "write `allow j <= pos(i)`"),
        (PACKED, "allow j <= i", "allow == (segment(cu, i) == segment(cu, j) and j <= i)", "", "mask missing",
         "add `allow segment(cu, i) == segment(cu, j)`"),
        (PACKED, "allow cu[segment(cu, i)] <= j and j <= cu[segment(cu, i) + 1]",
         "allow == (segment(cu, i) == segment(cu, j))", "", "off by one",
         "write `allow cu[segment(cu, i)] <= j and j < cu[segment(cu, i) + 1]`"),
        (PACKED, "allow segment(cu, i) == segment(cu, j) and i <= j", "causal", "", "transposed",
         "write `allow segment(cu, i) == segment(cu, j) and j <= i`"),
        (TABLES, "allow segment(x, i) == segment(y, j)", "rows nonempty", "", "assumption missing",
         "add `assume nondecreasing y[n] - n over n`"),
        (BY_SEGMENT, "allow segment(x, i) == segment(y, j) and j <= pos(i)", "rows nonempty", "",
         "assumption missing", "add `assume nondecreasing y[n] - x[n] over n`"),
        (FIRST, "allow j <= pos(i)", "incremental", "Sq <= Sk", "alignment lost", "write `align last`"),
        (FIRST, "allow j <= i", "incremental", "Sq <= Sk", "alignment lost",
         "write `align last`, and `allow j <= pos(i)`"),
    ],
)  # fmt: skip
def test_the_mutation_is_named_and_what_is_offered_is_right(
    template: str, mask: str, ensure: str, assume: str, name: str, fix: str
) -> None:
    found = verdict(template, mask, ensure, assume)
    assert found.status == "refuted"
    assert (found.diagnosis, found.fix) == (name, fix)
    assert follow(fix, template, mask, ensure, assume) == {"proved"}


def test_a_fix_reads_no_table_beyond_its_end() -> None:
    """Query and key exchanged in `doc[b,i]`, where there are more keys than queries."""
    template = FIRST.replace("doc[B,S]", "doc[B,Sq]")
    found = verdict(template, "allow doc[b,i] == 0 or pos(i) <= j", "causal", "Sq <= Sk")
    assert (found.status, found.diagnosis) == ("refuted", "mask missing")


TWO = """attention two {
  size B, S, D
  input q[B,S,D], k[B,S,D], v[B,S,D]
  core one[b,i,d] {
    score q[b,i,c] * k[b,j,c]
    allow j <= i + 1
    softmax j
    matmul v[b,j,d]
  }
  core other[b,i,d] {
    score k[b,i,c] * q[b,j,c]
    allow j <= i + 1
    softmax j
    matmul v[b,j,d]
  }
  merge { y[b,i,d] = one[b,i,d] - other[b,i,d] }
  return y
  ensure causal
}
"""


def test_of_two_cores_with_one_mistake_each_is_diagnosed() -> None:
    (found,) = prove(graph_of(TWO))
    assert (found.diagnosis, found.fix) == ("off by one", "write `allow j <= i`")


def test_a_mask_unlike_what_is_promised_is_to_be_replaced() -> None:
    found = verdict(SELF, "allow (i + j) % 3 == 0", "allow == (j <= i)")
    assert (found.status, found.diagnosis, found.fix) == ("refuted", None, "write `allow j <= i`")


def follow(fix: str, template: str, mask: str, ensure: str, assume: str) -> set[str]:
    """What becomes of the program when the advice is taken, in each of the ways offered."""
    offered = re.findall("`(.*?)`", fix)
    first, *others = mask.split("\n")
    if fix.startswith("add `assume"):
        assume = ", ".join(filter(None, (assume, offered[0].removeprefix("assume "))))
        return {verdict(template, mask, ensure, assume).status}
    if fix.startswith("add"):
        return {verdict(template, "\n".join((mask, *offered)), ensure, assume).status}
    if offered[0] == "align last":
        template, offered = template.replace("align first", "align last"), offered[1:] or [first]
    return {verdict(template, "\n".join((text, *others)), ensure, assume).status for text in offered}
