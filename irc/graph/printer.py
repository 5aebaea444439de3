"""A graph as text in index notation, close to the language, and as a Graphviz picture."""

from __future__ import annotations

from typing import assert_never

from irc.codegen.expr import Axis, Const, Expr, Index, Kind, Load, Local, Op, Size
from irc.graph.ir import Graph, Input, Map, Node, Reduce, Scatter, Update, grouped, is_tile, operands

# how tightly each form binds, loosest first; the precedences are those of the language
OR, AND, NOT, COMPARE, SUM, PRODUCT, UNARY, POWER, ATOM = range(9)

_BINARY = {
    "or": (OR, " or "),
    "and": (AND, " and "),
    "lt": (COMPARE, " < "),
    "le": (COMPARE, " <= "),
    "eq": (COMPARE, " == "),
    "ne": (COMPARE, " != "),
    "add": (SUM, " + "),
    "sub": (SUM, " - "),
    "mul": (PRODUCT, " * "),
    "div": (PRODUCT, " / "),
    "floordiv": (PRODUCT, " // "),
    "mod": (PRODUCT, " % "),
    "pow": (POWER, "^"),
}


def expression(expr: Expr) -> str:
    """The expression with no parenthesis that its structure does not need. A conversion to float prints as its
    argument, as it was written."""
    return _print(expr)[0]


def _print(expr: Expr) -> tuple[str, int]:
    """The text and how tightly its outermost form binds."""
    match expr:
        case Const(value, Kind.BOOL):
            return ("true" if value else "false"), ATOM
        case Const(value, kind):
            written = f"{value:g}" if kind is Kind.FLOAT and float(f"{value:g}") == value else repr(value)
            return written, UNARY if written.startswith("-") else ATOM
        case Index(name) | Size(name) | Local(name):
            return name, ATOM
        case Load(tensor, indices, _):
            return (f"{tensor}[{','.join(expression(i) for i in indices)}]" if indices else tensor), ATOM
        case Op("float", (x,), _):
            return _print(x)
        case Op("neg", (x,), _):
            return f"-{_inside(x, POWER)}", UNARY
        case Op("not", (x,), _):
            return f"not {_inside(x, NOT)}", NOT
        case Op("flat", args, _):
            return f"({_flat(args)})", ATOM
        case Op("segment", (Load(tensor, (*row, _)), _, position), kind):
            return f"segment({expression(Load(tensor, tuple(row), kind))}, {expression(position)})", ATOM
        case Op(name, (a, b), _) if name in _BINARY:
            level, sign = _BINARY[name]
            left, right = level, level + 1  # left associative
            if level == COMPARE:  # a comparison of comparisons would read as a chain
                left = level + 1
            if level == POWER:
                left, right = ATOM, UNARY
            return f"{_inside(a, left)}{sign}{_inside(b, right)}", level
        case Op(name, args, _):
            return f"{name}({', '.join(expression(a) for a in args)})", ATOM
        case _:
            assert_never(expr)


def _inside(expr: Expr, least: int) -> str:
    written, level = _print(expr)
    return written if level >= least else f"({written})"


def _flat(args: tuple[Expr, ...]) -> str:
    """`(h d)` as the language writes it; where a part is no index, its size is told: `(0:3 h:H)`."""
    plain = all(isinstance(e, Index) for e in args[::2])
    parts = zip(args[::2], args[1::2], strict=True)
    return " ".join(expression(i) if plain else f"{_inside(i, ATOM)}:{_inside(n, ATOM)}" for i, n in parts)


# nodes


def text(graph: Graph) -> str:
    """The whole graph, a line or two a node."""
    lines = [f"graph {graph.name}"]
    if graph.sizes:
        sizes = (name if value is None else f"{name} = {expression(value)}" for name, value in graph.sizes)
        lines.append(f"  size   {', '.join(sizes)}")
    for fact in graph.facts:
        lines.append(f"  assume {fact.text}")
    for node in graph:
        lines += [f"  {line}" for line in statement(node)]
    returned = (public if public == name else f"{public} = {name}" for public, name in graph.outputs)
    lines.append(f"  return {', '.join(returned)}")
    lines += [f"  ensure {text}" for text in dict.fromkeys(item.text for item in graph.properties)]
    return "\n".join(lines) + "\n"


def statement(node: Node) -> list[str]:
    """The lines of one node."""
    match node:
        case Input():
            kind = "" if node.kind is Kind.FLOAT else f": {node.kind.value}"
            return [f"{node.role:<6} {node.name}{_brackets(node.shape)}{kind}"]
        case Map():
            return [f"{node.name}{_axes(node)} = {expression(node.body)}{_where(node.where)}"]
        case Reduce():
            over = " ".join(a.name for a in node.over)
            with_init = "" if node.init is None else f" with {expression(node.init)}"
            body = _inside(node.body, PRODUCT)
            return [f"{node.name}{_axes(node)} = {node.op}({over}) {body}{with_init}{_where(node.where)}"]
        case Scatter():
            start = f"{node.name} = zeros{_brackets(node.shape)}"
            return [start, *(f"  {_update(node.name, u)}" for u in node.updates)]
        case _:
            assert_never(node)


def _update(name: str, update: Update) -> str:
    over = " ".join(a.name for a in update.over)
    return f"for ({over}) {name}{_brackets(update.indices)} += {expression(update.body)}{_where(update.where)}"


def _brackets(items: tuple[Expr, ...]) -> str:
    return f"[{','.join(expression(e) for e in items)}]" if items else ""


def _axes(node: Map | Reduce) -> str:
    if not node.axes:
        return ""
    return f"[{','.join(_dimension(d) for d in grouped(node.axes, node.groups))}]"


def _dimension(axes: tuple[Axis, ...]) -> str:
    names = " ".join(a.name for a in axes)
    return names if len(axes) == 1 else f"({names})"


def _where(where: Expr | None) -> str:
    return "" if where is None else f"  where {expression(where)}"


# pictures


def dot(graph: Graph) -> str:
    """Graphviz: inputs are boxes, tile values (which never reach memory) are dashed, outputs have a double line."""
    returned = {name for _, name in graph.outputs}
    lines = [f'digraph "{graph.name}" {{', '  node [fontname="monospace"];']
    for node in graph:
        style = 'shape=box, style="filled", fillcolor="gray92"' if isinstance(node, Input) else "shape=ellipse"
        if is_tile(node):
            style += ", style=dashed"
        if node.name in returned:
            style += ", peripheries=2"
        lines.append(f'  "{node.name}" [label="{node.name}{_label(node)}", {style}];')
        lines += [f'  "{operand}" -> "{node.name}";' for operand in operands(node)]
    return "\n".join([*lines, "}"]) + "\n"


def _label(node: Node) -> str:
    match node:
        case Input():
            return _brackets(node.shape)
        case Scatter():
            return f"{_brackets(node.shape)}\\nscatter"
        case Map():
            return f"{_axes(node)}\\nmap"
        case Reduce():
            return f"{_axes(node)}\\n{node.op}"
        case _:
            assert_never(node)
