"""Each rule of a well-formed graph, and a graph that breaks it."""

from __future__ import annotations

import pytest

from irc.codegen.expr import FALSE, Axis, Const, Expr, Index, Kind, Load, Local, Op, Size, integer, number, op
from irc.graph.ir import Graph, Input, Map, Node, Reduce, Scatter, Update
from irc.graph.verify import MalformedGraph, verify

N, M = Size("N"), Size("M")
n, m = Axis("n", N), Axis("m", M)
X = Input("x", "input", Kind.FLOAT, (N, M))
IDS = Input("ids", "input", Kind.INT, (N,))
ONE = number(1.0)
x_nm = Load("x", (n.index, m.index))
ids_n = Load("ids", (n.index,), Kind.INT)


def graph(*nodes: Node) -> Graph:
    return Graph("g", (X, IDS, *nodes), ((nodes[-1].name, nodes[-1].name),))


def body(expr: Expr) -> Map:
    return Map("t", (n, m), expr)


WELL_FORMED: list[Node] = [
    Map("t", (n, m), x_nm),
    Map("t", (n, m), x_nm, op("le", m.index, n.index), groups=(2,)),
    Map("t", (), ONE),
    Map("t", (n,), ids_n),
    Map("t", (n,), op("segment", Load("ids", (integer(0),), Kind.INT), N, n.index)),
    Map("t", (n,), Op("float", (op("lt", n.index, integer(3)),), Kind.FLOAT)),
    Reduce("t", (n,), (m,), "logsumexp", x_nm, op("lt", m.index, n.index), number(0.0)),
    Scatter("t", (M,), (Update((n,), (ids_n,), ONE),)),
    Scatter("t", (), (Update((n, m), (), x_nm, op("eq", ids_n, m.index)),)),
]


@pytest.mark.parametrize("node", WELL_FORMED, ids=str)
def test_well_formed(node: Node) -> None:
    verify(graph(node))


MALFORMED: list[tuple[Node, str]] = [
    (Map("x", (n,), ONE), "defined twice"),
    (body(Load("y", ())), "'y', which is not defined before"),
    (body(Load("t", (n.index, m.index))), "'t', which is not defined before"),
    (body(Load("x", (n.index,))), "'x' at 1 indices; it has 2"),
    (body(Load("ids", (n.index,))), "'ids' as float; it is int"),
    (body(Load("x", (n.index, ONE))), "not an integer"),
    (body(Load("x", (n.index, Index("k")))), "index 'k' belongs to no axis"),
    (body(Local("weight")), "local of a kernel"),
    (body(op("segment", ids_n, N, n.index)), "segment takes the first element of a row of a table"),
    (body(op("segment", n.index, N, n.index)), "segment takes the first element of a row of a table"),
    (body(op("segment", Load("ids", (integer(0),), Kind.INT), N, ONE)), "'segment' does not take (int, int, float)"),
    (Map("t", (n, n), ONE), "'n' stands twice"),
    (Map("t", (n, m), x_nm, x_nm), "where is float"),
    (Map("t", (n, m), x_nm, groups=(1,)), "do not count 2 axes"),
    (Map("t", (n, m), x_nm, groups=(2, 0)), "empty dimension"),
    (Map("t", (Axis("n", ONE),), ONE), "size that is not an integer"),
    (Map("t", (Axis("n", Load("w", (), Kind.INT)),), ONE), "more than sizes"),
    (Reduce("t", (n,), (n,), "sum", ONE), "'n' stands twice"),
    (Reduce("t", (n,), (), "sum", ONE), "over no axis"),
    (Reduce("t", (n,), (m,), "sum", ids_n), "body is int"),
    (Reduce("t", (n,), (m,), "prod", x_nm), "no reduction is called 'prod'"),  # type: ignore[arg-type]
    (Reduce("t", (n,), (m,), "sum", x_nm, init=ONE), "only a logsumexp"),
    (Reduce("t", (n,), (m,), "logsumexp", x_nm, init=x_nm), "index 'm' belongs to no axis"),
    (Scatter("t", (N, M), (Update((n,), (n.index,), ONE),)), "1 indices into 2 dimensions"),
    (Scatter("t", (N,), (Update((n,), (ONE,), ONE),)), "not an integer"),
    (Scatter("t", (N,), (Update((n,), (n.index,), ids_n),)), "body is int"),
    (Scatter("t", (N,), (Update((n,), (n.index,), ONE, ONE),)), "where is float"),
    (body(Op("sinh", (x_nm,), Kind.FLOAT)), "no operation is called 'sinh'"),
    (body(Op("exp", (x_nm, x_nm), Kind.FLOAT)), "takes 1 arguments, not 2"),
    (body(Op("min", (x_nm,), Kind.FLOAT)), "takes 2 arguments, not 1"),
    (body(Op("add", (x_nm, n.index), Kind.FLOAT)), "'add' does not take (float, int)"),
    (body(Op("add", (n.index, n.index), Kind.FLOAT)), "'add' gives int, not float"),
    (body(Op("div", (n.index, n.index), Kind.FLOAT)), "'div' does not take (int, int)"),
    (body(Op("lt", (FALSE, FALSE), Kind.BOOL)), "'lt' does not take"),
    (body(Op("and", (n.index, FALSE), Kind.BOOL)), "'and' does not take"),
    (body(Op("where", (ONE, ONE, ONE), Kind.FLOAT)), "'where' does not take"),
    (body(Op("float", (ONE,), Kind.FLOAT)), "'float' does not take"),
    (body(Op("flat", (n.index, N, m.index), Kind.INT)), "pairs"),
    (body(Const(1, Kind.FLOAT)), "the constant 1 is called float"),
    (Input("d", "cotangent", Kind.INT, ()), "cotangent must be a float"),
]


@pytest.mark.parametrize(("node", "reason"), MALFORMED, ids=lambda p: p if isinstance(p, str) else "")
def test_malformed(node: Node, reason: str) -> None:
    with pytest.raises(MalformedGraph) as caught:
        verify(graph(node), "simplify")
    assert caught.value.pass_name == "simplify"
    assert caught.value.node == node.name
    assert reason in caught.value.reason


def test_order() -> None:
    first, second = Map("s", (n, m), x_nm), Map("t", (n, m), Load("s", (n.index, m.index)))
    verify(graph(first, second))
    with pytest.raises(MalformedGraph, match="not defined before"):
        verify(graph(second, first))


def test_outputs_exist_and_are_distinct() -> None:
    with pytest.raises(MalformedGraph, match="no node is called 'u'"):
        verify(Graph("g", (X,), (("y", "u"),)))
    with pytest.raises(MalformedGraph, match="two outputs"):
        verify(Graph("g", (X,), (("y", "x"), ("y", "x"))))
