"""The syntax tree: what was written, where. Nothing is resolved or typed here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from irc.grammar.source import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Spanned:
    span: Span = field(repr=False, compare=False)


# expressions


@dataclass(frozen=True, slots=True)
class Number(Spanned):
    value: int | float


@dataclass(frozen=True, slots=True)
class Bool(Spanned):
    value: bool


@dataclass(frozen=True, slots=True)
class Name(Spanned):
    id: str


@dataclass(frozen=True, slots=True)
class Group(Spanned):
    """A product axis, `(t h d)`: names, or in a declaration also numbers, the last running fastest."""

    items: tuple[Name | Number, ...]


@dataclass(frozen=True, slots=True)
class Access(Spanned):
    """`k[b, h // 4, (y x), c]`."""

    tensor: Name
    indices: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Call(Spanned):
    """`tanh(x)`, `where(c, a, b)`, `pos(i)`."""

    function: Name
    args: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Sum(Spanned):
    """`sum(n: body)`, `sum(n m: body)`."""

    over: tuple[Name, ...]
    body: Expression


@dataclass(frozen=True, slots=True)
class Unary(Spanned):
    op: Literal["-", "not"]
    operand: Expression


@dataclass(frozen=True, slots=True)
class Binary(Spanned):
    op: Literal["+", "-", "*", "/", "//", "%", "^", "and", "or"]
    left: Expression
    right: Expression
    op_span: Span = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Compare(Spanned):
    """A chain: operands[0] ops[0] operands[1] ops[1] …, ops among < <= > >= == !=."""

    ops: tuple[str, ...]
    operands: tuple[Expression, ...]


Expression = Number | Bool | Name | Group | Access | Call | Sum | Unary | Binary | Compare

# declarations


@dataclass(frozen=True, slots=True)
class SizeItem(Spanned):
    name: Name
    value: Expression | None


@dataclass(frozen=True, slots=True)
class SizeDecl(Spanned):
    items: tuple[SizeItem, ...]


@dataclass(frozen=True, slots=True)
class TensorItem(Spanned):
    """`Wo[(H D), E]`, `doc[B,S]: int`, `window: int`; `dims` is None where no brackets stand; `type` None is float."""

    name: Name
    dims: tuple[Expression, ...] | None
    type: Literal["int", "bool", "float"] | None


@dataclass(frozen=True, slots=True)
class TensorDecl(Spanned):
    role: Literal["input", "param", "const", "scalar"]
    items: tuple[TensorItem, ...]


@dataclass(frozen=True, slots=True)
class Nondecreasing(Spanned):
    """`nondecreasing doc[b,s] over s`."""

    value: Expression
    over: Name


@dataclass(frozen=True, slots=True)
class Assume(Spanned):
    facts: tuple[Expression | Nondecreasing, ...]


# statements


@dataclass(frozen=True, slots=True)
class Assign(Spanned):
    """`y[b,s,(h d)] = expression` in `project` and `merge`; `y[s,f] over f: 8 = …` gives the size of an index."""

    target: Access
    over: tuple[SizeItem, ...]
    value: Expression


@dataclass(frozen=True, slots=True)
class Let(Spanned):
    name: Name
    value: Expression


@dataclass(frozen=True, slots=True)
class Block(Spanned):
    """`project { … }` or `merge { … }`."""

    kind: Literal["project", "merge"]
    statements: tuple[Assign | Let, ...]


@dataclass(frozen=True, slots=True)
class Align(Spanned):
    mode: Literal["first", "last", "offset"]
    offset: Expression | None


@dataclass(frozen=True, slots=True)
class Stage(Spanned):
    """One expression statement of a core: score, scale, bias, map, allow, block, matmul."""

    kind: Literal["score", "scale", "bias", "map", "allow", "block", "matmul"]
    value: Expression


@dataclass(frozen=True, slots=True)
class Normaliser(Spanned):
    """`softmax j`, `softmax (yj xj)`, `softmax j with sink[h]`, `sigmoid j`, `relu j`, `normalize j`, `linear j`."""

    kind: Literal["softmax", "sigmoid", "relu", "normalize", "linear"]
    over: Name | Group
    sink: Expression | None


@dataclass(frozen=True, slots=True)
class Drop(Spanned):
    """`drop p seed s`: each weight is 0 with probability p, the others are divided by 1 - p."""

    probability: Expression
    seed: Expression


@dataclass(frozen=True, slots=True)
class Stat(Spanned):
    """`stat name[b,h,i] = logsumexp | max | entropy`; `function` is left unchecked."""

    target: Access
    function: Name


@dataclass(frozen=True, slots=True)
class Core(Spanned):
    """`core o[b,h,i,d], lse[b,h,i] over j: Sk { … }`."""

    outputs: tuple[Access, ...]
    over: tuple[SizeItem, ...]
    statements: tuple[Align | Stage | Normaliser | Drop | Stat | Let, ...]


@dataclass(frozen=True, slots=True)
class Return(Spanned):
    names: tuple[Name, ...]


@dataclass(frozen=True, slots=True)
class Property(Spanned):
    """One item of `ensure`: causal; window(e); rows nonempty; allow == p; incremental; batch independent. Before some
    stands the core that they speak of, `o: allow == p`."""

    name: str
    argument: Expression | None
    core: Name | None = None


@dataclass(frozen=True, slots=True)
class Ensure(Spanned):
    properties: tuple[Property, ...]


Statement = SizeDecl | TensorDecl | Assume | Let | Block | Core | Return | Ensure


@dataclass(frozen=True, slots=True)
class Attention(Spanned):
    """A program."""

    name: Name
    statements: tuple[Statement, ...]
