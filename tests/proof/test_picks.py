"""Queries that pick their keys through a table: the number of a pick is no position, what it picks may be one."""

from __future__ import annotations

import pytest

from irc.error import SpecError
from irc.proof.prove import prove
from tests.proof.dependence import furthest, states
from tests.proof.test_flow import graph_of

SPEC = """attention t {
  size B, S, N, K, D
  input q[B,S,D], k[B,LONG,D], v[B,LONG,D], idx[B,S,MANY]: int, kept[B,MANY]: int, past[B]: int
  assume 0 <= idx[b,n,p] < LONG, 0 <= kept[b,p] < LONG, S <= N, 0 <= past[b], past[b] + S <= LONG
  core o[b,i,d] over p: MANY {
    ALIGN
    score q[b,i,c] * k[b,PICK,c]
    allow MASK
    softmax p
    matmul v[b,PICK,d]
  }
  return o
  ensure PROPERTY
}"""


def program(long: str, mask: str, align: str, pick: str, many: str = "K", property: str = "causal") -> str:
    text = (
        SPEC.replace("LONG", long)
        .replace("MASK", mask)
        .replace("ALIGN", align and f"align {align}")
        .replace("PICK", pick)
    )
    return text.replace("MANY", many).replace("PROPERTY", property)


@pytest.mark.parametrize(
    ("long", "mask", "align", "pick", "many", "expected"),
    [
        ("N", "p <= pos(i)", "offset N - S", "idx[b,i,p]", "K", "not decided"),
        ("N", "idx[b,i,p] <= pos(i)", "offset N - S", "idx[b,i,p]", "K", "proved"),
        ("N", "idx[b,i,p] <= pos(i)", "offset past[b]", "idx[b,i,p]", "K", "proved"),
        ("N", "idx[b,i,p] <= pos(i)", "last", "idx[b,i,p]", "K", "not decided"),
        ("N", "idx[b,i,p] <= pos(i)", "offset N - S", "idx[b,max(i - 1, 0),p]", "K", "not decided"),
        ("S", "p <= pos(i)", "first", "idx[b,i,p]", "K", "refuted"),
        ("S", "idx[b,i,p] <= pos(i)", "first", "idx[b,i,p]", "K", "proved"),
        ("S", "idx[b,i,p] <= pos(i)", "first", "idx[b,i,p]", "S", "proved"),
        ("S", "idx[b,i,p] <= pos(i)", "first", "idx[b,S - 1 - i,p]", "K", "refuted"),
        ("S", "idx[b,i,p] <= i", "", "idx[b,i,p]", "K", "proved"),
        ("S", "idx[b,i,p] <= i + 1", "", "idx[b,i,p]", "K", "refuted"),
        ("S", "true", "", "idx[b,i,p]", "K", "refuted"),
        ("S", "kept[b,p] <= pos(i)", "first", "kept[b,p]", "K", "proved"),
        ("S", "kept[b,p] <= i", "", "kept[b,p]", "K", "proved"),
        ("S", "p <= pos(i)", "first", "kept[b,p]", "K", "refuted"),
        ("N", "kept[b,p] <= pos(i)", "offset N - S", "kept[b,p]", "K", "proved"),
        ("N", "kept[b,p] <= pos(i)", "offset past[b]", "kept[b,p]", "K", "proved"),
        ("N", "p <= pos(i)", "offset N - S", "kept[b,p]", "K", "not decided"),
    ],
)
def test_what_is_picked_is_a_position(long: str, mask: str, align: str, pick: str, many: str, expected: str) -> None:
    graph = graph_of(program(long, mask, align, pick, many))
    (verdict,) = prove(graph)
    assert verdict.status == expected
    last = 0 if long == "S" else 1
    if "past" not in align:
        sizes = {"B": (1,), "S": (3,), "N": (4,), "K": (2,), "D": (2,)}
        where = {"k": (1, 0), "v": (1, 0)}, {"o": (1, last)}
        later = any(
            read > own for known, given in states(graph, sizes) for own, read in furthest(graph, given, known, *where)
        )
        assert later if expected == "refuted" else not (later and expected == "proved")


def test_a_list_of_keys_is_taken_as_known() -> None:
    (verdict,) = prove(graph_of(program("S", "kept[b,p] <= pos(i)", "first", "kept[b,p]")))
    assert verdict.why.endswith("its own (`kept[b,p]` taken as known)")


def test_slots_that_hold_every_token_are_no_list() -> None:
    text = program("N", "p <= pos(i)", "offset past[b]", "kept[b,p]").replace("past[b] + S <= N", "past[b] + S <= K")
    (verdict,) = prove(graph_of(text))
    assert verdict.status == "proved" and verdict.why.endswith("its own")


@pytest.mark.parametrize(("mask", "expected"), [("kept[b,p] <= pos(i)", "proved"), ("p <= pos(i)", "refuted")])
def test_keys_that_are_gathered_before(mask: str, expected: str) -> None:
    text = program("S", mask, "first", "kept[b,p]").replace("k[b,kept[b,p],c]", "g[b,p,c]")
    text = text.replace("  core o", "  project { g[b,p,d] = k[b,kept[b,p],d] }\n  core o").replace(
        "v[b,kept[b,p],d]", "g[b,p,d]"
    )
    (verdict,) = prove(graph_of(text))
    assert verdict.status == expected


def test_groups_of_heads_that_pick_together() -> None:
    text = """attention t { size B, S, K, D, H, G
      input q[B,H,G,S,D], k[B,H,S,D], idx[B,H,S,K]: int
      assume 0 <= idx[b,h,n,p] < S
      core o[b,h,g,i,d] over p: K {
        score q[b,h,g,i,c] * k[b,h,idx[b,h,i,p],c]
        allow idx[b,h,i,p] <= i + MORE
        softmax p
        matmul k[b,h,idx[b,h,i,p],d]
      }
      return o
      ensure causal }"""
    assert [prove(graph_of(text.replace("MORE", more)))[0].status for more in "01"] == ["proved", "refuted"]


@pytest.mark.parametrize("pick", ["idx[b,i,p]", "kept[b,p]"])
@pytest.mark.parametrize("mask", ["PICK <= pos(i)", "p <= pos(i)"])
def test_which_keys_a_step_picks_is_not_told(mask: str, pick: str) -> None:
    text = program("N", mask.replace("PICK", pick), "offset past[b]", pick, property="incremental")
    (verdict,) = prove(graph_of(text))
    assert verdict.status == "not decided"
    assert verdict.why == f"`o` reads its keys at {pick}: nothing says which of them a step can pick"


def test_pages_of_a_querys_own() -> None:
    text = """attention t { size B, S, N, R, M, K, D
      input q[B,S,D], pool[N,R,D], page[B,S,M]: int
      core o[b,i,d] over j: K {
        align last
        score q[b,i,c] * pool[page[b,i,j // R],j % R,c]
        allow j <= pos(i)
        softmax j
        matmul pool[page[b,i,j // R],j % R,d]
      }
      return o
      ensure causal }"""
    (verdict,) = prove(graph_of(text))
    assert verdict.status == "not decided" and "nothing says that this is of key j alone" in verdict.why


BLOCKS = """attention t { size B, P, N, M, T, D
  input q[B,P,N,D], k[B,P,M,D], top[B,P,T]: int
  assume 0 <= top[b,p,t] < P, top[b,p,t] <= p
  core o[b,p,i,d] {
    score q[b,p,i,c] * k[b,top[b,p,t],r,c]
    allow p - top[b,p,t] < 3
    softmax (t r)
    matmul k[b,top[b,p,t],r,d]
  }
  return o
  ensure PROPERTY }"""


@pytest.mark.parametrize("property", ["causal", "window(3)"])
def test_numbers_of_blocks_are_no_positions_of_their_tokens(property: str) -> None:
    text = BLOCKS.replace("PROPERTY", property)
    (verdict,) = prove(graph_of(text.replace("k[B,P,M,D]", "k[B,P,N,D]")))
    assert verdict.status == "refuted"
    with pytest.raises(SpecError, match="nothing says where a query sits among the keys"):
        prove(graph_of(text))


HEADS = """attention t { size B, H=4, S=4, K, D
  input q[B,H,S,D], x[B,H,S,D], top[B,H,MANY]: int
  assume 0 <= top[TABLE] < S, top[TABLE] <= BOUND
  core o[b,h,n,d] over p: K {
    score q[b,h,n,c] * x[b,h,top[TABLE],c]
    softmax p
    matmul x[b,h,top[TABLE],d]
  }
  return o
  ensure causal }"""


def test_heads_that_are_as_many_as_tokens_are_no_queries() -> None:
    text = HEADS.replace("MANY", "K").replace("TABLE", "b,h,p").replace("BOUND", "h")
    (verdict,) = prove(graph_of(text))
    assert verdict.status == "refuted"
    for bound in "hn":
        text = HEADS.replace("MANY", "S,K").replace("TABLE", "b,h,n,p").replace("BOUND", bound)
        with pytest.raises(SpecError, match="core `o` has no query index"):
            prove(graph_of(text))


BIASED = """attention t {
  size B, S, K, D
  input x[B,S,D], e[B,S,K], r[B,K], top[B,S,K]: int, kept[B,K]: int
  assume 0 <= top[b,i,p] < S, 0 <= kept[b,p] < S
  core o[b,i,d] over p: K {
    align first
    score x[b,i,c] * x[b,PICK,c]
    bias BIAS
    allow MASK
    softmax p
    matmul x[b,PICK,d]
  }
  return o
  ensure causal
}"""


@pytest.mark.parametrize("bias", ["e[b,i,p]", "r[b,p]"])
@pytest.mark.parametrize("pick", ["top[b,i,p]", "kept[b,p]"])
def test_a_bias_for_each_pick_is_of_that_pick(pick: str, bias: str) -> None:
    """It does not make the number of a pick a position."""
    for mask, expected in (("PICK <= pos(i)", "proved"), ("p <= pos(i)", "refuted")):
        (verdict,) = prove(graph_of(BIASED.replace("BIAS", bias).replace("MASK", mask).replace("PICK", pick)))
        assert verdict.status == expected
        if expected == "proved":
            assert ("entries of `r` taken as numbers of picks" in verdict.why) == (bias == "r[b,p]")


def test_a_second_core_that_picks_results_of_the_first() -> None:
    second = """  core u[b,i,d] over p: K {
    align first
    score x[b,i,c] * o[b,top[b,i,p],c]
    bias e[b,i,p]
    allow top[b,i,p] <= pos(i) + MORE
    softmax p
    matmul o[b,top[b,i,p],d]
  }
  return u"""
    text = BIASED.replace("BIAS", "r[b,p]").replace("MASK", "PICK <= pos(i)").replace("PICK", "top[b,i,p]")
    for more, expected in (("0", "proved"), ("1", "refuted")):
        assert prove(graph_of(text.replace("  return o", second.replace("MORE", more))))[0].status == expected


def test_the_logsumexp_of_a_core_sits_where_its_rows_do() -> None:
    text = """attention t { size B, T, M, D
      input q[B,T,D], k[B,M,D], past[B]: int
      assume 0 <= past[b], past[b] + T <= M
      core o[b,i,d], l[b,i] {
        align offset past[b]
        score q[b,i,c] * k[b,j,c]
        allow j <= pos(i)
        softmax j
        matmul k[b,j,d]
      }
      return o, l
      ensure causal }"""
    assert prove(graph_of(text))[0].status == "proved"
