"""What one compilation for known feature sizes yields."""

from __future__ import annotations

from dataclasses import dataclass

from irc.fuse import Fused
from irc.ir import Graph, Input


@dataclass(frozen=True, slots=True)
class Compiled:
    """Graphs, steps and the C++ of the kernels, forward and backward."""

    forward_graph: Graph
    backward_graph: Graph | None
    forward: Fused
    backward: Fused | None
    source: str


def arguments(graph: Graph) -> tuple[Input, ...]:
    """What a caller passes."""
    return tuple(n for n in graph.inputs if n.role in ("input", "param", "const", "scalar"))
