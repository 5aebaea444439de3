"""Properties that make no sense of a program say why; claims are about the core or the statement that explains them."""

from __future__ import annotations

import re

import pytest

from irc.codegen.expr import indices, loads
from irc.graph.ir import Graph, Input
from irc.proof import flow
from irc.proof.decide import decide
from irc.proof.properties import PropertyError, Undecided, claims
from irc.proof.prove import prove
from tests.proof.test_flow import RESHAPED, block, cache, graph_of, two_layers, verdict

PAGED = """attention paged {{
  size B, Sq, N, P, R, D
  input q[B,Sq,D], kpool[N,R,D], vpool[N,R,D], page[B,P]: int, len[B]: int
  assume 0 <= page[b,p] < N, Sq <= len[b] <= P * R
  core o[b,i,d] over j: P * R {{
    align  offset len[b] - Sq
    score  q[b,i,c] * kpool[page[b, j // R], j % R, c]
    {scale}
    allow  {allow}
    softmax j
    matmul vpool[page[b, j // R], j % R, d]
  }}
  return o
  ensure {ensure}
}}"""
PAST = """attention past {{
  size B, Sq, Sk, D
  input q[B,Sq,D], k[B,Sk,D], v[B,Sk,D], past[B]: int
  assume 0 <= past[b], past[b] + Sq <= Sk
  core o[b,i,d] {{
    align  offset past[b]
    score  q[b,i,c] * k[b,j,c]
    allow  {allow}
    softmax j
    matmul v[b,j,d]
  }}
  return o
  ensure {ensure}
}}"""
BLOCKS = """attention blocks {{
  size B, M, K, D, S = 8 * M
  input q[B,S,D], k[B,S,D], v[B,S,D], top[B,M,K]: int
  assume 0 <= top[b,m,n] < M
  core o[b,i,d] over n: K, m: 8 {{
    let    key = top[b,i // 8,n] * 8 + m
    score  q[b,i,c] * k[b,key,c]
    allow  {allow}
    softmax (n m)
    matmul v[b,key,d]
  }}
  return o
  ensure {ensure}
}}"""
CROSS = """attention cross {
  size B, Sq, Sk, D
  input q[B,Sq,D], k[B,Sk,D], v[B,Sk,D]
  core o[b,i,d] { score q[b,i,c] * k[b,j,c]
    softmax j
    matmul v[b,j,d] }
  return o
  ensure %s
}"""
ALIGNED_TWICE = """attention twice {
  size B, Sq, Sk, D
  input q[B,Sq,D], k[B,Sk,D], v[B,Sk,D]
  core a[b,i,d] { align last
    score q[b,i,c] * k[b,j,c]
    softmax j
    matmul v[b,j,d] }
  core o[b,i,d] { align first
    score q[b,i,c] * k[b,j,c]
    softmax j
    matmul v[b,j,d] }
  return a, o
  ensure causal
}"""
POOLED = """attention pooled {
  size B, S, D
  input q[B,S,D], k[B,S,D], v[B,S,D]
  core o[b,i,d] { score q[b,i,c] * k[b,j,c]
    softmax j
    matmul v[b,j,d] }
  merge { y[b,d] = sum(s: o[b,s,d]) }
  return y
  ensure causal
}"""
CHUNKS = """attention chunks {
  size B, N, P, D
  input x[B,(N P),D]
  project { z[b,n,d] = sum(p: x[b,(n p),d]) }
  core NAME[b,n,d] {
    score z[b,n,c] * z[b,m,c]
    allow m <= n
    softmax m
    matmul z[b,m,d]
  }
  core o[b,(n p),d] {
    score x[b,(n p),c] * x[b,(m r),c]
    allow m < n or (m == n and r <= p)
    softmax (m r)
    matmul x[b,(m r),d]
  }
  merge { y[b,(n p),d] = o[b,(n p),d] + NAME[b,n,d] }
  return y
  ensure causal
}"""

TWO_FRAMES = """attention frames {
  size B, S, T, D
  input x[B,S,D], k[B,T,D]
  assume S <= T
  core e[b,t,d] {
    align last
    score k[b,t,c] * x[b,j,c]
    allow j <= t
    softmax j
    matmul x[b,j,d]
  }
  core o[b,i,d] {
    align last
    score x[b,i,c] * e[b,j,c]
    allow j <= pos(i)
    softmax j
    matmul e[b,j,d]
  }
  return o
  ensure causal
}"""
PAGES_OF_SLOTS = """attention pages {
  size B, Sq, M, Z, P, D
  input q[B,Sq,D], kp[P,Z,D], page[B,M]: int
  core o[b,i,d] {
    align offset M * Z - Sq
    score q[b,i,c] * kp[page[b,m],r,c]
    allow m * Z <= pos(i)
    softmax (m r)
    matmul kp[page[b,m],r,d]
  }
  return o
  ensure causal
}"""
APPENDED = """attention appended {
  size B, Sq, Sk, D
  input q[B,Sq,D], k[B,Sk,D], v[B,Sk,D], len[B]: int
  scalar past: int
  assume past >= 0, past + Sq <= Sk, FACT
  core o[b,i,d] {
    align ALIGN
    score q[b,i,c] * k[b,j,c]
    allow j <= pos(i) and len[b] - 3 <= j
    softmax j
    matmul VALUE
  }
  return o
  ensure incremental
}"""


def paged(allow: str, ensure: str, scale: str = "") -> str:
    return PAGED.format(allow=allow, ensure=ensure, scale=scale)


def past(allow: str, ensure: str) -> str:
    return PAST.format(allow=allow, ensure=ensure)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (paged("j <= pos(i)", "causal"), "proved"),
        (paged("j <= pos(i) + 1", "causal"), "refuted"),
        (paged("j < len[b]", "causal"), "refuted"),
        (paged("pos(i) - 4 < j and j <= pos(i)", "window(4)"), "proved"),
        (paged("pos(i) - 4 <= j and j <= pos(i)", "window(4)"), "refuted"),
        (paged("j <= pos(i)", "incremental"), "proved"),
        (paged("j <= pos(i) and j < len[b]", "incremental"), "proved"),
        (paged("j <= i", "incremental"), "refuted"),
        (paged("j <= pos(i)", "incremental", "scale 1 / sqrt(len[b] + 1)"), "refuted"),
        (paged("j <= pos(i)", "incremental", "scale 1 / sqrt(pos(i) + 1)"), "proved"),
        (past("j <= pos(i)", "causal"), "proved"),
        (past("j <= pos(i)", "incremental"), "proved"),
        (past("j < i", "incremental"), "refuted"),
        (past("j <= pos(i) + 1", "incremental"), "refuted"),  # a key that is not in the cache yet
        (past("j <= past[b]", "causal"), "proved"),
        (past("j <= past[b] + 1", "causal"), "refuted"),
        (BLOCKS.format(allow="key <= i", ensure="causal"), "proved"),
        (BLOCKS.format(allow="key <= i + 1", ensure="causal"), "refuted"),
        (BLOCKS.format(allow="key <= i and i - key < 9", ensure="window(9)"), "proved"),
        (BLOCKS.format(allow="key <= i and i - key < 9", ensure="window(8)"), "refuted"),
    ],
)
def test_caches_addressed_by_tables(text: str, expected: str) -> None:
    assert verdict(graph_of(text)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CROSS % "causal", "queries of core `o` run over Sq and keys over Sk"),
        (CROSS % "window(2)", "nothing says where a query sits"),
        (CROSS % "incremental", "no core of the program says"),
        (ALIGNED_TWICE, "place the same queries differently"),
        (POOLED, "output `y` has no query dimension"),
        (cache("j <= pos(i)", ensure="incremental", more="assume Sk == Sq"), "assumes Sk == Sq, which one query"),
        (
            cache("j <= pos(i)", ensure="incremental", more="assume Sq < Sk"),
            "lets no computation have as many queries, Sq, as keys, Sk",
        ),
        (
            cache("j <= pos(i)", ensure="incremental", more="scalar w: int\n assume w == Sk"),
            "assumes w == Sk, which one query",
        ),
        (
            cache("j < len[b] and j <= pos(i)", ensure="incremental", more="input len[B]: int\n assume len[b] == Sk"),
            "assumes len.b. == Sk, which one query",
        ),
        (
            cache(
                "doc[b,j] == 0 and j <= pos(i)",
                ensure="incremental",
                more="input doc[B,Sk]: int\n assume doc[b,s] == Sk",
            ),
            "assumes doc.b,s. == Sk, which one query",
        ),
        (block("j <= i", ensure="incremental").replace("B, S,", "B, S = 64,"), "run over 64, which is fixed"),
    ],
)
def test_property_without_sense_says_why(text: str, message: str) -> None:
    graph = graph_of(text)
    with pytest.raises(PropertyError, match=message):
        claims(graph.properties[0], graph)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            cache(
                "j >= len[b] - 3 and j <= pos(i)", ensure="incremental", more="input len[B]: int\n assume len[b] <= Sk"
            ),
            "assumes len.b. <= Sk, so a step may need another `len`",
        ),
        (
            cache(
                "j >= len[b] - 3 and j <= pos(i)",
                ensure="incremental",
                more="input len[B]: int, lim[B]: int\n assume lim[b] <= Sk, len[b] <= lim[b]",
            ),
            "assumes len.b. <= lim.b., so a step may need another `len`",
        ),
        (
            past("j >= len[b] - 3 and j <= pos(i)", "incremental").replace(
                "assume", "input len[B]: int\n assume len[b] <= past[b] + Sq,"
            ),
            "assumes len.b. <= past.b. . Sq, so a step may need another `len`",
        ),
    ],
)
def test_a_table_that_changes_with_every_token_is_not_that_of_the_full_computation(text: str, message: str) -> None:
    graph = graph_of(text)
    with pytest.raises(Undecided, match=message):
        claims(graph.properties[0], graph)


@pytest.mark.parametrize(
    ("assumed", "mask", "expected"),
    [
        ("pad[b] <= S", "j >= pad[b] and j <= i", "proved"),
        ("pad[b] <= S", "j >= pad[b] - 3 and j <= i", "not decided"),
        ("lim[b] <= S, pad[b] <= lim[b]", "j >= pad[b] and j <= i", "not decided"),
    ],
)
def test_steps_that_an_assumption_forbids_may_have_no_key(assumed: str, mask: str, expected: str) -> None:
    """Prompts that are padded on the left: a step within the padding is none."""
    padded = block(mask, ensure="incremental").replace("core o", f"assume 0 <= pad[b], {assumed}\n  core o", 1)
    graph = graph_of(padded.replace("input ", "input pad[B]: int, lim[B]: int, ", 1))
    (found,) = prove(graph)
    assert found.status == expected
    if expected == "proved":
        assert found.why.endswith("(of steps that keep pad[b] <= S)")


def test_what_is_assumed_of_tokens_holds_of_those_that_are_there() -> None:
    more = "input doc[B,Sk]: int\n assume 0 <= doc[b,s] < Sk"
    assert verdict(graph_of(cache("doc[b,j] == 0 and j <= pos(i)", ensure="incremental", more=more))) == "proved"


def test_too_many_chains_are_not_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "LIMIT", 8)
    terms = " + ".join(f"x[b,min(s + {k}, S - 1),e]" for k in range(10))
    graph = graph_of(block(before=f"z[b,s,e] = ({terms}) * one[s]", x="z"))
    with pytest.raises(Undecided, match="more than 8 ways"):
        claims(graph.properties[0], graph)


@pytest.mark.parametrize(
    ("made", "which"),
    [
        ("sum(t: where(t <= s, doc[b,t], 0))", "entries of `n`: a sum is a float, of integers too"),
        ("exp(float(doc[b,s]))", "entries of `n`, which are floats"),
    ],
)
def test_what_keeps_a_mask_from_being_decided_is_named(made: str, which: str) -> None:
    before = f"n[b,s] over s: S = {made}"
    graph = graph_of(block("n[b,j] <= n[b,i]", ensure="allow == (j <= i)", before=before, more="input doc[B,S]: int"))
    with pytest.raises(Undecided) as caught:
        claims(graph.properties[0], graph)
    assert str(caught.value) == f"the mask of `o` depends on {which}"


def test_a_pool_read_outside_of_cores_has_no_place() -> None:
    merged = "merge { y[b,s,d] = o[b,s,d] + kpool[page[b, s // R], s % R, d] }\n return y"
    text = paged("j <= pos(i)", "causal").replace("return o", merged).replace("Sq <= len", "Sq <= P * R, Sq <= len")
    graph = graph_of(text)
    with pytest.raises(Undecided, match="outside of every core"):
        claims(graph.properties[0], graph)


def test_a_pair_of_the_core_explains_a_mask_that_leaks() -> None:
    graph = graph_of(block("j <= i + 1"))
    (claim,) = claims(graph.properties[0], graph)
    answer = decide(claim, graph)
    assert claim.core == "o" and claim.span is None
    assert claim.about == "output `y` at position i reads `x` at position j"
    assert answer.model is not None and {"i": 0, "j": 1}.items() <= answer.model.indices.items()


def test_the_assignment_explains_a_reshape_that_leaks() -> None:
    graph = graph_of(RESHAPED)
    broken = [c for c in claims(graph.properties[0], graph) if decide(c, graph).status == "refuted"]
    assert broken
    for claim in broken:
        assert claim.core is None and claim.span is not None
        assert claim.span.text().startswith(("q[b,h,s,d]", "k[b,h,s,d]", "v[b,h,s,d]"))


@pytest.mark.parametrize(
    "text",
    [
        block(),
        cache("j <= pos(i)", ensure="incremental"),
        paged("j <= pos(i)", "causal"),
        paged("j <= pos(i)", "incremental"),
        two_layers("j <= i", "j <= i"),
    ],
)
def test_claims_read_their_own_indices_and_inputs(text: str) -> None:
    graph = graph_of(text)
    for claim in claims(graph.properties[0], graph):
        free = {a.name for a in claim.free + claim.some}
        assert len(free) == len(claim.free + claim.some)
        for e in (claim.goal, claim.given):
            assert indices(e) <= free
            assert all(isinstance(graph[x.tensor], Input) for x in loads(e))


def test_the_assignment_explains_keys_that_change_as_tokens_come() -> None:
    graph = graph_of(
        block(before="m[b,e] = sum(s: x[b,s,e]) / S\n z[b,s,e] = x[b,s,e] - m[b,e]", x="z", ensure="incremental")
    )
    broken = [c for c in claims(graph.properties[0], graph) if decide(c, graph).status == "refuted"]
    assert {c.span.text() for c in broken if c.span} == {"m[b,e] = sum(s: x[b,s,e]) / S", "sum(s: x[b,s,e])"}


@pytest.mark.parametrize("name", ["a", "z0"])
def test_a_chunk_sees_all_of_itself_whatever_its_core_is_called(name: str) -> None:
    graph = graph_of(CHUNKS.replace("NAME", name))
    try:
        found = [decide(claim, graph).status for claim in claims(graph.properties[0], graph)]
    except Undecided:
        return
    assert "refuted" in found


def test_an_input_in_two_frames_of_positions_has_none() -> None:
    graph = graph_of(TWO_FRAMES)
    with pytest.raises(Undecided, match="an entry has no one position"):
        claims(graph.properties[0], graph)


def test_a_key_of_a_page_sits_at_its_slot() -> None:
    assert verdict(graph_of(PAGES_OF_SLOTS)) == "refuted"
    slot = PAGES_OF_SLOTS.replace("allow m * Z <= pos(i)", "allow m * Z + r <= pos(i)")
    assert slot != PAGES_OF_SLOTS and verdict(graph_of(slot)) == "proved"
    last = re.sub(r"align .*", "align last", slot)
    assert last != slot and verdict(graph_of(last)) == "proved"


def appended(value: str, align: str = "offset past", fact: str = "len[b] >= 0") -> Graph:
    return graph_of(APPENDED.replace("VALUE", value).replace("ALIGN", align).replace("FACT", fact))


@pytest.mark.parametrize("align", ["offset past", "last"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("v[b,j,d]", "proved"),
        ("v[b,max(j - 1, 0),d]", "proved"),
        ("v[b,Sk - 1 - j,d]", "refuted"),
        ("v[b,min(j + 1, Sk - 1),d]", "refuted"),
    ],
)
def test_what_is_not_cached_yet_is_not_read(value: str, expected: str, align: str) -> None:
    assert verdict(appended(value, align)) == expected


@pytest.mark.parametrize("name", ["n", "t"])
def test_what_an_index_is_called_proves_nothing(name: str) -> None:
    text = APPENDED.replace("VALUE", "v[b,j,d]").replace("ALIGN", "last").replace("FACT", "len[b] >= 0")
    text = text.replace("  core o", f"  project {{ m[b,e] = sum({name}: q[b,{name},e]) }}\n  core o")
    text = text.replace("return o", "merge { y[b,s,d] = o[b,s,d] + m[b,d] }\n  return y")
    assert verdict(graph_of(text)) == "refuted"


def test_what_a_table_is_called_proves_nothing() -> None:
    text = """attention powers {
      size B, S, D
      input x[B,S,D], pow[B,S]: int
      core o[b,i,d] { score x[b,i,c] * x[b,j,c]
        allow j <= i or (i == 3 and pow[2,3] != 8 and 2 ^ i > 0)
        softmax j
        matmul x[b,j,d] }
      return o
      ensure causal }"""
    assert verdict(graph_of(text)) == "refuted"
