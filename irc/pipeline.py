"""The compiler: text to kernels, as an ordered list of passes. Read `PASSES` and you know it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from irc import recompute
from irc.build import build
from irc.codegen.render import render
from irc.compiled import Compiled
from irc.differentiate import differentiable, differentiate
from irc.error import Error, SpecError
from irc.fuse import Fused, Precision, fuse
from irc.grammar.diagnostic import SyntaxErrors
from irc.grammar.parser import parse
from irc.grammar.source import Source
from irc.inplace import in_place
from irc.ir import Graph, Input, Reduce, is_tile
from irc.layout import laid_out
from irc.lifetimes import ordered, released
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
    choice = None
    if backward_graph is not None and backward is not None:
        defined = {n.name for n in forward_graph if not isinstance(n, Input) and not is_tile(n)}
        plain = tuple(n.name for n in backward_graph if not isinstance(n, Input) and n.name in defined)
        known = {k.name: k for k in backward.kernels}
        kept, again = recompute.kept(backward.plan, known, plain)
        forward = Fused(replace(forward.plan, kept=kept), forward.kernels)
        backward = Fused(replace(backward.plan, kept=kept, again=again), backward.kernels)
        choice = recompute.choice(backward.plan, known)
        used_up = tuple(n for n in saved if _is_large(forward_graph, n))
        backward = traced("arrange backward", partial(arrange, backward, used_up))
    forward = traced("arrange", partial(arrange, forward, ()))
    kernels = forward.kernels + (backward.kernels if backward else ())
    text = traced("render", lambda: render(kernels, graph.name, source.text))
    return Compiled(forward_graph, backward_graph, forward, backward, choice, text)


def _is_large(graph: Graph, name: str) -> bool:
    """Whether a saved tensor is the run's own and more than a number a row."""
    node = graph[name]
    return name not in dict(graph.outputs).values() and not (isinstance(node, Reduce) and node.op != "sum")


def arrange(fused: Fused, used_up: tuple[str, ...]) -> Fused:
    """The steps in the order and the memory in which they run. `used_up`: arguments that need not outlive their use."""
    plan = fused.plan
    arguments = tuple(t.name for t in plan.tensors if t.role != "temporary" and t.name not in used_up)
    lasting = (*arguments, *plan.saved, *(name for _, name in plan.outputs))
    kernels = {k.name: k for k in fused.kernels}
    tensors = {t.name: t for t in plan.tensors}
    forward = "saved" not in {t.role for t in plan.tensors}
    steps = ordered(plan, kernels, lasting)
    steps, kernels = in_place(steps, tensors, kernels, (*lasting, *(plan.kept if forward else ())))
    steps = released(laid_out(steps), kernels, lasting)
    return Fused(replace(plan, steps=steps), tuple(kernels.values()))


def traced(name: str, run: Callable[[], T]) -> T:
    """Run one pass; IRC_DEBUG=time tells how long it took."""
    start = time.perf_counter()
    result = run()
    if "time" in os.environ.get("IRC_DEBUG", "").split(","):
        print(f"irc: {name}: {1e3 * (time.perf_counter() - start):.1f} ms", file=sys.stderr)
    return result
