"""A test that cannot fail is a defect: each law of the language is broken on purpose, and its test must notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from irc import pipeline
from irc.codegen.expr import Expr, integer, number, op
from irc.ir import Graph, Map, Node, Reduce
from irc.simplify import rewrite
from tests import test_differentiate, test_kernels

Sabotage = Callable[[Node], Node]


def without_mask(node: Node) -> Node:
    """The pair is multiplied by a weight of 0 instead of not existing."""
    return replace(node, where=None) if isinstance(node, Reduce) and node.op == "sum" else node


def one_key_further(node: Node) -> Node:
    """j <= i becomes j <= i + 1."""

    def shift(expr: Expr) -> Expr:
        if getattr(expr, "name", "") == "le" and len(args := getattr(expr, "args", ())) == 2:
            return op("le", op("sub", args[0], one), args[1])
        return expr

    one = integer(1)
    where = getattr(node, "where", None)
    return replace(node, where=shift(where)) if where is not None and isinstance(node, Map | Reduce) else node


def sentinel(node: Node) -> Node:
    """Blocked scores become -1e9 instead of not existing."""
    if isinstance(node, Reduce) and node.op == "logsumexp" and node.where is not None:
        return replace(node, body=op("where", node.where, node.body, number(-1e9)), where=None)
    if isinstance(node, Map) and node.where is not None:
        return replace(node, where=None)
    return replace(node, where=None) if isinstance(node, Reduce) else node


def everywhere(graph: Graph, sabotage: Sabotage) -> Graph:
    return replace(graph, nodes=tuple(sabotage(n) for n in graph))


def planted() -> None:
    test_kernels.test_blocked_non_finite_values_change_no_bit(np.nan)


CASES: list[tuple[str, str, Sabotage, Callable[[], None]]] = [
    ("forward", "blocked NaN", without_mask, lambda: test_kernels.test_blocked_non_finite_values_change_no_bit(np.nan)),
    (
        "backward",
        "blocked NaN",
        without_mask,
        lambda: test_kernels.test_blocked_non_finite_values_change_no_bit(np.nan),
    ),
    ("forward", "future", one_key_further, test_kernels.test_the_future_changes_no_bit_of_the_past),
    ("forward", "empty rows", sentinel, test_kernels.test_rows_without_keys_are_zero_and_pass_no_gradient),
]


@pytest.mark.parametrize(("pass_", "law", "sabotage", "check"), CASES, ids=[f"{c[0]}: {c[1]}" for c in CASES])
def test_a_broken_law_is_noticed(
    pass_: str, law: str, sabotage: Sabotage, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path))  # sabotaged kernels are not to be found again
    name = "specialise" if pass_ == "forward" else "differentiate"
    honest = getattr(pipeline, name)
    monkeypatch.setattr(pipeline, name, lambda *given: everywhere(honest(*given), sabotage))
    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize("factor", [1.001, -1.0])
def test_a_wrong_derivative_is_noticed(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = test_differentiate.differentiate

    def scaled(graph: Graph) -> Graph:
        backward = honest(graph)
        return replace(
            backward,
            nodes=tuple(
                rewrite(n, lambda e: op("mul", number(factor), e)) if n.name == "d.o.score" else n for n in backward
            ),
        )

    monkeypatch.setattr(test_differentiate, "differentiate", scaled)
    with pytest.raises(AssertionError):
        test_differentiate.test_gradients_agree_with_central_differences("full")
