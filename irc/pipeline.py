"""The compiler: text to kernels, as an ordered list of passes. Read `PASSES` and you know it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from irc.build import build
from irc.codegen.render import render
from irc.compiled import Compiled
from irc.differentiate import differentiable, differentiate
from irc.error import Error, SpecError
from irc.fuse import Precision, fuse
from irc.grammar.diagnostic import SyntaxErrors
from irc.grammar.parser import parse
from irc.grammar.source import Source
from irc.ir import Graph
from irc.proof.verdict import Verdict
from irc.simplify import simplify
from irc.specialise import specialise
from irc.verify import verify

T = TypeVar("T")


def front(source: Source) -> Graph:
    """Text to a verified graph; every mistake in the text is in the SpecError."""
    try:
        programs = parse(source)
    except SyntaxErrors as errors:
        raise SpecError(errors.diagnostics) from None
    if len(programs) != 1:
        raise Error(f"{source.name}: expected one `attention` program, found {len(programs)}")
    graph = traced("build", lambda: build(programs[0]))
    verify(graph)
    return graph


def proofs(graph: Graph) -> tuple[Verdict, ...]:
    """What became of each property that the program ensures. Raises SpecError for contradictory assumptions."""
    if not graph.properties:
        return ()
    from irc.proof.prove import prove  # brings the solver

    return traced("prove", lambda: prove(graph))


def back(graph: Graph, source: Source, sizes: Mapping[str, int], precision: Precision) -> Compiled:
    """A graph to the source of its kernels, forward and backward."""
    forward_graph = traced("specialise", lambda: simplify(specialise(graph, sizes)))
    verify(forward_graph)
    backward_graph = None
    if differentiable(forward_graph):
        backward_graph = traced("differentiate", lambda: differentiate(forward_graph))
        verify(backward_graph)
    saved = tuple(n.name for n in backward_graph.inputs if n.role == "saved") if backward_graph else ()
    forward = traced("fuse", lambda: fuse(forward_graph, precision, saved))
    backward = None
    if backward_graph is not None:
        made = {t.name: t.storage for t in forward.plan.tensors}
        public = dict(forward_graph.outputs)
        for node in backward_graph.inputs:
            if node.role == "cotangent":
                made[node.name] = made[public[node.name.removeprefix("cotangent.")]]
        graph_ = backward_graph
        backward = traced("fuse backward", lambda: fuse(graph_, precision, (), made))
    kernels = forward.kernels + (backward.kernels if backward else ())
    text = traced("render", lambda: render(kernels, graph.name, source.text))
    return Compiled(forward_graph, backward_graph, forward, backward, text)


def traced(name: str, run: Callable[[], T]) -> T:
    """Run one pass; IRC_DEBUG=time tells how long it took."""
    start = time.perf_counter()
    result = run()
    if "time" in os.environ.get("IRC_DEBUG", "").split(","):
        print(f"irc: {name}: {1e3 * (time.perf_counter() - start):.1f} ms", file=sys.stderr)
    return result
