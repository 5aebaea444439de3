"""Ways to plant a bug in the compiler. Each counts what it broke, so that a seed that hits nothing is noticed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest

from irc import pipeline
from irc.codegen.expr import Expr, loads, substitute
from irc.graph.ir import Graph, Node
from irc.passes.simplify import rewrite

Plant = Callable[[pytest.MonkeyPatch, list[str]], None]


def in_graph(stage: Literal["specialise", "differentiate"], sabotage: Callable[[Node], Node]) -> Plant:
    """Every node of the forward or of the backward graph through `sabotage`."""

    def plant(monkeypatch: pytest.MonkeyPatch, hits: list[str]) -> None:
        honest = getattr(pipeline, stage)

        def broken(*given: Any) -> Graph:
            graph: Graph = honest(*given)
            nodes = tuple(sabotage(n) for n in graph)
            hits.extend(a.name for a, b in zip(graph, nodes, strict=True) if a != b)
            return replace(graph, nodes=nodes)

        monkeypatch.setattr(pipeline, stage, broken)

    return plant


def loads_of(tensor: str, change: Callable[[Expr], Expr]) -> Callable[[Node], Node]:
    """Every read of a tensor's elements changed."""

    def changed(expr: Expr) -> Expr:
        return substitute(expr, {e: change(e) for e in loads(expr) if e.tensor == tensor})

    return lambda node: rewrite(node, changed)


def in_source(pattern: str, replacement: str) -> Plant:
    """The generated C++, a regular expression replaced wherever it matches, before it is compiled."""

    def plant(monkeypatch: pytest.MonkeyPatch, hits: list[str]) -> None:
        honest = pipeline.render_runs

        def broken(*given: Any, **named: Any) -> Any:
            text, parts = honest(*given, **named)
            text, count = re.subn(pattern, replacement, text)
            hits.extend([pattern] * count)
            return text, parts

        monkeypatch.setattr(pipeline, "render_runs", broken)

    return plant


def instead(owner: Any, name: str, broken: Callable[..., Any]) -> Plant:
    """A function or method of the compiler replaced; `broken` takes the honest one first."""

    def plant(monkeypatch: pytest.MonkeyPatch, hits: list[str]) -> None:
        honest = getattr(owner, name)

        def called(*given: Any) -> Any:
            hits.append(name)
            return broken(honest, *given)

        monkeypatch.setattr(owner, name, called)

    return plant
