"""Parts that several expressions have in common, as variables: what grows as a tree is printed as it is shared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from irc.codegen.expr import Expr, Kind, Local, Op, children, rebuild


class Repeated:
    """The operations on operations that occur more than once in `exprs`, and that are `eager`: which may be evaluated
    where the expressions themselves might not evaluate them. `parts` are their names, in an order of evaluation."""

    def __init__(self, exprs: Sequence[Expr], name: str, eager: Callable[[Expr], bool]) -> None:
        self.name, self.eager = name, eager
        self.parts: dict[Local, Expr] = {}
        self._uses: Counter[Expr] = Counter()
        self._named: dict[Expr, Local] = {}
        for expr in exprs:
            self._count(expr)

    def _count(self, expr: Expr) -> None:
        """Uses of what stands in the expression, by expressions that differ."""
        self._uses[expr] += 1
        if self._uses[expr] == 1:
            for child in children(expr):
                self._count(child)

    def replaced(self, expr: Expr) -> Expr:
        """One of the expressions, with variables for its parts."""

        def fn(part: Expr) -> Expr | None:
            if self._uses[part] < 2 or not isinstance(part, Op) or part.kind is Kind.FLOAT:
                return None
            if part not in self._named and any(isinstance(e, Op) for e in part.args) and self.eager(part):
                value = Op(part.name, tuple(self.replaced(e) for e in part.args), part.kind)
                self._named[part] = Local(f"{self.name} {len(self.parts)}", part.kind)
                self.parts[self._named[part]] = value
            return self._named.get(part)

        return rebuild(expr, fn)
