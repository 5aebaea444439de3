"""What a program promises under `ensure`, decided for all sizes; counterexamples that teach."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from irc.graph.ir import Graph
    from irc.proof.verdict import Verdict


def proofs(graph: Graph) -> tuple[Verdict, ...]:
    """What became of each property that the program ensures. Raises SpecError for contradictory assumptions."""
    if not graph.properties:
        return ()
    from irc.proof.prove import prove  # brings the solver

    return prove(graph)
