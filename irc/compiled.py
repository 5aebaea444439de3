"""What one compilation for known feature sizes yields. Whoever only runs it imports none of the passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from irc.arrangement.recompute import Choice
from irc.codegen.kernel import Arithmetic, Kernel, Storage
from irc.codegen.parts import Part
from irc.graph.ir import Graph, Input
from irc.runtime.plan import Plan, Release

Parts = tuple[tuple[Part, ...], ...]
Integers = tuple[tuple[str, Storage], ...]  # names and element types


@dataclass(frozen=True, slots=True)
class Precision:
    """Element types: of stored tensors, and of arithmetic, accumulators and row statistics; and of those inputs of
    integers that have less than 32 bits."""

    storage: Storage
    arithmetic: Arithmetic
    integers: Integers = ()

    @property
    def pairs(self) -> bool:
        """Whether the products of tile kernels may multiply bf16 in pairs."""
        return self.storage == "bf16"


@dataclass(frozen=True, slots=True)
class Fused:
    """A program of steps and the kernels that they call."""

    plan: Plan
    kernels: tuple[Kernel, ...]


@dataclass(frozen=True, slots=True)
class Compiled:
    """Graphs, steps and the source of the kernels, forward and backward; `choice`: what a backward run computes again;
    `parts`: of C++, those that hold each run's kernels."""

    forward_graph: Graph
    backward_graph: Graph | None
    forward: Fused
    backward: Fused | None
    choice: Choice | None
    source: str
    parts: Parts

    @property
    def name(self) -> str:
        """The program's."""
        return self.forward_graph.name

    def keeps(self, sizes: Mapping[str, int]) -> bool:
        """Whether a forward run of these sizes keeps what the backward run would else compute again."""
        return self.choice is not None and self.choice.keep(sizes)

    @property
    def runs(self) -> tuple[Fused, ...]:
        return (self.forward,) if self.backward is None else (self.forward, self.backward)

    @property
    def used_up(self) -> tuple[str, ...]:
        """Of what the forward run saves, what a backward run frees on its way."""
        if self.backward is None:
            return ()
        freed = {step.tensor for step in self.backward.plan.steps if isinstance(step, Release)}
        return tuple(name for name in self.forward.plan.saved if name in freed)


@dataclass(frozen=True, slots=True)
class Derived:
    """A tangent graph, its steps (none for the interpreter) and the source of their kernels; `parts` as of
    `Compiled`."""

    graph: Graph
    fused: Fused | None
    source: str
    parts: Parts

    @property
    def name(self) -> str:
        """The graph's."""
        return self.graph.name

    @property
    def runs(self) -> tuple[Fused, ...]:
        return () if self.fused is None else (self.fused,)


def arguments(graph: Graph) -> tuple[Input, ...]:
    """What a caller passes."""
    return tuple(n for n in graph.inputs if n.role in ("input", "param", "const", "scalar"))
