"""The interpreter against formulas written independently in numpy."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from irc.codegen.expr import Axis, Expr, Kind, Load, Size, flat, integer, number, op
from irc.graph import interpret as interpreter
from irc.graph.interpret import interpret, size_value
from irc.graph.ir import Graph, Input, Map, Node, Reduce, Scatter, Update
from irc.graph.verify import verify

B, H, Sq, Sk, D = (Size(n) for n in ("B", "H", "Sq", "Sk", "D"))
b, h, i, j, c = (
    Axis("b", B),
    Axis("h", H),
    Axis("i", Sq, "row"),
    Axis("j", Sk, "column"),
    Axis("c", D),
)
CAUSAL = op("le", j.index, i.index)


def at(name: str, *axes: Axis | Expr, kind: Kind = Kind.FLOAT) -> Load:
    return Load(name, tuple(a.index if isinstance(a, Axis) else a for a in axes), kind)


def tensor(name: str, *shape: Expr, kind: Kind = Kind.FLOAT) -> Input:
    return Input(name, "input", kind, shape)


def core(mask: Expr | None, *, heads: Expr = H, key_head: Expr = h.index, sink: bool = False) -> Graph:
    """Attention as the compiler builds it: scores, logsumexp, weights, weighted sum."""
    inputs: list[Node] = [tensor("q", B, H, Sq, D), tensor("k", B, heads, Sk, D), tensor("v", B, heads, Sk, D)]
    if sink:
        inputs.append(tensor("sink", H))
    score = op("mul", at("q", b, h, i, c), at("k", b, key_head, j, c))
    weight = op("exp", op("sub", at("s", b, h, i, j), at("lse", b, h, i)))
    init = at("sink", h) if sink else None
    nodes: list[Node] = [
        *inputs,
        Reduce("s", (b, h, i, j), (c,), "sum", score, mask),
        Reduce("lse", (b, h, i), (j,), "logsumexp", at("s", b, h, i, j), mask, init),
        Map("p", (b, h, i, j), weight, mask),
        Reduce("o", (b, h, i, c), (j,), "sum", op("mul", at("p", b, h, i, j), at("v", b, key_head, j, c)), mask),
    ]
    graph = Graph("core", tuple(nodes), (("o", "o"), ("lse", "lse")))
    verify(graph)
    return graph


def attention(q: Any, k: Any, v: Any, allowed: Any, sink: Any = None) -> tuple[Any, Any]:
    """One row at a time, over its allowed keys alone."""
    o, lse = np.zeros((*q.shape[:3], v.shape[3])), np.full(q.shape[:3], -np.inf)
    for x, y, row in np.ndindex(q.shape[:3]):
        keys = np.flatnonzero(allowed[row])
        logits = k[x, y, keys] @ q[x, y, row]
        every = logits if sink is None else np.append(logits, sink[y])
        if every.size:
            top = every.max()
            lse[x, y, row] = top + np.log(np.exp(every - top).sum())
            o[x, y, row] = np.exp(logits - lse[x, y, row]) @ v[x, y, keys]
    return o, lse


SIZES = {"B": 2, "H": 4, "Sq": 5, "Sk": 7, "D": 3}


def arrays(sizes: dict[str, int], heads: int | None = None, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    z = sizes
    kv = (z["B"], z["H"] if heads is None else heads, z["Sk"], z["D"])
    return {
        "q": rng.normal(size=(z["B"], z["H"], z["Sq"], z["D"])),
        "k": rng.normal(size=kv),
        "v": rng.normal(size=kv),
        "sink": rng.normal(size=z["H"]),
    }


def grid(predicate: Any, rows: int = 5, keys: int = 7) -> Any:
    return np.array([[bool(predicate(x, y)) for y in range(keys)] for x in range(rows)])


def test_causal_core() -> None:
    x = arrays(SIZES)
    out = interpret(core(CAUSAL), x, SIZES)
    o, lse = attention(x["q"], x["k"], x["v"], grid(lambda r, k: k <= r))
    np.testing.assert_allclose(out["o"], o, atol=1e-13)
    np.testing.assert_allclose(out["lse"], lse, atol=1e-13)
    assert set(out) == {"q", "k", "v", "s", "lse", "lse.remainder", "p", "o"}
    assert (out["p"][..., ~grid(lambda r, k: k <= r)] == 0.0).all()


def test_core_without_mask() -> None:
    x = arrays(SIZES)
    o, lse = attention(x["q"], x["k"], x["v"], grid(lambda r, k: True))
    out = interpret(core(None), x, SIZES)
    np.testing.assert_allclose(out["o"], o, atol=1e-13)
    np.testing.assert_allclose(out["lse"], lse, atol=1e-13)


def test_sink_is_one_more_logit() -> None:
    x = arrays(SIZES)
    mask = op("lt", j.index, i.index)  # row 0 sees the sink alone
    out = interpret(core(mask, sink=True), x, SIZES)
    o, lse = attention(x["q"], x["k"], x["v"], grid(lambda r, k: k < r), x["sink"])
    np.testing.assert_allclose(out["o"], o, atol=1e-13)
    np.testing.assert_allclose(out["lse"], lse, atol=1e-13)
    np.testing.assert_allclose(out["lse"][:, :, 0], np.broadcast_to(x["sink"], (2, 4)))


def test_empty_rows_give_zero_and_minus_infinity() -> None:
    x = arrays(SIZES)
    out = interpret(core(op("lt", j.index, i.index)), x, SIZES)
    assert (out["o"][:, :, 0] == 0.0).all()
    assert (out["lse"][:, :, 0] == -np.inf).all()
    assert np.isfinite(out["o"]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_blocked_non_finite_key_and_value_reach_no_output(bad: float) -> None:
    x = arrays(SIZES)
    mask = op("and", CAUSAL, op("ne", j.index, integer(2)))
    clean = interpret(core(mask), x, SIZES)
    for name in ("k", "v"):
        x[name][:, :, 2] = bad  # blocked for every row
        x[name][:, :, 5:] = bad  # in the future of every row
    out = interpret(core(mask), x, SIZES)
    np.testing.assert_allclose(out["o"], clean["o"], atol=1e-14)
    np.testing.assert_allclose(out["lse"], clean["lse"], atol=1e-14)


def test_allowed_nan_reaches_its_rows_only() -> None:
    x = arrays(SIZES)
    x["v"][:, :, 3] = np.nan
    out = interpret(core(CAUSAL), x, SIZES)
    assert np.isnan(out["o"][:, :, 3:]).all()
    assert np.isfinite(out["o"][:, :, :3]).all()


def test_grouped_heads() -> None:
    x = arrays(SIZES, heads=2)
    graph = core(CAUSAL, heads=Size("G"), key_head=op("floordiv", h.index, integer(2)))
    out = interpret(graph, x, SIZES | {"G": 2})
    k, v = (np.repeat(x[n], 2, axis=1) for n in ("k", "v"))
    np.testing.assert_allclose(out["o"], attention(x["q"], k, v, grid(lambda r, c: c <= r))[0], atol=1e-13)


@pytest.mark.parametrize("empty", ["B", "H", "Sq", "Sk", "D"])
def test_empty_axes(empty: str) -> None:
    sizes = SIZES | {empty: 0}
    for mask in (None, CAUSAL):
        out = interpret(core(mask), arrays(sizes), sizes)
        assert out["o"].shape == (sizes["B"], sizes["H"], sizes["Sq"], sizes["D"])
        assert (out["o"] == 0.0).all()
        if empty == "Sk":
            assert (out["lse"] == -np.inf).all()


@pytest.mark.parametrize("size", [1e9, -1e9, 3e17])
def test_keys_that_tie_at_large_scores_have_their_mean(size: float) -> None:
    x = arrays(SIZES)
    x["q"], x["k"] = np.full_like(x["q"], 1.0), np.full_like(x["k"], size)
    out = interpret(core(None), x, SIZES)
    np.testing.assert_allclose(
        out["o"], np.broadcast_to(x["v"].mean(axis=2, keepdims=True), out["o"].shape), atol=1e-12
    )
    kept = {"lse": out["lse"], "lse.remainder": out["lse.remainder"]}
    assert (np.exp(kept["lse"] - 3 * size + kept["lse.remainder"]) > 6.9).all()


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    x = arrays(SIZES)
    x["v"][:, :, 6] = np.nan  # blocked, and keeps the sum off the einsum path
    whole = interpret(core(CAUSAL), x, SIZES)
    monkeypatch.setattr(interpreter, "CHUNK", 50)
    parts = interpret(core(CAUSAL), x, SIZES)
    for name in ("lse", "p", "o"):
        np.testing.assert_array_equal(parts[name], whole[name])


# single nodes

N, M = Size("N"), Size("M")
n, m = Axis("n", N), Axis("m", M)


def value(node: Node, *inputs: Input, sizes: dict[str, int], **given: Any) -> Any:
    graph = Graph("one", (*inputs, node), (("out", node.name),))
    verify(graph)
    return interpret(graph, given, sizes)[node.name]


def test_max_of_allowed_entries() -> None:
    x = np.arange(12.0).reshape(3, 4)
    node = Reduce("t", (n,), (m,), "max", at("x", n, m), op("lt", m.index, n.index))
    got = value(node, tensor("x", N, M), sizes={"N": 3, "M": 4}, x=x)
    np.testing.assert_array_equal(got, [-np.inf, 4.0, 9.0])


def test_logsumexp_is_stable() -> None:
    x = np.array([[1e4, 1e4], [-1e4, -1e4], [-np.inf, 3.0], [-np.inf, -np.inf]])
    node = Reduce("t", (n,), (m,), "logsumexp", at("x", n, m))
    got = value(node, tensor("x", N, M), sizes={"N": 4, "M": 2}, x=x)
    np.testing.assert_allclose(got, [1e4 + np.log(2), -1e4 + np.log(2), 3.0, -np.inf])


def test_split_and_merge_of_a_product_axis() -> None:
    s, g, d = Axis("s", Size("S")), Axis("g", Size("G")), Axis("d", D)
    S, G = s.size, g.size
    x = np.arange(24.0).reshape(2, 12)
    sizes = {"S": 2, "G": 3, "D": 4}
    split = Map("t", (g, s, d), at("x", s, flat(((g.index, G), (d.index, D)))))
    wide = tensor("x", S, op("mul", G, D))
    apart = x.reshape(2, 3, 4).transpose(1, 0, 2)
    np.testing.assert_array_equal(value(split, wide, sizes=sizes, x=x), apart)
    merge = Map("t", (s, g, d), at("y", g, s, d), groups=(1, 2))
    np.testing.assert_array_equal(value(merge, tensor("y", G, S, D), sizes=sizes, y=apart), x)
    summed = Reduce("t", (s, g, d), (n,), "sum", op("mul", at("y", g, s, d), at("z", n)), groups=(1, 2))
    got = value(summed, tensor("y", G, S, D), tensor("z", N), sizes=sizes | {"N": 2}, y=apart, z=[1.0, 2.0])
    np.testing.assert_allclose(got, 3.0 * x)


def test_scatter_is_the_adjoint_of_a_gather() -> None:
    rng = np.random.default_rng(1)
    rows, columns, table = 6, 5, 4
    sizes = {"N": rows, "M": columns, "T": table}
    where = rng.integers(0, table, (rows, columns))
    x, u = rng.normal(size=table), rng.normal(size=(rows, columns))
    index = at("where", n, m, kind=Kind.INT)
    allowed = op("le", m.index, n.index)
    ints = tensor("where", N, M, kind=Kind.INT)
    gathered = value(
        Map("t", (n, m), Load("x", (index,)), allowed), tensor("x", Size("T")), ints, sizes=sizes, x=x, where=where
    )
    update = Update((n, m), (index,), at("u", n, m), allowed)
    scattered = value(Scatter("t", (Size("T"),), (update,)), tensor("u", N, M), ints, sizes=sizes, u=u, where=where)
    expected = np.zeros(table)
    for r, q in np.ndindex(rows, columns):
        if q <= r:
            expected[where[r, q]] += u[r, q]
    np.testing.assert_allclose(scattered, expected)
    np.testing.assert_allclose((gathered * u).sum(), (x * scattered).sum())


def test_scatter_adds_nothing_for_blocked_points() -> None:
    x = np.array([1.0, np.nan, 2.0])
    update = Update((n,), (op("floordiv", integer(1), integer(2)),), at("x", n), op("ne", n.index, integer(1)))
    got = value(Scatter("t", (N,), (update, update)), tensor("x", N), sizes={"N": 3}, x=x)
    np.testing.assert_array_equal(got, [6.0, 0.0, 0.0])


def test_access_outside_is_named_where_it_counts() -> None:
    before = at("x", op("sub", n.index, integer(1)))
    given: dict[str, Any] = {"sizes": {"N": 3}, "x": np.array([1.0, 2.0, 3.0])}
    with pytest.raises(IndexError, match="'x'"):
        value(Map("t", (n,), before), tensor("x", N), **given)
    shifted = [0.0, 1.0, 2.0]
    inside = op("lt", integer(0), n.index)
    np.testing.assert_array_equal(value(Map("t", (n,), before, inside), tensor("x", N), **given), shifted)
    chosen = op("where", inside, before, number(0.0))
    np.testing.assert_array_equal(value(Map("t", (n,), chosen), tensor("x", N), **given), shifted)
    total = Reduce("t", (), (n,), "sum", op("mul", before, before), inside)
    assert value(total, tensor("x", N), **given) == 5.0


def test_transposed_and_repeated_axes_of_a_load() -> None:
    x = np.arange(9.0).reshape(3, 3)
    assert (value(Map("t", (n, m), at("x", m, n)), tensor("x", N, M), sizes={"N": 3, "M": 3}, x=x) == x.T).all()
    diagonal = value(Map("t", (n,), at("x", n, n)), tensor("x", N, M), sizes={"N": 3, "M": 3}, x=x)
    np.testing.assert_array_equal(diagonal, [0.0, 4.0, 8.0])


def test_sum_over_an_axis_on_which_nothing_depends() -> None:
    node = Reduce("t", (n,), (m,), "sum", op("mul", at("x", n), at("x", n)))
    np.testing.assert_allclose(value(node, tensor("x", N), sizes={"N": 2, "M": 5}, x=[1.0, 2.0]), [5.0, 20.0])


def test_functions() -> None:
    x = np.array([-800.0, -1.5, 0.0, 0.5, 800.0])
    small = x[1:4]

    def f(name: str, *more: Expr, over: Any = x) -> Any:
        node = Map("t", (n,), op(name, at("x", n), *more))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return value(node, tensor("x", N), sizes={"N": len(over)}, x=over)

    np.testing.assert_allclose(f("sigmoid", over=small), 1 / (1 + np.exp(-small)))
    np.testing.assert_array_equal(f("sigmoid")[[0, -1]], [0.0, 1.0])
    np.testing.assert_allclose(f("erf", over=small), [-0.9661051464753108, 0.0, 0.5204998778130465])
    np.testing.assert_array_equal(f("clamp", number(-1.0), number(0.25)), [-1.0, -1.0, 0.0, 0.25, 0.25])
    np.testing.assert_array_equal(f("floor"), [-800, -2, 0, 0, 800])
    np.testing.assert_array_equal(f("relu"), [0.0, 0.0, 0.0, 0.5, 800.0])
    np.testing.assert_array_equal(f("div", number(0.0))[[0, -1]], [-np.inf, np.inf])


def test_integers_floor_and_stay_integers() -> None:
    shifted = op("sub", n.index, integer(3))
    quotient = value(Map("t", (n,), op("floordiv", shifted, integer(2))), sizes={"N": 5})
    assert quotient.dtype == np.int64
    np.testing.assert_array_equal(quotient, [-2, -1, -1, 0, 0])
    np.testing.assert_array_equal(
        value(Map("t", (n,), op("mod", shifted, integer(2))), sizes={"N": 5}), [1, 0, 1, 0, 1]
    )
    odd = value(Map("t", (n,), op("eq", op("mod", n.index, integer(2)), integer(1))), sizes={"N": 3})
    assert odd.dtype == np.bool_


def test_defined_sizes_are_computed() -> None:
    assert size_value(op("floordiv", op("mul", Size("N"), integer(3)), integer(2)), {"N": 3}) == 4
    node = Map("t", (Axis("e", Size("E")),), number(1.0))
    graph = Graph("one", (node,), (("t", "t"),), sizes=(("N", None), ("E", op("mul", N, integer(2)))))
    assert interpret(graph, {}, {"N": 3})["t"].shape == (6,)


def test_wrong_inputs_are_named() -> None:
    node = Map("t", (n,), at("x", n))
    with pytest.raises(ValueError, match=r"'x' has shape \(2,\), expected \(3,\)"):
        value(node, tensor("x", N), sizes={"N": 3}, x=[1.0, 2.0])
    with pytest.raises(ValueError, match="'x' is missing"):
        value(node, tensor("x", N), sizes={"N": 3})
