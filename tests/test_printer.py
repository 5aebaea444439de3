"""Graphs as text: precedences, nodes, pictures."""

from __future__ import annotations

import pytest

from irc.codegen.expr import Axis, Const, Expr, Kind, Load, Op, Size, flat, integer, number, op
from irc.graph.ir import Graph, Input, Map, Reduce, Scatter, Update
from irc.graph.printer import dot, expression, text

B, H, S, D = (Size(n) for n in "BHSD")
b, h, i, j, d = Axis("b", B), Axis("h", H), Axis("i", S, "row"), Axis("j", S, "column"), Axis("d", D)
x, y, z = (Load(n, ()) for n in "xyz")
less, same = op("lt", x, y), op("eq", y, z)


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (op("sub", x, op("sub", y, z)), "x - (y - z)"),
        (op("sub", op("sub", x, y), z), "x - y - z"),
        (op("mul", op("add", x, y), z), "(x + y) * z"),
        (op("add", op("mul", x, y), z), "x * y + z"),
        (op("div", x, op("mul", y, z)), "x / (y * z)"),
        (op("pow", op("neg", x), y), "(-x)^y"),
        (op("neg", op("pow", x, y)), "-x^y"),
        (op("neg", op("add", x, y)), "-(x + y)"),
        (op("pow", op("pow", x, y), z), "(x^y)^z"),
        (op("pow", x, op("pow", y, z)), "x^y^z"),
        (op("pow", number(-2.0), y), "(-2)^y"),
        (op("not", op("and", less, same)), "not (x < y and y == z)"),
        (op("or", op("and", less, same), less), "x < y and y == z or x < y"),
        (op("and", op("or", less, same), less), "(x < y or y == z) and x < y"),
        (Op("eq", (less, same), Kind.BOOL), "(x < y) == (y == z)"),
        (op("where", less, x, op("exp", y)), "where(x < y, x, exp(y))"),
        (op("mod", op("floordiv", i.index, integer(2)), S), "i // 2 % S"),
        (op("mul", op("float", op("sub", i.index, j.index)), x), "(i - j) * x"),
        (op("segment", Load("cu", (integer(0),), Kind.INT), S, op("add", i.index, S)), "segment(cu, i + S)"),
        (op("segment", Load("cu", (b.index, integer(0)), Kind.INT), S, i.index), "segment(cu[b], i)"),
        (flat(((h.index, H), (d.index, D))), "(h d)"),
        (flat(((integer(2), integer(3)), (h.index, H), (d.index, D))), "(2:3 h:H d:D)"),
        (number(0.1), "0.1"),
        (number(1e-30), "1e-30"),
        (number(1 / 3), "0.3333333333333333"),
        (Const(True, Kind.BOOL), "true"),
    ],
    ids=lambda p: p if isinstance(p, str) else "",
)
def test_expression_has_no_needless_parenthesis(expr: Expr, expected: str) -> None:
    assert expression(expr) == expected


def at(name: str, *axes: Axis) -> Load:
    return Load(name, tuple(a.index for a in axes))


def core() -> Graph:
    mask = op("le", j.index, i.index)
    score = op("mul", at("q", b, h, i, d), at("k", b, h, j, d))
    weighted = op("mul", at("o.weight", b, h, i, j), at("v", b, h, j, d))
    tensors = tuple(Input(n, "input", Kind.FLOAT, (B, H, S, D)) for n in "qkv")
    return Graph(
        "causal",
        (
            *tensors,
            Input("ids", "const", Kind.INT, (S,)),
            Input("sink", "param", Kind.FLOAT, ()),
            Reduce("o.score", (b, h, i, j), (d,), "sum", score),
            Reduce("lse", (b, h, i), (j,), "logsumexp", at("o.score", b, h, i, j), mask, Load("sink", ())),
            Map("o.weight", (b, h, i, j), op("exp", op("sub", at("o.score", b, h, i, j), at("lse", b, h, i))), mask),
            Reduce("o", (b, h, i, d), (j,), "sum", weighted, mask),
            Map("y", (b, i, h, d), at("o", b, h, i, d), groups=(1, 1, 2)),
            Reduce("t", (), (i, d), "sum", op("add", at("o", b, h, i, d), Load("sink", ()))),
            Scatter("dT", (H,), (Update((h, i), (Load("ids", (i.index,), Kind.INT),), at("lse", b, h, i), mask),)),
        ),
        (("y", "y"), ("lse", "lse"), ("out", "o")),
        sizes=(("B", None), ("E", op("mul", H, D))),
    )


def test_listing() -> None:
    assert text(core()) == (
        "graph causal\n"
        "  size   B, E = H * D\n"
        "  input  q[B,H,S,D]\n"
        "  input  k[B,H,S,D]\n"
        "  input  v[B,H,S,D]\n"
        "  const  ids[S]: int\n"
        "  param  sink\n"
        "  o.score[b,h,i,j] = sum(d) q[b,h,i,d] * k[b,h,j,d]\n"
        "  lse[b,h,i] = logsumexp(j) o.score[b,h,i,j] with sink  where j <= i\n"
        "  o.weight[b,h,i,j] = exp(o.score[b,h,i,j] - lse[b,h,i])  where j <= i\n"
        "  o[b,h,i,d] = sum(j) o.weight[b,h,i,j] * v[b,h,j,d]  where j <= i\n"
        "  y[b,i,(h d)] = o[b,h,i,d]\n"
        "  t = sum(i d) (o[b,h,i,d] + sink)\n"
        "  dT = zeros[H]\n"
        "    for (h i) dT[ids[i]] += lse[b,h,i]  where j <= i\n"
        "  return y, lse, out = o\n"
    )


def test_picture_shows_inputs_as_boxes_and_tile_values_dashed() -> None:
    picture = dot(core())
    lines = {line.split('"')[1]: line for line in picture.splitlines() if "[label=" in line}
    assert set(lines) == {node.name for node in core()}
    assert {name for name, line in lines.items() if "shape=box" in line} == {"q", "k", "v", "ids", "sink"}
    assert {name for name, line in lines.items() if "dashed" in line} == {"o.score", "o.weight"}
    assert {name for name, line in lines.items() if "peripheries" in line} == {"y", "lse", "o"}
    assert '"o.weight" -> "o";' in picture
