"""`incremental`: each verdict against a step of decoding computed beside the full computation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pytest

from irc.codegen.expr import Size
from irc.graph.ir import Graph, shape
from irc.proof import replay
from irc.proof.prove import prove
from tests.proof.dependence import Array, entries, outputs, states
from tests.proof.test_flow import answers, block, cache, graph_of, two_layers, verdict
from tests.proof.test_flow_random import AFTER, BEFORE

GROWING = {"B": (1,), "S": (1, 2, 4), "H": (1,), "D": (2,), "M": (3,)}
CACHED = {"B": (1,), "Sq": (1, 2, 4), "Sk": (1, 2, 4), "H": (1,), "D": (2,), "L": (6,)}


@dataclass(frozen=True)
class Case:
    text: str
    holds: bool
    sizes: dict[str, tuple[int, ...]] = field(default_factory=lambda: CACHED)


def stage(line: str, more: str = "", allow: str = "j <= pos(i)", align: str = "align last") -> str:
    """A cache with one more stage in its core."""
    return cache(f"{allow}\n {line}", align, "incremental", more)


SLOPE = "const slope[H]"
TABLE = "size L\n param T[H,L]\n assume Sk <= L"
DECODER = """attention decoder {{
  size B, S, M, D
  input x[B,S,D], memory[B,M,D]
  core a[b,i,d] {{
    score x[b,i,c] * x[b,j,c]
    allow j <= i
    softmax j
    matmul x[b,j,d]
  }}
  core y[b,i,d] {{
    score a[b,i,c] * {keys}[b,m,c]
    softmax m
    matmul {keys}[b,m,d]
  }}
  return y
  ensure incremental
}}"""
OVER_QUERIES = """attention over {{
  size B, Sq, Sk, D
  input q[B,Sq,D], k[B,Sk,D], v[B,Sk,D]
  project {{ m[b,e] = sum({n}: q[b,{n},e]) }}
  core o[b,i,d] {{
    align last
    score q[b,i,c] * k[b,j,c]
    allow j <= pos(i)
    softmax j
    matmul v[b,j,d] + m[b,d]
  }}
  return o
  ensure incremental
}}"""
CASES = {
    "decoder block with a memory": Case(DECODER.format(keys="memory"), True, GROWING),
    "memory of the tokens themselves": Case(DECODER.format(keys="x"), False, GROWING),
    "cache": Case(cache("j <= pos(i)", ensure="incremental"), True),
    "window": Case(cache("pos(i) - 2 < j and j <= pos(i)", ensure="incremental"), True),
    "aligned first": Case(cache("j <= pos(i)", "align first", "incremental"), False),
    "position lost in the window": Case(cache("i - 2 < j and j <= pos(i)", ensure="incremental"), False),
    "no mask": Case(cache("true", ensure="incremental"), False),
    "one ahead": Case(cache("j <= pos(i) + 1", ensure="incremental"), False),
    "slopes by position": Case(stage("bias slope[h] * (j - pos(i))", SLOPE), True),
    "slopes up to a number for each row": Case(stage("bias slope[h] * (j - i)", SLOPE), True),
    "slopes up to a number for each row, scaled": Case(stage("bias slope[h] * (j + 2 * i) - i\n scale 3", SLOPE), True),
    "slopes by row under a soft cap": Case(stage("bias slope[h] * (j - i)\n map tanh(score)", SLOPE), False),
    "slopes by row beside a sink": Case(
        stage("bias slope[h] * (j - i)", SLOPE).replace("softmax j", "softmax j with slope[h]"), False
    ),
    "slopes by row and their logsumexp": Case(
        stage("bias slope[h] * (j - i)", SLOPE)
        .replace("o[b,h,i,d] {", "o[b,h,i,d], l[b,h,i] {")
        .replace("return o", "return o, l"),
        False,
    ),
    "slopes by row": Case(stage("bias slope[h] * ((j - i) * (j - i))", SLOPE), False),
    "table by distance": Case(stage("bias T[h, clamp(pos(i) - j, 0, L - 1)]", TABLE), True),
    "table by row": Case(stage("bias T[h, clamp(i, 0, L - 1)] * j", TABLE), False),
    "table by key": Case(stage("bias T[h, clamp(j, 0, L - 1)]", TABLE), True),
    "scale of the number of keys": Case(stage("scale 1 / sqrt(Sk)"), False),
    "scale of the position": Case(stage("scale 1 / sqrt(pos(i) + 1)"), True),
    "lengths": Case(cache("j < len[b] and j <= pos(i)", ensure="incremental", more="input len[B]: int"), True),
    "documents": Case(
        cache("dq[b,i] == dk[b,j] and j <= pos(i)", ensure="incremental", more="input dq[B,Sq]: int, dk[B,Sk]: int"),
        True,
    ),
    "blocks": Case(cache("j // 2 <= pos(i) // 2", ensure="incremental"), False),
    "one size": Case(block("j <= i", ensure="incremental"), True, GROWING),
    "one size, one ahead": Case(block("j <= i + 1", ensure="incremental"), False, GROWING),
    "keys change as tokens come": Case(
        block(before="m[b,e] = sum(s: x[b,s,e]) / S\n z[b,s,e] = x[b,s,e] - m[b,e]", x="z", ensure="incremental"),
        False,
        GROWING,
    ),
    "keys of the tokens so far": Case(
        block(before="z[b,s,e] = sum(t: where(t <= s, x[b,t,e], 0)) * one[s] / (s + 1)", x="z", ensure="incremental"),
        True,
        GROWING,
    ),
    "reversed": Case(
        block("j <= i", before="z[b,s,e] = x[b,S-1-s,e] * one[s]", x="z", ensure="incremental"), False, GROWING
    ),
    "a sum over queries": Case(OVER_QUERIES.format(n="n"), False),
    "a sum over queries called like the step": Case(OVER_QUERIES.format(n="t"), False),
    "keys up to a number called like the step": Case(
        cache("j <= t", ensure="incremental", more="scalar t: int"), False
    ),
    "layers": Case(two_layers("j <= i", "i - w < j and j <= i", "incremental"), True, GROWING),
    "layers, one looks ahead": Case(two_layers("j <= i + 1", "j <= i", "incremental"), False, GROWING),
    "residual": Case(block(after="y[b,s,(h d)] = o[b,h,s,d] + x[b,s,(h d)]", ensure="incremental"), True, GROWING),
}

HELD = """attention held {{
  size B, Sq, Sk, D
  input q[B,Sq,D], k[B,Sk,D], v[B,Sk,D], doc[B,Sk]: int
  param slope[Sk]
  scalar past: int
  assume past >= 0, past + Sq <= Sk
  core o[b,i,d] {{
    align offset past
    score q[b,i,c] * k[b,j,c]
    {stage}
    allow {allow}
    softmax j
    matmul {values}
  }}
  return o
  ensure incremental
}}"""


def held(values: str = "v[b,j,d]", stage: str = "", allow: str = "j <= pos(i)") -> str:
    """A cache that has its full size from the start."""
    return HELD.format(values=values, stage=stage, allow=allow)


IN_PLACE = {
    "cache": Case(held(), True),
    "values the other way round": Case(held("v[b,Sk - 1 - j,d]"), False),
    "values one ahead": Case(held("v[b,min(j + 1, Sk - 1),d]"), False),
    "values one before": Case(held("v[b,max(j - 1, 0),d]"), True),
    "values one ahead of earlier keys": Case(held("where(j < pos(i), v[b,min(j + 1, Sk - 1),d], 0)"), True),
    "last key in the weights": Case(held(stage="map score * k[b,Sk - 1,0]"), False),
    "last key for the whole row, which may be NaN": Case(held(stage="bias k[b,Sk - 1,0]"), False),
    "key of the query for the whole row": Case(held(stage="bias k[b,pos(i),0]"), True),
    "number of the row": Case(held(stage="bias slope[0] * (j - i)"), True),
    "slope of the last slot": Case(held(stage="bias slope[Sk - 1] * j"), True),
    "document of the last key": Case(held(allow="j <= pos(i) and doc[b,j] == doc[b,Sk - 1]"), False),
    "document of the query": Case(held(allow="doc[b,j] == doc[b,pos(i)] and j <= pos(i)"), True),
    "a step sees what no row of the full run does": Case(
        held(allow="j <= pos(i) or (i == 0 and past > 0 and j == 3)"), False
    ),
}


def step(graph: Graph, values: Mapping[str, Array], count: int) -> tuple[dict[str, Array], dict[str, int]]:
    """The tensors of a step that has `count` tokens, the last one its query, out of those of the full computation."""
    cut: dict[str, Array] = {}
    for name, value in values.items():
        node = graph[name]
        for dim, size in enumerate(shape(node)):
            if size in (Size("Sk"), Size("S")):
                value = np.take(value, range(count), dim)
            elif size == Size("Sq"):
                value = np.take(value, [count - 1], dim)
        cut[name] = value
    return cut, {"Sq": 1, "Sk": count, "S": count}


ALLOW = (
    "j <= pos(i)",
    "pos(i) - 2 < j and j <= pos(i)",
    "j <= i",
    "j <= pos(i) + 1",
    "j <= pos(i) and (j < 1 or pos(i) - j < 2)",
    "(pos(i) - j) % 2 == 0 and j <= pos(i)",
    "j // 2 < pos(i) // 2 or j == pos(i)",
    "j <= pos(i) and j % 3 == Sk % 3",
    "j < Sk - Sq + i + 1",
)
STAGES = (
    "",
    "bias slope[h] * (j - pos(i))",
    "bias slope[h] * (j - i)",
    "bias slope[h] * j * Sk",
    "scale 1 / sqrt(pos(i) + 1)",
    "map tanh(score) + i",
    "bias where(j > i, slope[h] * j, 0)",
    "bias where(j <= pos(i), slope[h] * j, Sk)",
    "bias slope[h] * (Sk - Sq) * i",
)
ALIGN = ("align last", "align first", "align offset Sk - Sq")
CACHES = [stage(s, SLOPE, a, e) for a, s, e in product(ALLOW, STAGES, ALIGN)]
BLOCKS = [
    block(a, BEFORE[b], "z", AFTER[e], "incremental")
    for b, a, e in product(BEFORE, ("j <= i", "i - 2 < j and j <= i", "j < i + 2", "j // 2 <= i // 2"), AFTER)
]


AHEAD = """attention ahead {{
  size B, S, D
  input x[B,S,D]
  param one[S]
  scalar w: int
  assume w >= 1
  project {{ z[b,s,e] = x[b,min(s + 1, S - 1),e] * one[s] }}
  core o[b,i,d] {{
    align first
    score x[b,i,c] * {keys}[b,j,c]
    allow {allow}
    softmax j
    matmul {keys}[b,j,d]
  }}
  merge {{ y[b,s,d] = where(w < s + {late}, o[b,s,d], 0) }}
  return y
  ensure incremental
}}"""
OF_THE_ROW = """attention row {{
  size B, Sq, Sk, D
  input q[B,Sq,D], k[B,Sk,D], v[B,Sk,D]
  project {{ last[b] = k[b,Sk - 1,0] }}
  core o[b,i,d] {{
    align last
    score q[b,i,c] * k[b,j,c]
    map {score}
    allow j <= pos(i)
    softmax j
    matmul v[b,j,d]
  }}
  return o
  ensure incremental
}}"""


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (AHEAD.format(keys="z", allow="j < i", late=2), "proved"),
        (AHEAD.format(keys="z", allow="j < i - w", late=2), "proved"),
        (AHEAD.format(keys="z", allow="j < i + w - 1", late=2), "refuted"),
        (AHEAD.format(keys="z", allow="j <= i", late=2), "refuted"),
        (AHEAD.format(keys="x", allow="i % 2 >= i", late=0), "proved"),
        (AHEAD.format(keys="x", allow="i % 2 >= i", late=1), "refuted"),
        (OF_THE_ROW.format(score="score - last[b]"), "proved"),
        (OF_THE_ROW.format(score="tanh(score) - 0.1 * sum(n: v[b,n,0])"), "proved"),
        (AHEAD.format(keys="z", allow="j < i", late=2).replace("return y", "return y, z"), "refuted"),
        (OF_THE_ROW.format(score="score + 0 * last[b] * j"), "not decided"),
        (OF_THE_ROW.format(score="score * last[b]"), "refuted"),
    ],
)
def test_only_what_an_output_shows_is_refuted(text: str, status: str) -> None:
    (found,) = prove(graph_of(text))
    assert found.status == status
    assert (found.model is not None) == (status == "refuted")
    assert found.why.endswith("no run of a few tokens has other outputs") == (status == "not decided")


@pytest.mark.parametrize("name", [n for n in CASES if not CASES[n].holds])
def test_what_is_refuted_is_shown_by_a_run(name: str) -> None:
    graph = graph_of(CASES[name].text)
    refuted = [a.model for a in answers(graph) if a.model is not None]
    assert any(replay.differs(graph, model) for model in refuted)


@pytest.mark.parametrize("name", CASES)
def test_decoding_is_the_full_computation_as_running_both_shows(name: str) -> None:
    case = CASES[name]
    graph = graph_of(case.text)
    assert verdict(graph) == ("proved" if case.holds else "refuted")
    assert case.holds != differs(graph, case.sizes)


@pytest.mark.parametrize("at", np.random.default_rng(3).choice(len(CACHES), 20, replace=False))
def test_caches_put_together_at_random(at: int) -> None:
    graph = graph_of(CACHES[at])
    found = differs(graph, {"B": (1,), "Sq": (4,), "Sk": (4,), "H": (1,), "D": (1,)})
    assert verdict(graph) == ("refuted" if found else "proved")


@pytest.mark.parametrize("at", np.random.default_rng(4).choice(len(BLOCKS), 20, replace=False))
def test_blocks_put_together_at_random(at: int) -> None:
    graph = graph_of(BLOCKS[at])
    found = differs(graph, {"B": (1,), "S": (2, 7), "H": (1,), "D": (1,)})
    assert verdict(graph) == ("refuted" if found else "proved")


@pytest.mark.parametrize("name", [n for n in IN_PLACE if not IN_PLACE[n].holds])
def test_what_is_refuted_in_place_is_shown_by_a_run(name: str) -> None:
    graph = graph_of(IN_PLACE[name].text)
    refuted = [a.model for a in answers(graph) if a.model is not None]
    assert any(replay.differs(graph, model) for model in refuted)


@pytest.mark.parametrize("name", IN_PLACE)
def test_a_cache_of_full_size_is_read_where_it_is_filled(name: str) -> None:
    case = IN_PLACE[name]
    graph = graph_of(case.text)
    assert verdict(graph) == ("proved" if case.holds else "refuted")
    assert case.holds != differs_in_place(graph)


def differs_in_place(graph: Graph) -> bool:
    """Whether a step's row changes with what stands beyond it in the cache, or is not that of the full computation."""
    rng = np.random.default_rng(1)
    for count in (1, 2, 4, 4):
        sizes = {"B": 1, "Sq": count, "Sk": count, "D": 2}
        inputs = {n.name: entries(n, sizes, rng) for n in graph.inputs} | {"past": np.asarray(0)}
        full = outputs(graph, inputs, sizes)["o"]
        for at in range(count):
            now = {**inputs, "q": inputs["q"][:, [at]], "past": np.asarray(at)}
            for name in ("k", "v", "doc"):
                fresh = entries(graph[name], sizes, rng)  # type: ignore[arg-type]
                fresh = fresh * np.nan if name != "doc" and at % 2 else fresh
                now[name] = np.concatenate((inputs[name][:, : at + 1], fresh[:, at + 1 :]), axis=1)
            row = outputs(graph, now, {**sizes, "Sq": 1})["o"]
            if not np.allclose(row[:, 0], full[:, at], rtol=0, atol=1e-9):
                return True
    return False


def differs(graph: Graph, choices: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a step of decoding gives anything but its part of the full computation."""
    for sizes, inputs in states(graph, {k: v for k, v in choices.items() if k in dict(graph.sizes)}):
        if sizes.get("Sq") != sizes.get("Sk"):
            continue
        full = outputs(graph, inputs, sizes)
        for count in range(1, sizes.get("Sk", sizes.get("S", 0)) + 1):
            cut, fewer = step(graph, inputs, count)
            now = outputs(graph, cut, {**sizes, **{k: v for k, v in fewer.items() if k in sizes}})
            expected, _ = step(graph, {node: full[public] for public, node in graph.outputs}, count)
            if any(not np.allclose(now[p], expected[n], rtol=0, atol=1e-9) for p, n in graph.outputs):
                return True
    return False


@pytest.mark.parametrize(
    ("bound", "value", "status"),
    [
        ("< Sk", "v[b,h,idx[b,j],d]", "not decided"),
        ("<= n", "v[b,h,idx[b,j],d]", "proved"),
        ("< Sk", "v[b,h,min(idx[b,j], j),d]", "proved"),
        ("< Sk", "v[b,h,j,d] * w[idx[b,j]]", "not decided"),
    ],
)
def test_tokens_that_a_table_of_tokens_tells(bound: str, value: str, status: str) -> None:
    """A step is given a table of its own tokens: the full computation's may tell of later ones."""
    more = f"input idx[B,Sk]: int\n  param w[Sk]\n assume 0 <= idx[b,n] {bound}"
    text = cache("j <= pos(i)", ensure="incremental", more=more).replace("matmul v[b,h,j,d]", f"matmul {value}")
    (found,) = prove(graph_of(text))
    assert found.status == status
