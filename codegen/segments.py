"""Segments looked up once where a loop would look them up at each of its points."""

from __future__ import annotations

from collections.abc import Iterable

from irc.codegen.expr import Axis, Expr, Kind, Local, Op, indices, rebuild


class Lookups:
    """The segments that depend on the indices of some axes alone, as they are met in expressions."""

    def __init__(self, axes: Iterable[Axis], name: str = "segment") -> None:
        self.names = {a.name for a in axes}
        self.name = name
        self.found: dict[Expr, Local] = {}

    def replaced(self, expr: Expr) -> Expr:
        """The expression with variables for these segments."""

        def fn(part: Expr) -> Expr | None:
            if isinstance(part, Op) and part.name == "segment" and indices(part) <= self.names:
                # No name of a program has a dot.
                return self.found.setdefault(part, Local(f"{self.name}.{len(self.found)}", Kind.INT))
            return None

        return rebuild(expr, fn)
