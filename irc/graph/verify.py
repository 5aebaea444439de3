"""Well-formedness of a graph, checked between passes: a broken one is the compiler's mistake, never the user's."""

from __future__ import annotations

from typing import assert_never

from irc.codegen.expr import (
    ARITHMETIC,
    COMPARISON,
    INTEGER,
    LOGIC,
    OPS,
    Axis,
    Const,
    Expr,
    Index,
    Kind,
    Load,
    Local,
    Op,
    Size,
    children,
    indices,
    integer,
    walk,
)
from irc.graph.ir import Graph, Input, Map, Node, Reduce, Scatter, grouped, kind, shape


class MalformedGraph(Exception):
    """A pass left a graph that breaks a rule of the representation."""

    def __init__(self, pass_name: str, node: str, reason: str) -> None:
        super().__init__(f"after {pass_name}: {node}: {reason}")
        self.pass_name = pass_name
        self.node = node
        self.reason = reason


class Broken(Exception):
    """The reason alone, before it is known where."""


def verify(graph: Graph, pass_name: str = "build") -> None:
    """Raise `MalformedGraph` at the first node that breaks a rule."""
    earlier: dict[str, Node] = {}
    for node in graph:
        try:
            if node.name in earlier:
                raise Broken("defined twice")
            _node(node, earlier)
        except Broken as broken:
            raise MalformedGraph(pass_name, node.name, str(broken)) from None
        earlier[node.name] = node
    for public, name in graph.outputs:
        if name not in earlier:
            raise MalformedGraph(pass_name, public, f"returned, but no node is called '{name}'")
    if len({public for public, _ in graph.outputs}) != len(graph.outputs):
        raise MalformedGraph(pass_name, graph.name, "two outputs have one name")


def _node(node: Node, earlier: dict[str, Node]) -> None:
    match node:
        case Input():
            if node.role == "cotangent" and node.kind is not Kind.FLOAT:
                raise Broken("a cotangent must be a float")
        case Map():
            _axes(node.axes, node.groups)
            _expression(node.body, node.axes, earlier)
            _predicate(node.where, node.axes, earlier)
        case Reduce():
            _axes(node.axes, node.groups)
            _axes(node.axes + node.over)
            if not node.over:
                raise Broken("a reduction over no axis")
            if node.op not in ("sum", "max", "argmax", "logsumexp"):
                raise Broken(f"no reduction is called '{node.op}'")
            _float(node.body, node.axes + node.over, earlier, "body")
            _predicate(node.where, node.axes + node.over, earlier)
            if node.init is not None:
                if node.op != "logsumexp":
                    raise Broken("only a logsumexp takes an init")
                _float(node.init, node.axes, earlier, "init")
        case Scatter():
            for update in node.updates:
                _axes(update.over)
                if len(update.indices) != len(node.shape):
                    raise Broken(f"{len(update.indices)} indices into {len(node.shape)} dimensions")
                for index in update.indices:
                    _expression(index, update.over, earlier)
                    if index.kind is not Kind.INT:
                        raise Broken("an index that is not an integer")
                _float(update.body, update.over, earlier, "body")
                _predicate(update.where, update.over, earlier)
        case _:
            assert_never(node)
    for size in shape(node):
        _size(size)


def _axes(axes: tuple[Axis, ...], groups: tuple[int, ...] = ()) -> None:
    names = [a.name for a in axes]
    for name in names:
        if names.count(name) > 1:
            raise Broken(f"axis '{name}' stands twice")
    for axis in axes:
        _size(axis.size)
    if groups and sum(groups) != len(axes):
        raise Broken(f"groups {groups} do not count {len(axes)} axes")
    if any(not dimension for dimension in grouped(axes, groups)):
        raise Broken(f"groups {groups} hold an empty dimension")


def _size(size: Expr) -> None:
    if size.kind is not Kind.INT:
        raise Broken("a size that is not an integer")
    for e in walk(size):
        if isinstance(e, Index | Load | Local):
            raise Broken("a size that depends on more than sizes")
        _operation(e)


def _float(expr: Expr, axes: tuple[Axis, ...], earlier: dict[str, Node], what: str) -> None:
    _expression(expr, axes, earlier)
    if expr.kind is not Kind.FLOAT:
        raise Broken(f"its {what} is {expr.kind.value}, not float")


def _predicate(expr: Expr | None, axes: tuple[Axis, ...], earlier: dict[str, Node]) -> None:
    if expr is None:
        return
    _expression(expr, axes, earlier)
    if expr.kind is not Kind.BOOL:
        raise Broken(f"its where is {expr.kind.value}, not bool")


def _expression(expr: Expr, axes: tuple[Axis, ...], earlier: dict[str, Node]) -> None:
    free = indices(expr) - {a.name for a in axes}
    if free:
        raise Broken(f"index '{min(free)}' belongs to no axis")
    for e in walk(expr):
        match e:
            case Load():
                _access(e, earlier)
            case Local():
                raise Broken(f"'{e.name}' is a local of a kernel")
            case Const() | Op():
                _operation(e)
            case Index() | Size():
                pass
            case _:
                assert_never(e)


def _access(load: Load, earlier: dict[str, Node]) -> None:
    if load.tensor not in earlier:
        raise Broken(f"reads '{load.tensor}', which is not defined before it")
    node = earlier[load.tensor]
    rank = len(shape(node))
    if len(load.indices) != rank:
        raise Broken(f"reads '{load.tensor}' at {len(load.indices)} indices; it has {rank}")
    if load.kind is not kind(node):
        raise Broken(f"reads '{load.tensor}' as {load.kind.value}; it is {kind(node).value}")
    if any(i.kind is not Kind.INT for i in load.indices):
        raise Broken(f"reads '{load.tensor}' at an index that is not an integer")


# operations

_ARITY = {"neg": 1, "abs": 1, "not": 1, "float": 1, "floor": 1, "clamp": 3, "where": 3, "segment": 3, "random": 4}
_ARITY |= dict.fromkeys(("exp", "share", "log", "sqrt", "rsqrt", "sin", "cos", "tanh", "sigmoid", "erf", "relu"), 1)


def _operation(e: Expr) -> None:
    """Name, number of arguments, their kinds, and the kind of the result."""
    if isinstance(e, Const):
        python = {Kind.BOOL: bool, Kind.INT: int, Kind.FLOAT: float}[e.kind]
        if type(e.value) is not python:
            raise Broken(f"the constant {e.value!r} is called {e.kind.value}")
    if not isinstance(e, Op):
        return
    if e.name not in OPS:
        raise Broken(f"no operation is called '{e.name}'")
    kinds = tuple(a.kind for a in children(e))
    if e.name == "flat":
        if len(kinds) < 2 or len(kinds) % 2:
            raise Broken("flat takes pairs of an index and a size")
    elif len(kinds) != _ARITY.get(e.name, 2):
        raise Broken(f"'{e.name}' takes {_ARITY.get(e.name, 2)} arguments, not {len(kinds)}")
    if e.name == "segment" and not (isinstance(e.args[0], Load) and e.args[0].indices[-1:] == (integer(0),)):
        raise Broken("segment takes the first element of a row of a table")
    takes, gives = _signature(e.name, kinds)
    if kinds != takes:
        got = ", ".join(k.value for k in kinds)
        raise Broken(f"'{e.name}' does not take ({got})")
    if e.kind is not gives:
        raise Broken(f"'{e.name}' gives {gives.value}, not {e.kind.value}")


def _signature(name: str, kinds: tuple[Kind, ...]) -> tuple[tuple[Kind, ...], Kind]:
    """The kinds that an operation takes, the first (of `where`, the second) being as found, and the one it gives."""
    count = len(kinds)
    if name in LOGIC:
        return (Kind.BOOL,) * count, Kind.BOOL
    if name in COMPARISON:
        ordered = Kind.FLOAT if kinds[0] is Kind.BOOL and name in ("lt", "le") else kinds[0]
        return (ordered,) * count, Kind.BOOL
    if name in INTEGER:
        return (Kind.INT,) * count, Kind.INT
    if name in ARITHMETIC:
        same = Kind.FLOAT if kinds[0] is Kind.BOOL else kinds[0]
        return (same,) * count, same
    if name == "random":
        return (Kind.INT,) * count, Kind.FLOAT
    if name == "where":
        return (Kind.BOOL, kinds[1], kinds[1]), kinds[1]
    if name == "float":  # a boolean converts too, to 0 or 1
        return (Kind.BOOL if kinds[0] is Kind.BOOL else Kind.INT,), Kind.FLOAT
    return (Kind.FLOAT,) * count, Kind.INT if name == "floor" else Kind.FLOAT
