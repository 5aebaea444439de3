"""What names mean while a program is built."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

from irc.codegen.expr import Expr, Kind, Load, Size
from irc.elaborate.report import Failed, Report, counted, similar
from irc.grammar import absent
from irc.grammar.diagnostic import Note
from irc.grammar.source import Span
from irc.grammar.syntax import Expression, Name
from irc.graph.ir import Core, Fact, Graph, Input, Node, Property, product
from irc.graph.size import Polynomial, polynomial

RUNNING = ("score", "weight")
"""Names that stand for what a core has come to so far."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A name that holds elements: `dims` are the factors of each dimension. `broken` ones were defined wrongly; using
    them is no further error."""

    name: str
    kind: Kind
    dims: tuple[tuple[Expr, ...], ...]
    span: Span
    role: str
    broken: bool = False

    def size(self, dim: int) -> Expr:
        return product(self.dims[dim])


@dataclass(frozen=True, slots=True)
class LetBinding:
    """A named expression, with the lets that were visible where it was written."""

    value: Expression
    span: Span
    lets: Lets


Lets = dict[str, LetBinding]


@dataclass
class Scope:
    """The state of building one program."""

    report: Report = field(default_factory=Report)
    sizes: dict[str, Expr | None] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    lets: Lets = field(default_factory=dict)
    spans: dict[str, Span] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    properties: list[Property] = field(default_factory=list)
    cores: list[Core] = field(default_factory=list)
    places: dict[Load, Span] = field(default_factory=dict)  # where an element was written
    divisors: dict[Expr, Span] = field(default_factory=dict)  # where a divisor was written
    segmented: dict[str, Span] = field(default_factory=dict)  # tables of offsets, where `segment` first reads them
    later: dict[str, Span] = field(default_factory=dict)  # every result, wherever it is defined
    elsewhere: dict[str, Expr] = field(default_factory=dict)  # index sizes that the declared tensors agree on

    def graph(self) -> Graph:
        """The program as far as it has been read."""
        return Graph("", tuple(self.nodes), (), tuple(self.sizes.items()), tuple(self.facts))

    def poly(self, expr: Expr) -> Polynomial:
        return polynomial(expr, self.sizes)

    def same(self, a: Expr, b: Expr) -> bool:
        return a == b or self.poly(a) == self.poly(b)

    def declare(self, name: Name) -> None:
        """Take a name; an error if it is taken."""
        if name.id in ("score", "pos"):
            self.report.fail("E103", f"`{name.id}` has a fixed meaning and cannot be declared", name.span)
        if name.id in self.spans:
            self.report.fail(
                "E102", f"`{name.id}` is declared twice", name.span, (Note("first declared here", self.spans[name.id]),)
            )
        self.spans[name.id] = name.span

    def add_input(self, node: Input, dims: tuple[tuple[Expr, ...], ...], span: Span) -> None:
        self.nodes.append(node)
        self.tensors[node.name] = Tensor(node.name, node.kind, dims, span, node.role)

    def add_value(self, name: str, kind: Kind, dims: tuple[tuple[Expr, ...], ...], span: Span) -> None:
        self.tensors[name] = Tensor(name, kind, dims, span, "value")

    def add_broken(self, name: Name) -> None:
        if name.id not in self.tensors:
            self.tensors[name.id] = Tensor(name.id, Kind.FLOAT, (), name.span, "value", broken=True)
            self.spans.setdefault(name.id, name.span)

    def tensor(self, name: Name) -> Tensor:
        """The tensor of that name, or failure."""
        tensor = self.tensors.get(name.id)
        if tensor is None:
            if name.id in RUNNING:
                message = f"`{name.id}` has no elements: it is that of one pair, and those of other keys are not read"
                self.report.fail("E417", message, name.span, help=absent.PAIR_HELP)
            if name.id in self.sizes:
                self.report.fail("E106", f"`{name.id}` is a size and has no elements", name.span)
            if name.id in self.later:
                note = Note("it is defined here", self.later[name.id])
                help = absent.RUNNING_HELP if name.id in self.spans else None  # a recurrence: read where it is made
                self.report.fail("E111", f"`{name.id}` is used before it is defined", name.span, (note,), help=help)
            self.unknown(name, "tensor", self.tensors)
        if tensor.broken:
            raise Failed
        return tensor

    def check_bare(self, tensor: Tensor, span: Span, within: bool = False) -> None:
        """A name without brackets is a number; one of a tensor with indices is an error."""
        if tensor.dims and not tensor.broken:
            self.report.fail(
                "E204",
                f"`{tensor.name}` has {counted(len(tensor.dims), 'index', 'indices')}, and none is written",
                span,
                (Note(f"`{tensor.name}` is {'defined' if tensor.role == 'value' else 'declared'} here", tensor.span),),
                help="an index needs a name of its own" if within else None,
            )

    def unknown(self, name: Name, what: str, known: object = ()) -> NoReturn:
        names = list(known) if isinstance(known, dict | list | tuple | set | frozenset) else []
        help = similar(name.id, names)
        if help is None and what == "tensor":
            help = f"what a call gives is declared with its sizes, `input {name.id}[…]`, or `input {name.id}[…]: int`"
        self.report.fail("E101", f"there is no {what} `{name.id}`", name.span, help=help)

    def is_declared(self, name: str) -> bool:
        return name in self.sizes or name in self.tensors

    def size_expr(self, p: Polynomial) -> Expr | None:
        """The declared size of that value, where there is exactly one."""
        found = [name for name in self.sizes if self.poly(Size(name)) == p]
        return Size(found[0]) if len(found) == 1 else None
