"""From syntax to graph: which nodes, with which axes, and what they compute."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from irc.codegen.expr import Const, Index, Kind, Load, Op, Size, integer, op
from irc.elaborate.build import build
from irc.error import SpecError
from irc.grammar.parser import parse
from irc.grammar.source import Source
from irc.graph.interpret import interpret
from irc.graph.ir import Graph, Map, Reduce, is_tile
from irc.graph.size import evaluate, text

ACCEPTED = Path(__file__).parent / "programs" / "accepted"


def graph_of(source: str) -> Graph:
    return build(parse(Source("<test>", source))[0])


def accepted(name: str) -> Graph:
    return graph_of((ACCEPTED / f"{name}.attn").read_text(encoding="utf-8"))


def core(stages: str, declare: str = "size B, H, S, D\n input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]") -> Graph:
    return graph_of(f"attention t {{\n {declare}\n core o[b,h,i,d] {{\n {stages}\n }}\n return o\n}}")


PLAIN = "score q[b,h,i,c] * k[b,h,j,c]\n {}\n softmax j\n matmul v[b,h,j,d]"


def test_a_core_is_five_nodes() -> None:
    graph = accepted("softcap_window")
    nodes = [n for n in graph if isinstance(n, Map | Reduce)]
    assert [n.name for n in nodes] == ["o.score", "o.logit", "lse", "o.weight", "o"]
    assert [n.name for n in nodes if is_tile(n)] == ["o.score", "o.logit", "o.weight"]
    weight, output = graph["o.weight"], graph["o"]
    assert isinstance(weight, Map) and isinstance(output, Reduce)
    assert weight.where is not None and weight.where == output.where


def test_a_bare_score_needs_no_logit() -> None:
    graph = core(PLAIN.format(""))
    assert "o.logit" not in graph.by_name
    assert isinstance(graph["o.lse"], Reduce) and graph["o.lse"].body == Load(
        "o.score", tuple(map(Index, ("b", "h", "i", "j")))
    )


@pytest.mark.parametrize(
    ("header", "query", "key", "over", "rows"),
    [
        ("(n i)", "(n i)", "j", "j", ["n", "i"]),
        ("n,i", "(n i)", "(n j)", "j", ["i"]),  # blocks: the values have the block's index too, so it is a batch's
        ("y,x", "(y x)", "(z w)", "(z w)", ["y", "x"]),
        ("y,x", "y,x", "z,w", "(z w)", ["y", "x"]),  # without a product axis, each has its key
        ("n,i", "n,i", "j", "j", ["i"]),
    ],
)
def test_query_indices_are_those_that_the_values_lack(
    header: str, query: str, key: str, over: str, rows: list[str]
) -> None:
    declare = "size B, M, D\n input " + ", ".join(
        f"{name}[B,{re.sub('[a-z]', 'M', at)},D]" for name, at in (("q", query), ("k", key))
    )
    stages = f"score q[b,{query},c] * k[b,{key},c]\n softmax {over}\n matmul k[b,{key},d]"
    graph = graph_of(f"attention t {{\n {declare}\n core o[b,{header},d] {{\n {stages}\n }}\n return o\n}}")
    assert [a.name for a in graph.cores[0].rows] == rows


def test_a_single_product_is_a_reduction_of_the_targets_name() -> None:
    graph = accepted("cross")
    assert isinstance(graph["y"], Reduce) and [a.name for a in graph["y"].over] == ["h", "d"]
    assert "y.dot" not in graph.by_name


def test_product_axes_are_kept_as_groups() -> None:
    graph = accepted("differential")
    node = graph["n"]
    assert isinstance(node, Map) and node.groups == (1, 1, 2)
    assert [a.name for a in node.axes] == ["b", "s", "h", "d"]


def test_several_products_are_several_reductions() -> None:
    assert {"o.score1", "o.score2"} <= accepted("latent").by_name.keys()


def test_projections_inside_a_core_are_not_multiplied_out() -> None:
    graph = accepted("projected_inside")
    tiles = [n.name for n in graph if is_tile(n)]
    assert tiles == ["o.score3", "o.logit", "o.weight"]


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [
        ("gpt2", ["i"], ["j"]),
        ("neighbourhood", ["yi", "xi"], ["yj", "xj"]),
        ("packed", ["i"], ["j"]),
        ("grouped_heads", ["i"], ["j"]),
        ("blocks", ["i"], ["n", "m"]),
    ],
)
def test_query_and_key_indices_are_found(name: str, rows: list[str], columns: list[str]) -> None:
    weight = accepted(name)["o.weight"]
    assert isinstance(weight, Map)
    assert [a.name for a in weight.axes if a.role == "row"] == rows
    assert [a.name for a in weight.axes if a.role == "column"] == columns


def test_shared_keys_leave_the_compared_index_as_query() -> None:
    declare = "size B, H, S, D\n input q[B,H,S,D], k[B,S,D], v[B,S,D]"
    graph = core("score q[b,h,i,c] * k[b,j,c]\n allow j <= i\n softmax j\n matmul v[b,j,d]", declare)
    weight = graph["o.weight"]
    assert isinstance(weight, Map) and [a.name for a in weight.axes if a.role == "row"] == ["i"]


@pytest.mark.parametrize(
    ("align", "position"),
    [
        ("first", Index("i")),
        ("last", op("add", Index("i"), op("sub", Size("Sk"), Size("Sq")))),
        ("offset 3", op("add", Index("i"), integer(3))),
    ],
)
def test_alignment_places_the_query(align: str, position: Op | Index) -> None:
    declare = "size B, H, Sq, Sk, D\n input q[B,H,Sq,D], k[B,H,Sk,D], v[B,H,Sk,D]"
    graph = core(f"align {align}\n" + PLAIN.format("allow j <= pos(i)"), declare)
    weight = graph["o.weight"]
    assert isinstance(weight, Map) and weight.where == op("le", Index("j"), position)


def test_blocks_and_allows_intersect() -> None:
    weight = core(PLAIN.format("allow j <= i\n block j == 0"))["o.weight"]
    allowed = op("le", Index("j"), Index("i"))
    blocked = op("eq", Index("j"), integer(0))
    assert isinstance(weight, Map) and weight.where == op("and", allowed, op("not", blocked))


def test_integers_become_floats_where_floats_stand() -> None:
    logit = core(PLAIN.format("bias (j - i) / 2.0 + 1"))["o.logit"]
    assert isinstance(logit, Map) and logit.body.kind is Kind.FLOAT
    assert Const(1.0, Kind.FLOAT) in logit.body.args[1].args  # type: ignore[union-attr]


@pytest.mark.parametrize("path", sorted(ACCEPTED.glob("*.attn")), ids=lambda p: p.stem)
def test_no_access_of_the_accepted_programs_is_left_to_the_call(path: Path) -> None:
    assert accepted(path.stem).accesses == ()


@pytest.mark.parametrize("index", ["i + w", "j % 7", "i // w", "where(i > j, i - j, 0) + 1"])
def test_an_access_that_cannot_be_proved_is_checked_at_the_call(index: str) -> None:
    declare = "size B, H, S, D, N\n input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]\n param T[N]\n scalar w: int"
    graph = core(PLAIN.format(f"bias T[{index}]"), declare)
    assert [load.tensor for load, _ in graph.accesses] == ["T"]


@pytest.mark.parametrize(
    ("size", "index"),
    [
        ("2*S - 1", "i - j + S - 1"),
        ("S", "abs(i - j)"),
        ("16", "clamp(i - j, 0, 15)"),
        ("S", "min(i, j)"),
        ("2*S", "i + where(j > i, S, 0)"),
        ("3*S", "i*3 + j % 3"),
        ("S", "max(i - j, 0)"),
    ],
)
def test_an_access_is_proved_for_all_sizes(size: str, index: str) -> None:
    declare = f"size B, H, S, D, N = {size}\n input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]\n param T[N]"
    graph = core(PLAIN.format(f"bias T[{index}]"), declare)
    assert graph.accesses == ()
    for s in (1, 2, 5):  # the interpreter refuses an access outside
        tensors = {name: np.ones((1, 2, s, 3)) for name in "qkv"}
        n = evaluate(Size("N"), {"S": s}, dict(graph.sizes))
        interpret(graph, {**tensors, "T": np.ones(n)}, {"B": 1, "H": 2, "S": s, "D": 3})


def test_a_divisor_that_may_be_zero_is_assumed_not_to_be() -> None:
    declare = "size B, H, S, D\n input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]\n scalar w: int"
    graph = core(PLAIN.format("allow i // w == j // w and i // (S // 2 + 1) == 0"), declare)
    assert [(f.text, f.free) for f in graph.facts] == [("w >= 1 (a divisor)", ())]


def test_a_whole_block_computes_what_numpy_does() -> None:
    rng = np.random.default_rng(0)
    b, s, h, d = 2, 3, 12, 64
    e = h * d
    inputs = {
        "x": rng.standard_normal((b, s, e)),
        "Wqkv": rng.standard_normal((e, 3 * e)) / 30,
        "bqkv": rng.standard_normal(3 * e),
        "Wo": rng.standard_normal((e, e)) / 30,
        "bo": rng.standard_normal(e),
    }
    found = interpret(accepted("gpt2"), inputs, {"B": b, "S": s})["y"]
    q, k, v = np.moveaxis((inputs["x"] @ inputs["Wqkv"] + inputs["bqkv"]).reshape(b, s, 3, h, d), 2, 0)
    score = np.einsum("bihc,bjhc->bhij", q, k) / np.sqrt(d)
    score = np.where(np.tril(np.ones((s, s), bool)), score, -np.inf)
    weight = np.exp(score - score.max(-1, keepdims=True))
    weight /= weight.sum(-1, keepdims=True)
    o = np.einsum("bhij,bjhd->bihd", weight, v).reshape(b, s, e)
    np.testing.assert_allclose(found, o @ inputs["Wo"] + inputs["bo"], rtol=1e-10)


def test_every_mistake_is_reported_once() -> None:
    with pytest.raises(SpecError) as raised:
        graph_of(
            "attention t {\n size S, E\n input x[S,E]\n"
            " project {\n y[s] = x[s,e]\n z[s] = y[s] * 2\n w[s,e] = u[s,e]\n }\n return z, w\n}"
        )
    assert [(d.code, d.span.line) for d in raised.value.diagnostics] == [("E200", 5), ("E101", 7)]


def test_sizes_follow_by_division() -> None:
    graph = graph_of(
        "attention t {\n size B, H, D, E = H * D\n input x[B,E], g[H]\n project { y[b,h,d] = x[b,(h d)] * g[h] }\n"
        " return y\n}"
    )
    node = graph["y"]
    assert isinstance(node, Map) and [text(a.size) for a in node.axes] == ["B", "H", "D"]
