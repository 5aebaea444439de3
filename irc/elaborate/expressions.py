"""Syntax to typed scalar expressions, sums of products lifted out as reductions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product as cartesian
from typing import NoReturn

from irc.codegen.expr import (
    TRUE,
    Axis,
    Const,
    Expr,
    Index,
    Kind,
    Load,
    Op,
    Size,
    flat,
    indices,
    integer,
    loads,
    op,
    substitute,
    walk,
)
from irc.codegen.expr import number as float_constant
from irc.elaborate import typing as ty
from irc.elaborate.bounds import Bounds
from irc.elaborate.contract import contract
from irc.elaborate.names import index_names, no_name_twice
from irc.elaborate.report import Report, similar
from irc.elaborate.scope import Lets, Scope
from irc.elaborate.segments import table
from irc.grammar import absent
from irc.grammar.diagnostic import Note
from irc.grammar.source import Span
from irc.grammar.syntax import (
    Access,
    Binary,
    Bool,
    Call,
    Compare,
    Expression,
    Group,
    Name,
    Number,
    Sum,
    Unary,
)
from irc.graph.ir import Reduce
from irc.graph.size import nonnegative, polynomial

FEW = 16  # terms of a sum that is written out


@dataclass
class Context:
    """The statement being lowered: its indices, its lets, and the reductions found so far.

    `axes` is ordered: the axes of a reduction stand in this order. `score` is the running score inside a core, `weight`
    the running weight below its normaliser. `pair` are the indices of a pair of a query and a key. `told`: what is
    lowered is a mask or a place in a table, which no sum node may be read by.
    """

    scope: Scope
    axes: dict[str, Axis]
    lets: Lets
    position: Callable[[Name], Expr] | None = None
    score: Expr | None = None
    weight: Expr | None = None
    pair: frozenset[str] = frozenset()
    told: bool = False
    hint: str = "dot"
    pending: list[tuple[str, Reduce]] = field(default_factory=list)

    @property
    def report(self) -> Report:
        return self.scope.report

    def names(self, e: Expression) -> frozenset[str]:
        """Indices that an expression uses freely."""
        return index_names(e, self.scope, self.lets) & self.axes.keys()

    def reduce(self, over: list[str], body: Expr, span: Span) -> Expr:
        """A sum node of a temporary name, and its element. One of a query and a key is one of the whole pair, so that
        what is derived from it is summed over batch entries once, in the end. A sum of a few terms that tells a mask or
        a place, as of coordinates, is written out."""
        counts = [polynomial(self.axes[n].size, self.scope.sizes).value or 0 for n in over]
        if self.told and 1 <= math.prod(counts) <= FEW:
            return self._written_out(dict(zip(over, counts, strict=True)), body, span)
        used = indices(body) - set(over)
        of_weight = self.weight is not None and self.weight in walk(body)
        if of_weight or {"row", "column"} <= {self.axes[n].role for n in used}:
            used |= self.pair
        axes = tuple(a for name, a in self.axes.items() if name in used and name not in over)
        node = Reduce(f"?{len(self.pending)}", axes, tuple(self.axes[n] for n in over), "sum", body, span=span)
        self.pending.append((self.hint, node))
        return Load(node.name, tuple(a.index for a in axes))

    def _written_out(self, over: dict[str, int], body: Expr, span: Span) -> Expr:
        total: Expr = float_constant(0.0)
        for point in cartesian(*map(range, over.values())):
            at: dict[Expr, Expr] = {Index(n): integer(k) for n, k in zip(over, point, strict=True)}
            term = substitute(body, at)
            for load in loads(term):
                self.scope.places.setdefault(load, span)
            total = op("add", total, term)
        return total

    # expressions

    def lower(self, e: Expression, free: frozenset[str]) -> Expr:
        """The value of an expression in which the indices `free` are given; others are summed over their product."""
        match e:
            case Number(value=value):
                return integer(value) if isinstance(value, int) else float_constant(value)
            case Bool(value=value):
                return Const(value, Kind.BOOL)
            case Name():
                return self._name(e, free)
            case Access():
                return self._access(e, free)
            case Binary(op="*" | "/"):
                return self._product(e, free)
            case Binary():
                return self._binary(e, free)
            case Unary(op="-", operand=operand):
                return op("neg", ty.number(self.lower(operand, free), operand.span, self.report))
            case Unary(operand=operand):
                return op("not", ty.boolean(self.lower(operand, free), operand.span, self.report))
            case Compare():
                return self._compare(e, free)
            case Call():
                return self._call(e, free)
            case Sum():
                return self._sum(e, free)
            case Group():
                self.report.fail("E205", "a product axis stands only between the brackets of a tensor", e.span)

    def _name(self, e: Name, free: frozenset[str]) -> Expr:
        name = e.id
        if name in self.lets:
            outer, self.lets = self.lets, self.lets[name].lets
            try:
                return self.lower(outer[name].value, free)
            finally:
                self.lets = outer
        if name == "score":
            if self.score is None:
                below = ", and below the normaliser a `map` reads `weight`" if self.weight is not None else ""
                help = f"`score` is read in `map`{below}"
                self.report.fail("E404", "there is no running score here", e.span, help=help)
            return self.score
        if name == "weight" and self.weight is not None:
            if self.scope.is_declared(name):
                notes = (Note("declared here", self.scope.spans[name]),)
                message = "below a normaliser `weight` is the running weight, and this program declares another"
                self.report.fail("E103", message, e.span, notes, help="give the declared one another name")
            return self.weight
        if name == "weight" and not self.scope.is_declared(name):
            help = "`weight` is read in a `map` below the normaliser"
            self.report.fail("E404", "there are no weights here", e.span, help=help)
        if name in self.scope.sizes:
            return Size(name)
        if name in self.scope.tensors:
            tensor = self.scope.tensor(e)
            self.scope.check_bare(tensor, e.span)
            return Load(name, (), tensor.kind)
        if name not in self.axes:
            known = [*self.axes, *self.scope.sizes, *self.scope.tensors, *self.lets]
            meant = absent.NUMBERS.get(name) or similar(name, known) or self._known(name)
            self.report.fail("E101", f"there is no name `{name}`", e.span, help=meant)
        if name not in free:
            self.lone(name, e.span)
        return Index(name)

    def _known(self, name: str) -> str:
        """What a name that is like no other could be."""
        indices = f"indices here are {', '.join(f'`{index}`' for index in self.axes)}; " if self.axes else ""
        return f"{indices}a number that a call gives is declared, `scalar {name}: int`"

    def lone(self, name: str, span: Span) -> NoReturn:
        self.report.fail(
            "E200",
            f"index `{name}` stands in one factor only and is missing on the left",
            span,
            help=f"write `sum({name}: …)` if it is to be summed, else give it to the result",
        )

    def _access(self, e: Access, free: frozenset[str]) -> Expr:
        tensor = self.scope.tensor(e.tensor)
        for index in e.indices:
            self._given(index, free)
        load = Load(tensor.name, tuple(self.index(i, free) for i in e.indices), tensor.kind)
        of_pairs = {n.name for _, n in self.pending if {"row", "column"} <= {a.role for a in n.axes}}
        for place, at in zip(load.indices, e.indices, strict=True):
            if any(read.tensor in of_pairs for read in loads(place)):
                message = f"a sum for each pair is no index of `{tensor.name}`: {absent.PLACE}"
                self.report.fail("E412", message, at.span, help=absent.PLACE_HELP)
        self.scope.places.setdefault(load, e.span)
        return load

    def _given(self, index: Expression, free: frozenset[str]) -> None:
        """The names in an index expression are given, none is to be summed."""
        for name in sorted(self.names(index) - free):
            self.lone(name, index.span)

    def index(self, e: Expression, free: frozenset[str]) -> Expr:
        """An integer position along a dimension, told by the indices that are given."""
        if isinstance(e, Group):
            items = [i.id for i in e.items if isinstance(i, Name)]
            return flat(tuple((Index(n), self.axes[n].size) for n in items))
        outer, self.told = self.told, True
        try:
            return ty.whole(self.lower(e, free), e.span, self.report, "an index")
        finally:
            self.told = outer

    def _binary(self, e: Binary, free: frozenset[str]) -> Expr:
        left, right = self.lower(e.left, free), self.lower(e.right, free)
        if e.op in ("and", "or"):
            ty.boolean(left, e.left.span, self.report)
            return op(e.op, left, ty.boolean(right, e.right.span, self.report))
        ty.number(left, e.left.span, self.report)
        ty.number(right, e.right.span, self.report)
        match e.op:
            case "+" | "-":
                return op("add" if e.op == "+" else "sub", *ty.unify((left, right)))
            case "//" | "%":
                ty.whole(left, e.left.span, self.report, f"the left side of `{e.op}`")
                ty.whole(right, e.right.span, self.report, f"the right side of `{e.op}`")
                if isinstance(right, Const) and right.value == 0:
                    self.report.fail("E305", "division by zero", e.right.span)
                self.scope.divisors.setdefault(right, e.right.span)
                return op("floordiv" if e.op == "//" else "mod", left, right)
            case _:
                return ty.power(left, right, self._natural(right))

    def _natural(self, e: Expr) -> bool:
        """Whether an integer is plainly never negative."""
        if e.kind is not Kind.INT:
            return False
        bounds = Bounds(self.scope.sizes, tuple(self.scope.facts))
        return any(nonnegative(x) for x in bounds.range(e, {n: a.size for n, a in self.axes.items()}).low)

    def _compare(self, e: Compare, free: frozenset[str]) -> Expr:
        values = [self.lower(o, free) for o in e.operands]
        result: Expr = TRUE
        for k, sign in enumerate(e.ops):
            a, b = values[k], values[k + 1]
            if (a.kind is Kind.BOOL) != (b.kind is Kind.BOOL) or (a.kind is Kind.BOOL and sign not in ("==", "!=")):
                help = "a boolean is a condition by itself, `p` or `not p`" if a.kind is not b.kind else None
                message = f"`{sign}` compares {ty.article(a.kind)} with {ty.article(b.kind)}"
                self.report.fail("E306", message, e.span, help=help)
            result = op("and", result, ty.compare(sign, a, b))
        return result

    def _call(self, e: Call, free: frozenset[str]) -> Expr:
        name = e.function.id
        if name not in ty.FUNCTIONS:
            if (why := absent.why(name)) is not None:
                message = f"there is no function `{name}`: {why}"
                self.report.fail("E113", message, e.function.span, help=absent.instead(name))
            if (written := absent.written(name)) is not None:
                self.report.fail("E101", f"there is no function `{name}`", e.function.span, help=written)
            self.scope.unknown(e.function, "function", list(ty.FUNCTIONS))
        least, most = ty.FUNCTIONS[name]
        if not least <= len(e.args) <= most:
            wanted = str(least) if least == most else f"{least} or more"
            of_row = name in ("max", "min") and self.pair
            help = "the largest of a row is a statistic: `stat top[b,h,i] = max`" if of_row else None
            message = f"`{name}` takes {wanted} argument{'' if wanted == '1' else 's'}, not {len(e.args)}"
            self.report.fail("E307", message, e.span, help=help)
        if name == "pos":
            argument = e.args[0]
            if not isinstance(argument, Name) or self.position is None:
                self.report.fail("E405", "`pos` takes the query index of a core", e.span)
            return self.position(argument)
        if name == "segment":
            return self._segment(e, free)
        args = tuple(self.lower(a, free) for a in e.args)
        if name == "where":
            ty.boolean(args[0], e.args[0].span, self.report)
            if (args[1].kind is Kind.BOOL) != (args[2].kind is Kind.BOOL):
                ty.number(args[1], e.args[1].span, self.report)
                ty.number(args[2], e.args[2].span, self.report)
            branches = args[1:] if args[1].kind is Kind.BOOL else ty.unify(args[1:])
            return op("where", args[0], *branches)
        for value, argument in zip(args, e.args, strict=True):
            ty.number(value, argument.span, self.report)
        return ty.call(name, args)

    def _segment(self, e: Call, free: frozenset[str]) -> Expr:
        """`segment(cu[b], i)`; in the end the table must be assumed to be ordered."""
        offsets, at = e.args
        tensor, row = table(offsets, self.scope)
        for index in row:
            self._given(index, free)
        position = ty.whole(self.lower(at, free), at.span, self.report, "a position")
        first = Load(tensor.name, (*(self.index(i, free) for i in row), integer(0)), tensor.kind)
        self.scope.places.setdefault(first, offsets.span)
        self.scope.segmented.setdefault(tensor.name, e.span)
        return op("segment", first, tensor.size(len(row)), position)

    def _sum(self, e: Sum, free: frozenset[str]) -> Expr:
        over = [n.id for n in e.over]
        no_name_twice(e.over, "in the sum", self.report)
        for name in e.over:
            if name.id in free:
                self.report.fail("E208", f"index `{name.id}` is already given here; it cannot be summed", name.span)
        body = ty.floating(self.lower(e.body, free | set(over)), e.body.span, self.report)
        return self.reduce(over, body, e.span)

    # products

    def _product(self, e: Binary, free: frozenset[str]) -> Expr:
        factors = list(flatten(e))
        uses = [self.names(f.value) for f in factors]
        missing = [n for n in self.axes if n not in free and sum(n in u for u in uses) >= 2]
        inner = free | set(missing)
        result: Expr | None = None
        summed: list[Expr] = []
        place = next((k for k, u in enumerate(uses) if u & set(missing)), -1)
        for factor, used in zip(factors, uses, strict=True):
            if used & set(missing):
                value = ty.floating(self.lower(factor.value, inner), factor.value.span, self.report)
                summed.append(self._times(None, factor, value))
        for k, (factor, used) in enumerate(zip(factors, uses, strict=True)):
            if k == place:
                total = contract(summed, missing, self.axes, lambda over, body: self.reduce(over, body, e.span))
                result = total if result is None else op("mul", ty.to_float(result), total)
            if not used & set(missing):
                value = ty.number(self.lower(factor.value, free), factor.value.span, self.report)
                result = self._times(result, factor, value)
        assert result is not None
        return result

    def _times(self, so_far: Expr | None, factor: Factor, value: Expr) -> Expr:
        if so_far is None:
            return op("div", float_constant(1.0), ty.to_float(value)) if factor.inverted else value
        if not factor.inverted:
            return op("mul", *ty.unify((so_far, value)))
        plain = ty.static(so_far) and (ty.static(value) or (isinstance(value, Op) and value.name == "pow"))
        if so_far.kind is Kind.INT and value.kind is Kind.INT and not plain:  # 1 / 2 ^ h is meant as it is written
            self.report.fail(
                "E304",
                "`/` divides floats, and both sides are integers",
                factor.sign,
                help="write `//` for the quotient rounded down, or `float(…)`",
            )
        return op("div", ty.to_float(so_far), ty.to_float(value))

    # the end of a statement

    def finish(self, base: str) -> tuple[list[Reduce], Callable[[Expr], Expr]]:
        """The reductions under their final names `base.hint`, and the renaming of expressions that read them."""
        hints = [hint for hint, _ in self.pending]
        final: dict[str, str] = {}
        for k, (hint, node) in enumerate(self.pending):
            number = f"{hints[: k + 1].count(hint)}" if hints.count(hint) > 1 else ""
            final[node.name] = f"{base}.{hint}{number}"

        def rename(e: Expr) -> Expr:
            return renamed(e, final)

        return [replace(n, name=final[n.name], body=rename(n.body)) for _, n in self.pending], rename


def renamed(e: Expr, final: dict[str, str]) -> Expr:
    match e:
        case Load(tensor, items, kind):
            return Load(final.get(tensor, tensor), tuple(renamed(i, final) for i in items), kind)
        case Op(name, args, kind):
            return Op(name, tuple(renamed(a, final) for a in args), kind)
        case _:
            return e


@dataclass(frozen=True, slots=True)
class Factor:
    value: Expression
    inverted: bool
    sign: Span


def flatten(e: Expression, inverted: bool = False, sign: Span | None = None) -> tuple[Factor, ...]:
    """The factors of a chain of `*` and `/`, in order. What is divided by stays whole."""
    if isinstance(e, Binary) and e.op == "*" and not inverted:
        return (*flatten(e.left, False, sign), *flatten(e.right, False, e.op_span))
    if isinstance(e, Binary) and e.op == "/" and not inverted:
        return (*flatten(e.left, False, sign), *flatten(e.right, True, e.op_span))
    return (Factor(e, inverted, sign or e.span),)
