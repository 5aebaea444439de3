"""The size of every index of a statement, from the dimensions at which it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from irc.codegen.expr import Expr, Op, conjuncts, integer
from irc.elaborate.names import expanded, index_names, names, parts
from irc.elaborate.report import Failed, counted
from irc.elaborate.scope import RUNNING, Lets, Scope, Tensor
from irc.grammar import absent
from irc.grammar.diagnostic import Note
from irc.grammar.source import Span
from irc.grammar.syntax import Access, Call, Expression, Group, Name, Sum
from irc.graph.ir import product
from irc.graph.size import constant, divide, expression, polynomial, text


@dataclass(frozen=True, slots=True)
class Known:
    """A size and why: `what` names the dimension that gave it."""

    size: Expr
    span: Span
    what: str


@dataclass(frozen=True, slots=True)
class Together:
    """`(h d)` at a dimension whose factors are not those of the group."""

    group: Group
    size: Expr
    tensor: Tensor


@dataclass
class Inference:
    """Feed it the expressions of a statement, then `solve`."""

    scope: Scope
    known: dict[str, Known] = field(default_factory=dict)
    groups: list[Together] = field(default_factory=list)
    mentioned: dict[str, Span] = field(default_factory=dict)  # in order of appearance
    inside: dict[str, Span] = field(default_factory=dict)  # of those, the ones within index expressions

    def mention(self, name: Name) -> None:
        self.mentioned.setdefault(name.id, name.span)

    def fix(self, name: Name, size: Expr, what: str) -> None:
        """The index has this size; an error if another is known."""
        self.mention(name)
        old = self.known.get(name.id)
        if old is None:
            self.known[name.id] = Known(size, name.span, what)
        elif not self.scope.same(old.size, size):
            self.scope.report.fail(
                "E201",
                f"index `{name.id}` has two sizes: {text(size)} ({what}) and {text(old.size)} ({old.what})",
                name.span,
                (Note(f"`{name.id}` has size {text(old.size)} here", old.span),),
                help=self._part(name.id, Known(size, name.span, what), old),
            )

    def _part(self, name: str, one: Known, other: Known) -> str | None:
        """How to read a part of a dimension, where one is known to be longer than the other."""
        longer = next((a for a, b in ((one, other), (other, one)) if self._is_longer(a.size, b.size)), None)
        if longer is None:
            single = next((a for a in (one, other) if a.size == integer(1)), None)
            return f"{single.what} has one element, which is read at 0" if single is not None else None
        return f"if a part of {longer.what} is meant, write `{name} + 0` there: an expression gives its index no size"

    def _is_longer(self, a: Expr, b: Expr) -> bool:
        """Whether one size is above another, open one by a number, or as is assumed."""
        one, other = self.scope.poly(a), self.scope.poly(b)
        more = (one - other).value if one.value is None else None
        known = (p for fact in self.scope.facts for p in conjuncts(fact.predicate))
        assumed = any(isinstance(p, Op) and p.name in ("le", "lt") and p.args == (b, a) for p in known)
        return assumed or (more is not None and more > 0)

    def feed(self, e: Expression, lets: Lets, within: bool = False) -> None:
        """Take in an expression; `within` an index expression its names are indices too."""
        match e:
            case Name() if e.id in lets:
                self.feed(lets[e.id].value, lets[e.id].lets, within)
            case Name() if (named := self.scope.tensors.get(e.id)) is not None:
                self.scope.check_bare(named, e.span, within)
            case Name():
                if within and e.id in RUNNING and not self.scope.is_declared(e.id):
                    message = f"`{e.id}` is no index: {absent.PLACE}"
                    self.scope.report.fail("E412", message, e.span, help=absent.PLACE_HELP)
                if within and not self.scope.is_declared(e.id):
                    self.mention(e)
                    self.inside.setdefault(e.id, e.span)
            case Access():
                self._access(e, lets)
            case Call(function=Name(id="segment"), args=(row, *positions)):
                if isinstance(row, Access):
                    self._indices(row, self.scope.tensor(row.tensor), lets)
                for position in positions:
                    self.feed(position, lets, within=True)
            case Sum():
                used = index_names(e.body, self.scope, lets)
                for name in e.over:
                    if name.id not in used and (running := _running(e.body, self.scope, lets)) is not None:
                        message = f"`{running}` is that of one pair, and those of other keys are not summed"
                        self.scope.report.fail("E417", message, name.span, help=absent.PAIR_HELP)
                    if name.id not in used:
                        message = f"index `{name.id}` does not occur in the sum"
                        self.scope.report.fail("E209", message, name.span)
                    self.mention(name)
                self.feed(e.body, lets, within)
            case _:
                for part in parts(e):
                    self.feed(part, lets, within)

    def _access(self, e: Access, lets: Lets) -> None:
        tensor = self.scope.tensor(e.tensor)
        if len(e.indices) != len(tensor.dims):
            self.scope.report.fail(
                "E204",
                f"`{tensor.name}` has {counted(len(tensor.dims), 'index', 'indices')}, "
                f"and {len(e.indices)} {'is' if len(e.indices) == 1 else 'are'} written",
                e.span,
                (Note(f"`{tensor.name}` is {'declared' if tensor.role != 'value' else 'defined'} here", tensor.span),),
            )
        self._indices(e, tensor, lets)

    def _indices(self, e: Access, tensor: Tensor, lets: Lets) -> None:
        """Take in the indices of an access, which may be fewer than the tensor has."""
        for k, index in enumerate(e.indices[: len(tensor.dims)]):
            what = f"dimension {k + 1} of `{tensor.name}`"
            match index:
                case Name() if index.id not in lets and not self.scope.is_declared(index.id):
                    self.fix(index, tensor.size(k), what)
                case Group():
                    self._group(index, tensor, k, what)
                case _:
                    self.feed(index, lets, within=True)

    def _group(self, group: Group, tensor: Tensor, dim: int, what: str) -> None:
        members = names(group)
        if len(members) != len(group.items):
            self.scope.report.fail("E205", "a product axis is read with index names, not numbers", group.span)
        for name in members:
            if self.scope.is_declared(name.id):
                self.scope.report.fail(
                    "E206",
                    f"`{name.id}` is declared, so it cannot be an index",
                    name.span,
                    (Note("declared here", self.scope.spans.get(name.id, tensor.span)),),
                    help="write the size in the declaration and an index here, as in `(h d)`",
                )
            self.mention(name)
        factors = tensor.dims[dim]
        if len(factors) == len(members):
            for name, size in zip(members, factors, strict=True):
                self.fix(name, size, f"{what}, ({' '.join(text(f) for f in factors)})")
        else:
            self.groups.append(Together(group, tensor.size(dim), tensor))

    def solve(self, help: str) -> dict[str, Expr]:
        """The size of every index mentioned, in order of appearance. `help` says what to declare for one not told."""
        self._divide()
        for together in self.groups:
            for name in names(together.group):
                if name.id not in self.known and name.id in self.scope.elsewhere:
                    self.known[name.id] = Known(self.scope.elsewhere[name.id], name.span, "elsewhere in the program")
                    self._divide()
        for together in self.groups:
            self._check(together)
        failed = False
        for name_id, span in self.mentioned.items():
            if name_id in self.known:
                continue
            if name_id in self.scope.elsewhere:
                self.known[name_id] = Known(self.scope.elsewhere[name_id], span, "elsewhere in the program")
                continue
            failed = True
            self.scope.report.error(
                "E202", f"the size of index `{name_id}` cannot be told", span, help=help.replace("INDEX", name_id)
            )
        if failed:
            raise Failed
        return {name: self.known[name].size for name in self.mentioned}

    def _divide(self) -> None:
        """Where all factors of a product axis but one are known, the last follows by division."""
        progress = True
        while progress:
            progress = False
            for together in self.groups:
                open_ = [n for n in names(together.group) if n.id not in self.known]
                if len(open_) != 1:
                    continue
                rest = constant(1)
                for name in names(together.group):
                    if name is not open_[0]:
                        rest = rest * self.scope.poly(self.known[name.id].size)
                quotient = divide(self.scope.poly(together.size), rest)
                if quotient is None:
                    self._disagree(together, open_[0].id)
                else:
                    size = self.scope.size_expr(quotient) or expression(quotient)
                    self.known[open_[0].id] = Known(size, open_[0].span, f"{text(together.size)} divided")
                    progress = True

    def _check(self, together: Together) -> None:
        open_ = [n for n in names(together.group) if n.id not in self.known]
        if open_:
            listed = " and ".join(f"`{n.id}`" for n in open_)
            one = len(open_) == 1
            capitals = " ".join(n.id.upper() for n in names(together.group))
            self.scope.report.fail(
                "E203",
                f"the size{'' if one else 's'} of {listed} in this product axis of size {text(together.size)} "
                "cannot be told",
                together.group.span,
                (Note(f"`{together.tensor.name}` has no structure there", together.tensor.span),),
                help=f"an axis is split only as it was built: declare the structure, as in `({capitals})`",
            )
        whole = product(tuple(self.known[n.id].size for n in names(together.group)))
        if not self.scope.same(whole, together.size):
            self._disagree(together)

    def _disagree(self, together: Together, open_: str | None = None) -> None:
        whole, sizes = self.scope.poly(together.size).value, self.scope.sizes
        if open_ is None:
            help = "a reshape that mixes axes does not type: name each axis, and split only what was merged"
        elif whole is None:
            help = f"say that it divides, as in `size {text(together.size)} = …`, and the size of `{open_}` follows"
        else:
            help = f"no size of `{open_}` makes the product {whole}"
        told = [(n, self.known[n.id]) for n in names(together.group) if n.id in self.known]
        self.scope.report.fail(
            "E207",
            f"this product axis does not fit a dimension of size {text(together.size)}: "
            + ", ".join(f"`{n.id}` has size {valued(k.size, sizes)}" for n, k in told),
            together.group.span,
            (
                *(Note(f"`{n.id}` has size {text(k.size)} here", k.span) for n, k in told if k.span != n.span),
                Note(f"`{together.tensor.name}` is declared here", together.tensor.span),
            ),
            help=help,
        )


def _running(e: Expression, scope: Scope, lets: Lets) -> str | None:
    """The running score or weight that an expression reads, if any."""
    found = (part.id for part in expanded(e, lets) if isinstance(part, Name) and part.id in RUNNING)
    return next((name for name in found if not scope.is_declared(name)), None)


def valued(size: Expr, sizes: Mapping[str, Expr | None]) -> str:
    """A size as written, and its number where it is fixed."""
    written, value = text(size), polynomial(size, sizes).value
    return written if value is None or written == str(value) else f"{written} = {value}"
