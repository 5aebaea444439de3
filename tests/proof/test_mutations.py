"""Ten slips in each mask of the gallery: refuted by a state that the interpreter confirms, or proved equivalent."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from irc.build import build
from irc.codegen.expr import op
from irc.grammar.parser import parse
from irc.grammar.source import Source
from irc.proof.claim import Claim
from irc.proof.decide import decide
from irc.proof.exhaustive import breaks, counterexample
from tests.proof.mutations import mutations

GALLERY = sorted((Path(__file__).parents[2] / "examples" / "masks").glob("*.attn"))
EACH = 10


@pytest.mark.parametrize("path", GALLERY, ids=lambda p: p.stem)
def test_every_slip_is_refuted_or_equivalent(path: Path) -> None:
    graph = build(parse(Source(path.name, path.read_text()))[0])
    for core in graph.cores:
        assert core.support is not None
        slips = mutations(core, EACH)
        for slip in Random(path.stem).sample(slips, EACH):
            pairs = (*core.batch, *core.rows, *core.columns)
            claim = Claim("", pairs, op("eq", core.support, slip), core=core.name)
            answer = decide(claim, graph)
            assert answer.status != "unknown", slip
            if answer.model is not None:
                assert breaks(claim, graph, answer.model)
            else:
                assert counterexample(claim, graph, most=5, fixed={"B": 1, "H": 1}, budget=30_000)[1] is None, slip
