"""What one compilation for known feature sizes yields."""

from __future__ import annotations

from dataclasses import dataclass

from irc.fuse import Fused
from irc.ir import Graph, Input
from irc.recompute import Choice
from irc.runtime.plan import Release


@dataclass(frozen=True, slots=True)
class Compiled:
    """Graphs, steps and the C++ of the kernels, forward and backward; `choice`: what a backward run computes again."""

    forward_graph: Graph
    backward_graph: Graph | None
    forward: Fused
    backward: Fused | None
    choice: Choice | None
    source: str

    @property
    def used_up(self) -> tuple[str, ...]:
        """Of what the forward run saves, what a backward run frees on its way."""
        if self.backward is None:
            return ()
        freed = {step.tensor for step in self.backward.plan.steps if isinstance(step, Release)}
        return tuple(name for name in self.forward.plan.saved if name in freed)


@dataclass(frozen=True, slots=True)
class Derived:
    """A tangent graph, its steps (none for the interpreter) and the C++ of their kernels."""

    graph: Graph
    fused: Fused | None
    source: str


def arguments(graph: Graph) -> tuple[Input, ...]:
    """What a caller passes."""
    return tuple(n for n in graph.inputs if n.role in ("input", "param", "const", "scalar"))
