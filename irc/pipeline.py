"""The compiler: text to kernels, as an ordered list of passes. Read `PASSES` and you know it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from irc.arrangement.arrange import arrange, arrange_both
from irc.codegen.kernel import Storage
from irc.codegen.render import render_runs
from irc.codegen.schedule import Schedule
from irc.compiled import Compiled, Derived, Fused, Precision
from irc.elaborate.build import build
from irc.error import Error, SpecError
from irc.fusion.fuse import fuse
from irc.fusion.tile import NotFusible
from irc.grammar.diagnostic import SyntaxErrors
from irc.grammar.source import Source
from irc.graph.ir import Graph, Reduce, cotangent_name, remainder_name
from irc.graph.verify import verify
from irc.passes.between import with_differences
from irc.passes.common import in_common
from irc.passes.differentiate import differentiable, differentiate
from irc.passes.distances import distributed
from irc.passes.dots import dotted
from irc.passes.lookups import products_first
from irc.passes.motion import moved
from irc.passes.products import of_tensors
from irc.passes.remainder import with_remainders
from irc.passes.repeated import named_apart
from irc.passes.rows import with_rows
from irc.passes.simplify import simplify
from irc.passes.specialise import specialise
from irc.passes.tabulate import tabulated
from irc.passes.tangent import second, tangent, tangent_name
from irc.passes.unrounded import with_unrounded
from irc.passes.values import with_weights
from irc.passes.written import written_out
from irc.prepared import keep_templates, parse
from irc.runtime.plan import Plan

T = TypeVar("T")
Result = TypeVar("Result", Compiled, Derived)

keep_templates()


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


def back(
    graph: Graph, sizes: Mapping[str, int], precision: Precision, steps: bool = True, host: bool = False
) -> Compiled:
    """A graph to the steps of its runs and their kernels, forward and backward; without `steps`, to the graphs that the
    interpreter runs. `host`: the kernels are the host's. Raises Error where some step does not fuse."""
    graph = with_differences(written_out(graph, sizes), precision.arithmetic) if steps else graph
    rows = with_rows(in_common(graph), host, forward=True) if steps else graph
    forward_graph = _specialised(rows, sizes, steps, host)
    backward_graph = None
    if differentiable(forward_graph):
        for turned in (True, False):
            others = with_rows(in_common(graph, turned), host, forward=False) if steps else graph
            of_backward = forward_graph if others == rows else _specialised(others, sizes, steps, host)
            backward = traced("differentiate", partial(differentiate, of_backward))
            verify(backward)
            if _goes_with(forward_graph, backward):
                break
        else:
            forward_graph = of_backward
        backward_graph = backward
    verify(forward_graph)
    if not steps:
        return Compiled(forward_graph, backward_graph, NO_STEPS, NO_STEPS if backward_graph else None, None, "", ())
    try:
        return _steps(forward_graph, backward_graph, precision, host)
    except NotFusible as reason:
        raise _unfused(graph, "kernels", reason) from reason


def _goes_with(forward: Graph, backward: Graph) -> bool:
    """Whether a run of one graph can be followed by the other's, made of what may have other rows: it has all that is
    kept, and no weight is looked for by its bits, which another order of sums changes."""
    saved = {n.name for n in backward.inputs if n.role == "saved"}
    return saved <= forward.by_name.keys() and not any(isinstance(n, Reduce) and n.op == "max" for n in forward)


def _specialised(graph: Graph, sizes: Mapping[str, int], steps: bool, host: bool) -> Graph:
    if steps:
        first = of_tensors(with_weights(products_first(dotted(distributed(graph)), sizes)))
        graph = traced("tabulate", lambda: named_apart(moved(tabulated(first, host))))
    return traced("specialise", lambda: simplify(specialise(graph, sizes)))


NO_STEPS = Fused(Plan((), (), ()), ())


def _unfused(graph: Graph, what: str, reason: NotFusible) -> Error:
    return Error(f'{graph.name}: its {what} do not fuse ({reason}); target="reference" computes them')


def _steps(forward_graph: Graph, backward_graph: Graph | None, precision: Precision, host: bool) -> Compiled:
    made_of = partial(fuse, host=host)
    if backward_graph and precision.storage != precision.arithmetic:
        forward_graph, backward_graph = traced("unrounded", partial(with_unrounded, forward_graph, backward_graph))
        verify(forward_graph)
        verify(backward_graph)
    saved = tuple(n.name for n in backward_graph.inputs if n.role == "saved") if backward_graph else ()
    forward = traced("fuse", lambda: made_of(forward_graph, precision, (*saved, *map(remainder_name, saved))))
    if backward_graph:
        made = {t.name: t.storage for t in forward.plan.tensors}
        backward_graph = traced("remainder", partial(with_remainders, backward_graph, made))
        verify(backward_graph)
    backward, choice = None, None
    if backward_graph is None:
        forward = traced("arrange", partial(arrange, forward))
    else:
        public = dict(forward_graph.outputs)
        for node in backward_graph.inputs:
            if node.role == "cotangent":
                made[node.name] = made[public[node.name.removeprefix("cotangent.")]]
        backward = traced("fuse backward", partial(made_of, backward_graph, precision, (), made))
        both = partial(arrange_both, forward, backward, forward_graph, backward_graph)
        forward, backward, choice = traced("arrange", both)
    return Compiled(forward_graph, backward_graph, forward, backward, choice, "", ())


def tangents(
    graph: Graph, sizes: Mapping[str, int], precision: Precision, along: Collection[str], second_order: bool,
    steps: bool = True, host: bool = False,
) -> Derived:  # fmt: skip
    """A graph to the steps of its tangents, or of those of its gradients, along some inputs; `steps` and `host` as
    for `back`. Raises Error where some step does not fuse."""
    if steps:
        graph = with_rows(
            in_common(with_differences(written_out(graph, sizes), precision.arithmetic)), host, forward=False
        )
    forward = _specialised(graph, sizes, steps, host)
    made = traced("tangent", lambda: (second if second_order else tangent)(forward, along))
    verify(made)
    if not steps:
        return Derived(made, None, "", ())
    known: dict[str, Storage] = {}  # cotangents and tangents have the element types of their outputs
    try:
        stored = {t.name: t.storage for t in fuse(forward, precision).plan.tensors}
        for public, name in forward.outputs:
            known |= {cotangent_name(public): stored[name], tangent_name(name): stored[name]}
        fused = arrange(traced("fuse", lambda: fuse(made, precision, (), known, host)))
    except NotFusible as reason:
        raise _unfused(graph, "second derivatives" if second_order else "tangents", reason) from reason
    return Derived(made, fused, "", ())


def rendered(made: Result, source: Source, schedule: Schedule) -> Result:
    """The same with the C++ of its kernels, in tiles as the schedule has them."""
    runs = tuple(run.kernels for run in made.runs)
    text, parts = traced("render", lambda: render_runs(runs, made.name, source.text, schedule))
    return replace(made, source=text, parts=parts)


def traced(name: str, run: Callable[[], T]) -> T:
    """Run one pass; IRC_DEBUG=time tells how long it took."""
    start = time.perf_counter()
    result = run()
    if "time" in os.environ.get("IRC_DEBUG", "").split(","):
        print(f"irc: {name}: {1e3 * (time.perf_counter() - start):.1f} ms", file=sys.stderr)
    return result
