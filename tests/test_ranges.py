"""Kernels over many tiles, whose masks skip most of them, against the interpreter: every order of loops, tables too."""

from __future__ import annotations

import uuid
from dataclasses import replace

import numpy as np
import pytest

import irc
from irc import stored
from irc.codegen.expr import integer, op
from irc.mask import analyse as analysis
from tests.test_kernels import both

pytestmark = pytest.mark.optimise("-O0")

SPEC = """
attention ranges {{
  size B, H, S, D
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]
  {declare}
  core o[b,h,i,d], lse[b,h,i] {{
    score q[b,h,i,c] * k[b,h,j,c]
    {stage}
    softmax j
    matmul v[b,h,j,d]
  }}
  return o, lse
}}
"""
DOCUMENTS = "input doc[B,S]: int\n  assume nondecreasing doc[b,s] over s"
MASKS = {
    "documents": (DOCUMENTS, "allow doc[b,i] == doc[b,j] and j <= i"),
    "documents and a table": (f"{DOCUMENTS}\n  param t[(2 S)]", "bias t[i - j + S]\n allow doc[b,i] == doc[b,j]"),
    "any ids and a bias": (
        "input doc[B,S]: int, bias[H,S,S]",
        "bias bias[h,i,j]\n allow doc[b,i] == doc[b,j] or j < 3",
    ),
    "window of each head": ("input w[H]: int", "allow j <= i and i - j < w[h]"),
    "keys that are real": ("input real[B,S]: bool", "allow real[b,j] and real[b,i] and abs(i - j) < 50"),
    "documents of one query side": (DOCUMENTS, "allow j <= 30 * doc[b,i] + 7"),
}


def arguments(name: str, rng: np.random.Generator, b: int, h: int, s: int, d: int) -> dict[str, np.ndarray]:
    doc = np.sort(rng.integers(0, 7, (b, s)), axis=1).astype(np.int32)
    tables = {
        "doc": doc if "any" not in name else doc[:, ::-1].copy(),
        "w": np.arange(1, h + 1, dtype=np.int32) * 40,
        "real": rng.random((b, s)) < 0.9,
        "t": rng.standard_normal(2 * s).astype(np.float32),
        "bias": rng.standard_normal((h, s, s)).astype(np.float32),
    }
    declare = MASKS[name][0]
    chosen = {n: a for n, a in tables.items() if f"{n}[" in declare}
    return chosen | {n: rng.standard_normal((b, h, s, d)).astype(np.float32) for n in "qkv"}


@pytest.mark.parametrize("name", MASKS)
def test_kernels_that_skip_agree_with_the_interpreter(name: str) -> None:
    rng = np.random.default_rng(0)
    declare, stage = MASKS[name]
    both(SPEC.format(declare=declare, stage=stage), arguments(name, rng, 2, 2, 431, 8), "f32", rng)


@pytest.mark.parametrize("what", ["span", "verdict", "summary"])
def test_a_range_that_is_too_short_is_noticed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tile too few, or a vector read at the wrong end, must not pass the test above."""
    compiler = f"broken {uuid.uuid4()}"  # nothing that it makes is to be found again
    monkeypatch.setattr(stored, "fingerprint", lambda: compiler)
    honest = analysis.analyse

    def wrong(*given, **named):  # type: ignore[no-untyped-def]
        found = honest(*given, **named)
        match what:
            case "span":
                spans = tuple(replace(s, last=op("sub", s.last, integer(150))) for s in found.spans)
                return replace(found, spans=spans)
            case "verdict":
                return replace(found, verdict=replace(found.verdict, must=found.verdict.may))
            case _:
                summaries = tuple(
                    replace(s, value=op("add", s.value, integer(n))) for n, s in enumerate(found.summaries)
                )
                return replace(found, summaries=summaries)

    monkeypatch.setattr("irc.fusion.tile.analyse", wrong)
    with pytest.raises(AssertionError):
        test_kernels_that_skip_agree_with_the_interpreter("documents")


def test_one_program_serves_every_size() -> None:
    """No kernel is compiled again where sizes or tables change."""
    declare, stage = MASKS["documents"]
    program = irc.compile(SPEC.format(declare=declare, stage=stage), sizes={"D": 8})
    rng = np.random.default_rng(1)
    for s in (1, 5, 200, 431):
        inputs = arguments("documents", rng, 1, 2, s, 8)
        run = program.forward(**inputs)
        run.backward(o=inputs["v"])
        mask = (inputs["doc"][0][:, None] == inputs["doc"][0]) & np.tri(s, dtype=bool)
        scores = np.where(mask, inputs["q"] @ inputs["k"].swapaxes(-1, -2), -np.inf)
        np.testing.assert_allclose(run.outputs["lse"], np.logaddexp.reduce(scores, -1), rtol=1e-5, atol=1e-5)
    assert len(program._built) == 1
