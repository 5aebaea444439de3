"""From lark's tree to the nodes of syntax.py, each with its span."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NoReturn, cast

from lark import Token, Tree

from irc.grammar import absent
from irc.grammar import syntax as s
from irc.grammar.diagnostic import Diagnostic
from irc.grammar.places import Places
from irc.grammar.source import Span
from irc.grammar.words import nearest

DEEPEST = 100
"""How deep expressions may nest. The passes behind the parser are recursive, and Python's stack is short."""

LARGEST = 2**63 - 1

Child = Tree[Token] | Token
Operator = Literal["+", "-", "*", "/", "//", "%", "^", "and", "or"]


def build(tree: Tree[Token], places: Places, found: list[Diagnostic]) -> tuple[s.Attention, ...]:
    """The programs of a whole tree. What is wrong with them is added to `found`."""
    builder = _Builder(places, found)
    return tuple(builder.attention(child) for child in _trees(tree.children))


class _Builder:
    def __init__(self, places: Places, found: list[Diagnostic]) -> None:
        self.places = places
        self.found = found
        self.depth = 0

    def span(self, node: Child) -> Span:
        place = node if isinstance(node, Token) else node.meta
        return self.places.span(place.start_pos or 0, place.end_pos or 0)

    def report(self, code: str, message: str, node: Child, help: str | None = None) -> None:
        self.found.append(Diagnostic(code, message, self.span(node), help=help))

    # programs and declarations

    def attention(self, tree: Tree[Token]) -> s.Attention:
        _, name, *statements = tree.children
        return s.Attention(self.name(name), tuple(self.statement(t) for t in _trees(statements)), span=self.span(tree))

    def statement(self, tree: Tree[Token]) -> s.Statement:
        first, *rest = tree.children
        span = self.span(tree)
        match tree.data:
            case "size":
                return s.SizeDecl(tuple(self.size_item(t) for t in _trees(rest)), span=span)
            case "tensors":
                role = cast(Literal["input", "param", "const", "scalar"], str(first))
                return s.TensorDecl(role, tuple(self.tensor_item(t) for t in _trees(rest)), span=span)
            case "assume":
                return s.Assume(tuple(self.fact(t) for t in _trees(rest)), span=span)
            case "let":
                return self.let(tree)
            case "block":
                kind = cast(Literal["project", "merge"], str(first))
                return s.Block(kind, tuple(self.assignment(t) for t in _trees(rest)), span=span)
            case "core":
                return self.core(tree)
            case "return_":
                return s.Return(tuple(self.name(t) for t in rest), span=span)
            case "ensure":
                return s.Ensure(tuple(self.property(t) for t in _trees(rest)), span=span)
        _unknown(tree)

    def size_item(self, tree: Tree[Token]) -> s.SizeItem:
        """`H`, `H = 12`, and the `j: Sk` of a core's header."""
        name, *value = tree.children
        return s.SizeItem(self.name(name), self.optional(value), span=self.span(tree))

    def tensor_item(self, tree: Tree[Token]) -> s.TensorItem:
        name, axes, type_ = tree.children
        dims = self.expressions(axes.children) if isinstance(axes, Tree) else None
        kind = str(type_) if isinstance(type_, Token) else None
        if kind not in (None, "int", "bool", "float"):
            guess = nearest(str(kind), ("int", "bool", "float"))
            help = f"did you mean `{guess}`?" if guess else "a type is `int`, `bool` or `float`"
            self.report("E001", f"there is no type `{kind}`", type_, help)
        typed = cast(Literal["int", "bool", "float"] | None, kind)
        return s.TensorItem(self.name(name), dims, typed, span=self.span(tree))

    def fact(self, tree: Tree[Token]) -> s.Expression | s.Nondecreasing:
        if tree.data != "nondecreasing":
            return self.expression(tree)
        _, value, _, over = tree.children
        return s.Nondecreasing(self.expression(value), self.name(over), span=self.span(tree))

    def property(self, tree: Tree[Token]) -> s.Property:
        of, first, *rest = tree.children
        core = self.name(of) if of is not None else None
        span = self.span(tree)
        match rest:
            case []:
                return s.Property(str(first), None, core, span=span)
            case [Token() as second]:
                return s.Property(f"{first} {second}", None, core, span=span)
            case [Token(), predicate]:
                if first != "allow":
                    self.report("E001", f"expected `allow == …`, found `{first} == …`", tree)
                return s.Property(str(first), self.expression(predicate), core, span=span)
            case _:
                return s.Property(str(first), self.optional(rest), core, span=span)

    # statements

    def assignment(self, tree: Tree[Token]) -> s.Assign | s.Let:
        if tree.data == "let":
            return self.let(tree)
        target, over, value = tree.children
        return s.Assign(self.access(target), self.ranges(over), self.expression(value), span=self.span(tree))

    def ranges(self, over: Child) -> tuple[s.SizeItem, ...]:
        return tuple(self.size_item(t) for t in _trees(over.children[1:])) if isinstance(over, Tree) else ()

    def let(self, tree: Tree[Token]) -> s.Let:
        _, name, value = tree.children
        return s.Let(self.name(name), self.expression(value), span=self.span(tree))

    def core(self, tree: Tree[Token]) -> s.Core:
        _, outputs, over, *stages = tree.children
        return s.Core(
            tuple(self.access(t) for t in _tree(outputs).children),
            self.ranges(over),
            tuple(self.stage(t) for t in _trees(stages)),
            span=self.span(tree),
        )

    def stage(self, tree: Tree[Token]) -> s.Align | s.Stage | s.Normaliser | s.Drop | s.Stat | s.Let:
        word, first, *rest = tree.children
        span = self.span(tree)
        match tree.data:
            case "let":
                return self.let(tree)
            case "align":
                return self.align(tree)
            case "normaliser":
                over = self.name(first) if isinstance(first, Token) else self.group(_tree(first))
                rule = cast(Literal["softmax", "sigmoid", "relu", "normalize", "linear"], str(word))
                return s.Normaliser(rule, over, self.optional(rest[1:]), span=span)
            case "drop":
                return s.Drop(self.expression(first), self.expression(rest[1]), span=span)
            case "stat":
                return s.Stat(self.access(first), self.name(rest[0]), span=span)
            case "stage":
                kind = cast(Literal["score", "scale", "bias", "map", "allow", "block", "matmul"], str(word))
                return s.Stage(kind, self.expression(first), span=span)
        _unknown(tree)

    def align(self, tree: Tree[Token]) -> s.Align:
        _, mode, *offset = tree.children
        if mode not in ("first", "last", "offset"):
            guess = nearest(str(mode), ("first", "last", "offset"))
            help = (
                f"did you mean `align {guess}`?" if guess else "write `align first`, `align last` or `align offset e`"
            )
            self.report("E001", f"there is no alignment `{mode}`", mode, help)
        elif mode == "offset" and not offset:
            self.report("E001", "expected an expression after `offset`, found end of line", mode)
        elif mode != "offset" and offset:
            self.report("E001", f"`align {mode}` takes nothing more", offset[0], "an offset is `align offset e`")
        kind = cast(Literal["first", "last", "offset"], str(mode))
        return s.Align(kind, self.optional(offset), span=self.span(tree))

    # expressions

    def name(self, token: Child | None) -> s.Name:
        assert isinstance(token, Token)
        return s.Name(str(token), span=self.span(token))

    def optional(self, children: Sequence[Child | None]) -> s.Expression | None:
        return self.expression(children[0]) if children else None

    def expressions(self, children: Sequence[Child | None]) -> tuple[s.Expression, ...]:
        return tuple(self.expression(child) for child in children)

    def expression(self, child: Child | None) -> s.Expression:
        tree = _tree(child)
        if self.depth == DEEPEST:
            message = f"the expression is more than {DEEPEST} operations deep"
            self.report("E006", message, tree, "assign parts of it first, in `project`")
            return s.Number(0, span=self.span(tree))
        self.depth += 1
        try:
            return self.operation(tree)
        finally:
            self.depth -= 1

    def operation(self, tree: Tree[Token]) -> s.Expression:
        children, span = tree.children, self.span(tree)
        match tree.data:
            case "name":
                return self.name(children[0])
            case "number":
                return self.number(children[0])
            case "bool":
                return s.Bool(children[0] == "true", span=span)
            case "access":
                return self.access(tree)
            case "group":
                return self.group(tree)
            case "call":
                return s.Call(self.name(children[0]), self.expressions(children[1:]), span=span)
            case "sum":
                return self.sum(tree)
            case "parentheses":
                # The node inside, but its place is the place of the whole.
                return replace(self.expression(children[0]), span=span)
            case "prefix":
                op = cast(Literal["-", "not"], str(children[0]))
                return s.Unary(op, self.expression(children[1]), span=span)
            case "binary":
                left, sign, right = children
                operator = cast(Operator, str(sign))
                place = self.span(cast(Token, sign))
                return s.Binary(operator, self.expression(left), self.expression(right), op_span=place, span=span)
            case "compare":
                ops = tuple(str(sign) for sign in children[1::2])
                return s.Compare(ops, self.expressions(children[::2]), span=span)
        _unknown(tree)

    def access(self, child: Child | None) -> s.Access:
        tree = _tree(child)
        return s.Access(self.name(tree.children[0]), self.expressions(tree.children[1:]), span=self.span(tree))

    def group(self, tree: Tree[Token]) -> s.Group:
        items: list[s.Name | s.Number] = []
        for token in tree.children:
            item = self.name(token) if _token(token).type == "NAME" else self.number(token)
            if isinstance(item, s.Number) and not isinstance(item.value, int):
                self.report("E001", f"expected a whole number in a product axis, found `{token}`", _token(token))
            items.append(item)
        return s.Group(tuple(items), span=self.span(tree))

    def sum(self, tree: Tree[Token]) -> s.Sum:
        function, names, body = tree.children
        if function != "sum":
            of_row = "; the largest of a row is `stat top[b,h,i] = max`" if function == "max" else ""
            left_out = absent.written(str(function)) or absent.instead(str(function))
            help = left_out or f"only `sum` runs over indices of its own{of_row}"
            self.report("E001", f"expected `sum(n: …)`, found `{function}(…: …)`", _token(function), help)
        over = tuple(self.name(token) for token in _tree(names).children)
        return s.Sum(over, self.expression(body), span=self.span(tree))

    def number(self, child: Child | None) -> s.Number:
        token = _token(child)
        if token.isdecimal():
            # Python refuses to read integers of thousands of digits, so their length is looked at first.
            large = len(token.lstrip("0")) > len(str(LARGEST)) or int(token) > LARGEST
            value: int | float = 0 if large else int(token)
        else:
            value = float(token)
            large = math.isinf(value)
        if large:
            self.report("E006", "the number is too large", token)
        return s.Number(value, span=self.span(token))


def _tree(child: Child | None) -> Tree[Token]:
    assert isinstance(child, Tree)
    return child


def _token(child: Child | None) -> Token:
    assert isinstance(child, Token)
    return child


def _trees(children: Sequence[Child | None]) -> list[Tree[Token]]:
    return [_tree(child) for child in children]


def _unknown(tree: Tree[Token]) -> NoReturn:
    raise AssertionError(f"nodes.py knows no rule `{tree.data}` of attention.lark")
