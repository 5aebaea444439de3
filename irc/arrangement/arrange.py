"""From the steps that fusion made to those that run: what is kept or computed again, in what order and memory."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from irc.arrangement.inplace import in_place
from irc.arrangement.layout import laid_out
from irc.arrangement.lifetimes import ordered, released
from irc.arrangement.recompute import Choice, choice, kept
from irc.compiled import Fused
from irc.graph.ir import Graph, Input, Reduce, is_tile


def arrange(forward: Fused) -> Fused:
    """Steps that keep nothing for others: a program without gradients, or derivatives made in one go."""
    return _in_memory(forward, (), ())


def arrange_both(forward: Fused, backward: Fused, graph: Graph, backward_graph: Graph) -> tuple[Fused, Fused, Choice]:
    """Forward and backward; with what decides at each call which of the tensors that they share are kept."""
    kernels = {k.name: k for k in backward.kernels}
    enough, again = kept(backward.plan, kernels, _defined_again(graph, backward_graph))
    forward = Fused(replace(forward.plan, kept=enough), forward.kernels)
    backward = Fused(replace(backward.plan, kept=enough, again=again), backward.kernels)
    used_up = tuple(name for name in forward.plan.saved if _is_large(graph, name))
    decision = choice(backward.plan, kernels)
    return _in_memory(forward, (), enough), _in_memory(backward, used_up, ()), decision


def _defined_again(graph: Graph, backward_graph: Graph) -> tuple[str, ...]:
    """Nodes of the forward graph that the backward graph defines too, tile values aside."""
    defined = {n.name for n in graph if not isinstance(n, Input) and not is_tile(n)}
    return tuple(n.name for n in backward_graph if not isinstance(n, Input) and n.name in defined)


def _is_large(graph: Graph, name: str) -> bool:
    """Whether a saved tensor is the run's own and more than a number a row."""
    node = graph.by_name.get(name)  # none: the remainder of a logsumexp
    statistic = node is None or (isinstance(node, Reduce) and node.op != "sum")
    return name not in dict(graph.outputs).values() and not statistic


def _in_memory(fused: Fused, used_up: Collection[str], whole: Collection[str]) -> Fused:
    """The steps in the order and the memory in which they run. `used_up`: arguments that need not outlive their use;
    `whole`: tensors that no result may replace."""
    plan = fused.plan
    arguments = tuple(t.name for t in plan.tensors if t.role != "temporary" and t.name not in used_up)
    lasting = (*arguments, *plan.saved, *(name for _, name in plan.outputs))
    kernels = {k.name: k for k in fused.kernels}
    tensors = {t.name: t for t in plan.tensors}
    steps = ordered(plan, kernels, lasting)
    steps, kernels = in_place(steps, tensors, kernels, (*lasting, *whole))
    return Fused(replace(plan, steps=released(laid_out(steps), kernels, lasting)), tuple(kernels.values()))
