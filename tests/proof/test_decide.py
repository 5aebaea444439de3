"""Every verdict agrees with what a person says, and with all small states looked at one by one."""

from __future__ import annotations

import pytest
import z3

from irc.codegen.expr import TRUE, Axis, Expr, Index, Kind, Load, Size, flat, integer, op
from irc.graph.ir import Graph
from irc.proof.claim import Answer, Claim
from irc.proof.decide import decide
from irc.proof.exhaustive import breaks, counterexample
from tests.proof.predicates import LEN, MASKS, SAME, SORTED, Mask


@pytest.mark.parametrize("mask", MASKS)
def test_masks_are_decided_as_brute_force_finds(mask: str) -> None:
    graph = MASKS[mask].graph()
    for name, claim, holds in MASKS[mask].claims():
        answer = decide(claim, graph)
        assert answer.status == ("proved" if holds else "refuted"), f"{name}: {answer}"
        checked, state = counterexample(claim, graph, most=8, fixed={"B": 1, "H": 1, "D": 1}, budget=1_000_000)
        if holds:
            assert state is None, name
            assert checked >= 1 and answer.queries
            continue
        assert answer.model is not None and breaks(claim, graph, answer.model)
        if state is not None:
            assert answer.model.sizes == state.sizes, name


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_verdicts_do_not_depend_on_the_seed(seed: int) -> None:
    for name, mask in MASKS.items():
        graph = mask.graph()
        for about, claim, holds in mask.claims():
            assert decide(claim, graph, seed).status == ("proved" if holds else "refuted"), (name, about)


@pytest.mark.parametrize("mask", MASKS)
def test_queries_repeat_the_verdict_in_another_solver(mask: str) -> None:
    graph = MASKS[mask].graph()
    for _, claim, holds in MASKS[mask].claims():
        ((_, text),) = decide(claim, graph).queries
        solver = z3.Solver(ctx=z3.Context())
        solver.from_string(text)
        assert solver.check() == (z3.unsat if holds else z3.sat)


def test_the_witness_is_named_in_the_language() -> None:
    named = {
        "last aligned": "j = pos(i)",
        "padding, none empty": "j = 0",
        "block starts": "j = i - i % m",
        "neighbourhood": "yj = yi, xj = xi",
        "cross attention by segments, none empty": "j = y[segment(x, i)]",
    }
    for mask, text in named.items():
        (_, claim, _), *_ = MASKS[mask].claims()
        assert decide(claim, MASKS[mask].graph()).evidence == text


H, S, D = Size("H"), Size("S"), Size("D")
HEADS, TOKENS, FEATURES = Axis("h", H), Axis("s", S), Axis("d", D)
SPLIT = flat(((Index("s"), S), (Index("h"), H), (Index("d"), D)))
MIXED = flat(((Index("h"), H), (Index("s"), S), (Index("d"), D)))


@pytest.mark.parametrize(
    ("goal", "holds"),
    [
        (op("eq", op("floordiv", SPLIT, op("mul", H, D)), Index("s")), True),
        (op("eq", op("mod", op("floordiv", SPLIT, D), H), Index("h")), True),
        (op("le", op("floordiv", MIXED, op("mul", H, D)), Index("s")), False),
        (op("lt", SPLIT, op("mul", S, op("mul", H, D))), True),
        (op("lt", MIXED, op("mul", S, D)), False),
    ],
    ids=["the token", "the head", "tokens mixed into heads", "in range", "out of range"],
)
def test_products_of_sizes_are_decided(goal: Expr, holds: bool) -> None:
    graph = Graph("heads", (), (), (("B", None), ("S", None), ("H", None), ("D", None)))
    answer = decide(Claim("", (HEADS, TOKENS, FEATURES), goal), graph)
    assert answer.status == ("proved" if holds else "refuted")
    if answer.model is not None:
        assert max(answer.model.sizes.values()) == 2


def test_a_row_without_keys_needs_an_empty_axis() -> None:
    graph = Mask(
        "true", True, True, tensors="size B, H, Sq, Sk, D\n input q[B,H,Sq,D], k[B,H,Sk,D], v[B,H,Sk,D]"
    ).graph()
    (core,) = graph.cores
    answer = decide(Claim("", core.rows, TRUE, some=core.columns), graph)
    assert answer.status == "refuted" and answer.model is not None
    assert answer.model.sizes == {"B": 1, "H": 1, "Sq": 1, "Sk": 0, "D": 1}


def test_counterexamples_beyond_small_sizes_are_found() -> None:
    graph = Mask("j <= i and i - j < 100", True, True).graph()
    (core,) = graph.cores
    assert core.support is not None
    near = op("lt", op("sub", Index("i"), Index("j")), integer(70))
    answer = decide(Claim("", (*core.rows, *core.columns), near, core.support), graph)
    assert answer.model is not None and answer.model.sizes["S"] == 71
    first = op("and", core.support, op("lt", Index("i"), integer(30)))
    answer = decide(Claim("", core.rows, first, some=core.columns), graph)
    assert answer.model is not None and answer.model.indices == {"i": 30}


def test_what_is_not_decided_says_how_far_it_was_checked() -> None:
    """No three positive cubes add up like that; z3 does not know."""

    def cube(name: str) -> Expr:
        n = op("add", Index(name), integer(1))
        return op("mul", n, op("mul", n, n))

    graph = Graph("fermat", (), (), (("S", None),))
    axes = tuple(Axis(n, S) for n in "ijk")
    answer = decide(Claim("", axes, op("ne", op("add", cube("i"), cube("j")), cube("k"))), graph)
    assert answer == Answer("unknown", "checked exhaustively for all sizes up to 8")


def test_a_proof_says_what_it_supposes() -> None:
    declare = "scalar w: int, t: float"
    divided = Mask("j <= i", True, True, declare, equal=("j // w <= i // w and j <= i", True))
    (*_, (_, claim, _)) = divided.claims()
    assert decide(claim, divided.graph()).supposed == ("where w >= 1",)
    assumed = Mask("j <= i", True, True, declare + "\n assume w >= 1", equal=("j // w <= i // w and j <= i", True))
    (*_, (_, claim, _)) = assumed.claims()
    assert decide(claim, assumed.graph()).supposed == ()
    rounded = Mask("j <= i and exp(t) == exp(t)", True, True, declare, equal=("j <= i", True))
    (*_, (_, claim, _)) = rounded.claims()
    assert decide(claim, rounded.graph()).supposed == ("floats taken as real numbers",)


def test_what_is_computed_is_never_made_up() -> None:
    text = Mask("j <= i", True, True).graph()
    computed = Load("scores", (Index("i"),), Kind.INT)
    claim = Claim("", (Axis("i", S),), op("le", integer(0), computed))
    assert decide(claim, text) == Answer("unknown")
    assert decide(Claim("", (Axis("i", S),), op("le", computed, computed)), text).status == "proved"


FIXED = SAME.replace("size B, H, S", "size B, H = 12, S = 2048")


@pytest.mark.parametrize(
    "mask",
    [
        Mask("j < i - 100", False, True, tensors=FIXED),
        Mask("doc[b,i] == doc[b,j] and j <= i + 1", True, False, SORTED, FIXED),
        Mask("doc[b,j] > doc[b,i]", False, False, SORTED, FIXED),
        Mask("j < len[b] and i < len[b]", False, False, LEN, FIXED),
        Mask("anc[i,j] and j < i", False, True, "input anc[S,S]: bool\n assume anc[t,t]", FIXED),
    ],
    ids=lambda mask: mask.allow,
)
def test_masks_of_one_large_size_are_decided(mask: Mask) -> None:
    graph = mask.graph()
    for name, claim, holds in mask.claims():
        answer = decide(claim, graph)
        assert answer.status == ("proved" if holds else "refuted"), name
        if answer.model is not None:
            assert answer.model.sizes == {"B": 1, "H": 12, "S": 2048, "D": 1}
            assert breaks(claim, graph, answer.model)
