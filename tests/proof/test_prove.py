"""`prove`: every `ensure` of a program with its verdict, what may be accepted, and what is an error."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import irc
from irc.elaborate.build import build
from irc.error import InputError, SpecError
from irc.grammar.parser import parse
from irc.grammar.source import Source
from irc.proof import prove as proving
from irc.proof.claim import Answer
from irc.proof.picture import text
from irc.proof.prove import prove
from irc.proof.verdict import Verdict

POOLED = """attention pooled {
  size B, S, D
  input x[B,S,D]
  param seed[D]
  core p[b,d] {
    score seed[c] * x[b,j,c]
    allow MASK
    softmax j
    matmul x[b,j,d]
  }
  core o[b,i,d] {
    score x[b,i,c] * x[b,j,c]
    allow j <= i
    softmax j
    matmul x[b,j,d] * p[b,d]
  }
  return o
  ensure ENSURE
}
"""
FORWARD = """attention forward {
  size B, S, D
  input q[B,S,D], k[B,S,D], v[B,S,D]
  scalar w: int
  assume w >= 1
  core o[b,i,d] {
    score q[b,i,c] * k[b,j,c]
    allow MASK
    softmax j
    matmul v[b,j,d]
  }
  return o
  ensure ENSURE
}
"""


def program(mask: str = "j <= i", ensure: str = "causal, rows nonempty") -> str:
    return FORWARD.replace("MASK", mask).replace("ENSURE", ensure)


def verdicts(source: str, accept: tuple[str, ...] = ()) -> tuple[Verdict, ...]:
    (tree,) = parse(Source("a.attn", source))
    return prove(build(tree), accept)


def test_each_property_has_a_verdict_in_the_order_written() -> None:
    found = verdicts(program("i - w <= j and j <= i", "rows nonempty, window(w), causal, batch independent"))
    assert [v.text for v in found] == ["rows nonempty", "window(w)", "causal", "batch independent"]
    assert [v.status for v in found] == ["proved", "refuted", "proved", "proved"]
    assert str(found[0]) == "proved: every query has a key: j = i"


def test_a_program_that_ensures_nothing_is_not_asked_about() -> None:
    assert verdicts(program().replace("  ensure causal, rows nonempty\n", "")) == ()


def test_a_refuted_one_says_what_where_and_shows_it() -> None:
    (found,) = verdicts(program("j <= i + 1", "causal"))
    assert found.model is not None and found.model.sizes["S"] == 2
    assert found.core == "o"
    assert found.reason == "query i = 0 sees key j = 1, 1 position after its own"
    assert found.at is not None and found.at.text() == "allow j <= i + 1"
    assert found.picture is not None
    assert text(found.picture)[1] == "0     ■ ✗"
    assert not found.passes


def test_a_property_on_several_lines_is_one_text() -> None:
    (found,) = verdicts(
        program(ensure="allow == (j <= i  # the past\n    or j == i + 1)"), ("allow == (j <= i or j == i + 1)",)
    )
    assert (found.text, found.accepted) == ("allow == (j <= i or j == i + 1)", True)
    assert found.reason == "query i = 0 does not see key j = 1, which `j <= i or j == i + 1` allows"


def test_of_several_claims_the_weakest_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(
        [Answer("proved"), Answer("unknown", "checked exhaustively for all sizes up to 5"), Answer("proved")]
    )
    (claim,) = proving.claims(_property("causal"), _graph())
    monkeypatch.setattr(proving, "claims", lambda property, graph: (claim,) * 3)
    monkeypatch.setattr(proving, "decide", lambda claim, graph: next(answers))
    (found,) = verdicts(program(ensure="causal"))
    assert str(found) == "not decided: checked exhaustively for all sizes up to 5"
    assert not found.passes


def _graph() -> irc.graph.ir.Graph:
    (tree,) = parse(Source("a.attn", program()))
    return build(tree)


def _property(name: str) -> irc.graph.ir.Property:
    return next(p for p in _graph().properties if p.name == name)


@pytest.mark.parametrize("name", ["window(w)", "window( w )", "window(w) "])
def test_what_is_accepted_by_name_passes_and_says_so(name: str) -> None:
    found = verdicts(program("i - w <= j and j <= i", "causal, window(w)"), (name,))
    assert [v.passes for v in found] == [True, True]
    assert str(found[1]).startswith("refuted, accepted: query i = 1 sees key j = 0")


TWO = FORWARD.replace(
    "  return o",
    """  core p[b,i,d] {
    score q[b,i,c] * v[b,j,c]
    allow OTHER
    softmax j
    matmul k[b,j,d]
  }
  merge { y[b,i,d] = o[b,i,d] + p[b,i,d] }
  return y""",
).replace("MASK", "j <= i")


@pytest.mark.parametrize(("other", "status"), [("j <= i", "proved"), ("j < i", "refuted"), ("j >= 0", "refuted")])
def test_a_mask_is_ensured_of_every_core_with_its_indices(other: str, status: str) -> None:
    (verdict,) = verdicts(TWO.replace("OTHER", other).replace("ENSURE", "allow == j <= i"))
    assert verdict.status == status
    both = "the mask of `o` allows exactly these pairs; the mask of `p` allows exactly these pairs"
    assert verdict.core == "p" if status == "refuted" else verdict.evidence == both


def test_a_mask_is_ensured_of_some_core() -> None:
    with pytest.raises(SpecError, match="no core of this program has the indices"):
        verdicts(
            "attention none { size S\n input x[S]\n project { y[s] = 2 * x[s] }\n return y\n ensure allow == 1 < 2 }"
        )


def test_what_is_proved_needs_no_acceptance() -> None:
    assert [v.label for v in verdicts(program(), ("causal",))] == ["proved", "proved"]


def test_a_name_that_is_not_ensured_is_an_error_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match=r"does not ensure `casual`; did you mean `causal`\?"):
        verdicts(program(), ("casual",))
    with pytest.raises(InputError, match="it ensures nothing"):
        verdicts(program().replace("  ensure causal, rows nonempty\n", ""), ("causal",))


def test_contradictory_assumptions_are_an_error_and_no_proof() -> None:
    with pytest.raises(SpecError, match=r"E603.*contradict") as error:
        verdicts(program().replace("assume w >= 1", "assume w >= 3, S >= 1, 2 * w < 5"), ("causal",))
    (found,) = error.value.diagnostics
    assert found.span.text() == "w >= 3"
    assert [n.span.text() for n in found.notes if n.span] == ["2 * w < 5"]


@pytest.mark.parametrize(
    ("mask", "ensure", "supposed"),
    [
        ("j <= i", "allow == (j <= i and u // u == 1)", "where u >= 1"),
        ("0 <= i - j and 0.1 * (i - j) <= 0.7", "window(7)", "floats taken as real numbers"),
        ("0 <= i - j and 0.1 * (i - j) <= 0.7", "causal", "floats taken as real numbers"),
        ("0 <= i - j and 0.1 * (i - j) <= 0.7", "allow == (0 <= i - j <= 6)", "floats taken as real numbers"),
        ("0 <= i - j and 0.1 * (i - j) <= 0.7", "rows nonempty", "floats taken as real numbers"),
        ("0 <= i - j and 0.1 * (i - j) <= 0.7", "incremental", "floats taken as real numbers"),
    ],
)
def test_the_evidence_of_each_property_says_what_is_supposed(mask: str, ensure: str, supposed: str) -> None:
    (found,) = verdicts(program(mask, ensure).replace("scalar", "scalar u: int, "))
    assert found.status == "proved"
    assert found.evidence.endswith(f" ({supposed})")


@pytest.mark.parametrize(
    ("ensure", "allow", "reason"),
    [
        ("rows nonempty", "true", "core `p` has no key, for there is none"),
        ("incremental", "true", "core `p` sees key j = 1, which is not there yet when a row is decoded"),
        ("allow == j < 3", "j < 4", "core `p` sees key j = 3, which `j < 3` forbids"),
    ],
)
def test_a_core_without_query_index_is_refuted_by_its_one_row(ensure: str, allow: str, reason: str) -> None:
    (found,) = verdicts(POOLED.replace("MASK", allow).replace("ENSURE", ensure))
    assert found.status == "refuted" and found.reason == reason
    assert found.picture is not None and text(found.picture)
    assert found.fix != "write `block true`, or `allow false`"


def test_verdicts_are_the_same_each_time() -> None:
    source = program("i - w <= j and j <= i + 1", "causal, window(w), rows nonempty, incremental")
    first = verdicts(source)
    assert pickle.dumps(first) == pickle.dumps(verdicts(source))


# compiling


def test_a_refuted_program_does_not_compile() -> None:
    for _ in range(2):  # the second time from the cache
        with pytest.raises(SpecError, match=r"E601.*`causal` does not hold") as error:
            irc.compile(program("j >= i"), target="reference")
        assert "✗" in str(error.value) and "help: write `allow j <= i`" in str(error.value)


def test_a_refuted_program_compiles_when_accepted() -> None:
    made = irc.compile(program("j >= i"), target="reference", accept="causal")
    assert str(made.verdicts["causal"]).startswith("refuted, accepted: ")
    assert str(made.verdicts["rows nonempty"]).startswith("proved: ")


def test_the_manifest_says_what_was_accepted(tmp_path: Path) -> None:
    from irc.export.export import export

    export(irc.compile(program("j >= i"), accept=["causal"], sizes={"D": 4}), tmp_path)
    ensures = json.loads((tmp_path / "manifest.json").read_text())["ensures"]
    assert [(e["property"], e["verdict"]) for e in ensures] == [
        ("causal", "refuted, accepted"),
        ("rows nonempty", "proved"),
    ]


def test_a_program_that_has_been_proved_needs_no_solver(tmp_path: Path) -> None:
    path = tmp_path / "a.attn"
    path.write_text(program())
    script = (
        f"import sys, irc; p = irc.compile({str(path)!r}, target='reference'); print(p.verdicts['causal'].status);"
        "print([m for m in sys.modules if m.split('.')[0] in ('z3', 'lark') or m == 'irc.proof.prove'])"
    )
    lines = [
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout for _ in "12"
    ]
    assert "z3" in lines[0]
    assert lines[1].splitlines() == ["proved", "[]"]
