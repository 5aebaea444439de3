"""Ten mutants of each mask of the gallery: each refuted or proved equivalent, and all small states agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from irc.codegen.expr import TRUE, op
from irc.grammar.source import Source
from irc.pipeline import front
from irc.proof.claim import Claim
from irc.proof.decide import decide
from irc.proof.exhaustive import breaks, counterexample
from tests.proof.mutations import COUNT, mutants

GALLERY = sorted((Path(__file__).parents[2] / "examples" / "masks").glob("*.attn"))


@pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.stem)
def test_mutants_are_refuted_or_proved_equivalent(path: Path) -> None:
    graph = front(Source(path.name, path.read_text()))
    for core in graph.cores:
        found = mutants(core)
        assert len(found) == COUNT
        for name, mutant in found:
            free = core.batch + core.rows + core.columns
            claim = Claim(name, free, op("eq", mutant, core.support or TRUE), core=core.name)
            answer = decide(claim, graph)
            assert answer.status in ("proved", "refuted"), name
            if answer.model is not None:
                assert breaks(claim, graph, answer.model), name
            else:
                _, state = counterexample(claim, graph, most=5, fixed={"B": 1, "H": 1, "D": 1}, budget=200_000)
                assert state is None, name
