"""The graph: tensors defined one after another by index notation. Nothing in it is shaped like attention.

Four node types, closed under differentiation:

  Input     an argument, or a value that the forward pass kept
  Map       t[axes] = body                       pointwise, gathers included (a body may load at any integer index)
  Reduce    t[axes] = op over `over` of body     sum, max, argmax, logsumexp; a sum of products is a contraction
  Scatter   t[indices(e)] += body(e) for all e   the adjoint of a gather

`where` restricts a node to the points at which a predicate holds: a Map is exactly 0 elsewhere, a Reduce and a
Scatter do not see the other points at all, whatever stands there (NaN too). Nodes name each other; a graph lists
them in an order in which each reads only earlier ones. All integer sizes are expressions over `Size`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from irc.codegen.expr import Axis, Expr, Kind, Load, flat, integer, loads, op
from irc.grammar.diagnostic import Diagnostic
from irc.grammar.source import Span

InputRole = Literal["input", "param", "const", "scalar", "saved", "cotangent", "tangent"]


@dataclass(frozen=True, slots=True)
class Input:
    """An argument. Those of role `input` and `param` receive gradients when floating."""

    name: str
    role: InputRole
    kind: Kind
    shape: tuple[Expr, ...]
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Map:
    """t[axes] = body where `where` holds, else exactly 0. `groups` counts the axes that make up each dimension:
    axes (b, s, h, d) with groups (1, 1, 2) give a tensor [B, S, (H D)]."""

    name: str
    axes: tuple[Axis, ...]
    body: Expr
    where: Expr | None = None
    groups: tuple[int, ...] = ()
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Reduce:
    """t[axes] = op of body over the points of `over` at which `where` holds.

    Over no point: a sum is 0, a max and a logsumexp are -inf, an argmax is -1. `init` (logsumexp only) is one more
    logit, over `axes`. An argmax is the first position, in the product of `over`, of the largest body, NaN being
    as low as -inf.
    """

    name: str
    axes: tuple[Axis, ...]
    over: tuple[Axis, ...]
    op: Literal["sum", "max", "argmax", "logsumexp"]
    body: Expr
    where: Expr | None = None
    init: Expr | None = None
    groups: tuple[int, ...] = ()
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Update:
    """t[indices] += body for every point of `over` at which `where` holds."""

    over: tuple[Axis, ...]
    indices: tuple[Expr, ...]
    body: Expr
    where: Expr | None = None


@dataclass(frozen=True, slots=True)
class Scatter:
    """A tensor of zeros, then the updates in order."""

    name: str
    shape: tuple[Expr, ...]
    updates: tuple[Update, ...]
    span: Span | None = field(default=None, compare=False)


Node = Input | Map | Reduce | Scatter


def grouped(items: tuple[Axis, ...], groups: tuple[int, ...]) -> tuple[tuple[Axis, ...], ...]:
    """The axes of each dimension."""
    if not groups:
        return tuple((axis,) for axis in items)
    out, at = [], 0
    for count in groups:
        out.append(items[at : at + count])
        at += count
    return tuple(out)


def remainder_name(lse: str) -> str:
    """What goes with the logsumexp of that name: what its float leaves out."""
    return f"{lse}.remainder"


def product(factors: tuple[Expr, ...]) -> Expr:
    result: Expr = integer(1)
    for factor in factors:
        result = op("mul", result, factor)
    return result


def shape(node: Node) -> tuple[Expr, ...]:
    """The size of each dimension of the node's tensor."""
    match node:
        case Input() | Scatter():
            return node.shape
        case Map() | Reduce():
            return tuple(product(tuple(a.size for a in dim)) for dim in grouped(node.axes, node.groups))


def own_element(node: Map | Reduce) -> Load:
    """The node's tensor read at its own axes."""
    return Load(node.name, position(node.axes, node.groups), kind(node))


def position(axes: tuple[Axis, ...], groups: tuple[int, ...]) -> tuple[Expr, ...]:
    """Where the point of the axes lies in the tensor: one integer expression a dimension."""
    return tuple(flat(tuple((a.index, a.size) for a in dim)) for dim in grouped(axes, groups))


def kind(node: Node) -> Kind:
    match node:
        case Input():
            return node.kind
        case Map():
            return node.body.kind
        case Reduce(op="argmax"):
            return Kind.INT
        case Reduce() | Scatter():
            return Kind.FLOAT


def all_axes(node: Map | Reduce) -> tuple[Axis, ...]:
    """The node's axes, and those that it sums over."""
    return node.axes + (node.over if isinstance(node, Reduce) else ())


def whole(tensor: str, dims: tuple[Expr, ...]) -> Update:
    """The update that adds a tensor to another of its shape."""
    axes = tuple(Axis(f"i{k}", size) for k, size in enumerate(dims))
    at = tuple(a.index for a in axes)
    return Update(axes, at, Load(tensor, at))


def cotangent_name(output: str) -> str:
    """The argument of a backward graph that is the cotangent of a public output."""
    return f"cotangent.{output}"


def bodies(node: Node) -> tuple[Expr, ...]:
    """Every expression that the node evaluates at run time."""
    match node:
        case Input():
            return ()
        case Map():
            return (node.body, *([node.where] if node.where is not None else []))
        case Reduce():
            return (node.body, *(e for e in (node.where, node.init) if e is not None))
        case Scatter():
            return tuple(
                e for u in node.updates for e in (*u.indices, u.body, *([u.where] if u.where is not None else []))
            )


def operands(node: Node) -> tuple[str, ...]:
    """Names of the tensors that the node reads, in order."""
    return tuple(dict.fromkeys(load.tensor for e in bodies(node) for load in loads(e)))


def is_tile(node: Node) -> bool:
    """Whether the node has a query and a key index, and so may never reach memory."""
    if not isinstance(node, Map | Reduce):
        return False
    roles = {a.role for a in node.axes}
    return "row" in roles and "column" in roles


@dataclass(frozen=True, slots=True)
class Fact:
    """An `assume`: a predicate over sizes, scalars and integer tensors, for all values of its free indices,
    or `nondecreasing` of a number along one index."""

    predicate: Expr
    free: tuple[Axis, ...]
    text: str
    nondecreasing: str | None = None  # name of the index along which `predicate` (then a number) does not decrease
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Mask:
    """An `allow` or a `block`. `predicate` holds for the pairs that it lets through."""

    kind: Literal["allow", "block"]
    predicate: Expr
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Core:
    """An attention core as it was written: what proofs and pictures speak of. The nodes compute it.

    A row of the core has the indices `batch` and `rows`. `position` is where each of `rows` sits among the keys,
    `pos(i)`; it is empty where queries and keys run over different sizes and no `align` says so. `support` holds for
    the pairs allowed, None for all: it is the conjunction of `masks`, the statements in order. `score` is what the
    stages before the normaliser come to, `weight` what the values are multiplied by.
    """

    name: str
    batch: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    support: Expr | None
    score: Expr
    weight: Expr
    position: tuple[Expr, ...]
    masks: tuple[Mask, ...] = ()
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Property:
    """An `ensure`, typed. `name` is one of causal, window, rows nonempty, allow, incremental, batch independent;
    `argument` is the window, or the predicate of `allow == p` over the indices of `core`, which rows nonempty may name
    too."""

    name: str
    text: str
    argument: Expr | None = None
    core: str | None = None
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Graph:
    """A program: nodes in order, and what it returns: (public name, node name)."""

    name: str
    nodes: tuple[Node, ...]
    outputs: tuple[tuple[str, str], ...]
    sizes: tuple[tuple[str, Expr | None], ...] = ()  # declared sizes, with their definition where they have one
    facts: tuple[Fact, ...] = ()
    properties: tuple[Property, ...] = ()
    accesses: tuple[tuple[Load, tuple[Axis, ...]], ...] = ()  # gathers to be checked at call time, with their axes
    cores: tuple[Core, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()  # what is legal but suspicious in the text
    kept: tuple[Node, ...] = ()  # in a backward graph: how the forward pass defined its `saved` inputs

    @cached_property
    def by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    def __getitem__(self, name: str) -> Node:
        return self.by_name[name]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    @property
    def inputs(self) -> tuple[Input, ...]:
        return tuple([n for n in self.nodes if isinstance(n, Input)])
