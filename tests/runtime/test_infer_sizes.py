"""Sizes from shapes, and what a user is told when they do not agree."""

from __future__ import annotations

import pytest

from irc.codegen.expr import Kind, Op, Size, integer, op
from irc.runtime.errors import Error, InputError
from irc.runtime.sizes import evaluate, infer, show

B, S, H, D, E, K = (Size(n) for n in ("B", "S", "H", "D", "E", "Sk"))
HD = op("mul", H, D)


def test_evaluate_floors_as_python():
    sizes = {"B": 7, "S": 2}
    assert evaluate(op("floordiv", op("neg", B), S), sizes) == -4
    assert evaluate(op("mod", op("neg", B), S), sizes) == 1
    assert evaluate(op("max", op("sub", B, S), integer(3)), sizes) == 5
    assert evaluate(Op("flat", (integer(1), B, integer(2), S), Kind.INT), sizes) == 4
    assert evaluate(op("where", op("lt", B, S), B, S), sizes) == 2


def test_evaluate_names_what_is_missing():
    with pytest.raises(InputError, match="size B is not known"):
        evaluate(B, {})
    with pytest.raises(InputError, match="division by a size that is 0"):
        evaluate(op("floordiv", B, S), {"B": 1, "S": 0})


def test_bare_names_products_and_definitions():
    declared = [("x", (B, S, HD)), ("w", (HD, E)), ("y", (D,))]
    shapes = {"x": (2, 5, 12), "w": (12, 12), "y": (4,)}
    sizes = [("B", None), ("S", None), ("H", None), ("D", None), ("E", HD)]
    assert infer(declared, shapes, sizes, {}) == {"B": 2, "S": 5, "D": 4, "E": 12, "H": 3}


def test_definition_gives_its_one_unknown_factor():
    assert infer([("x", (E,))], {"x": (12,)}, [("H", None), ("D", None), ("E", HD)], {"D": 4})["H"] == 3


def test_definition_is_evaluated_when_no_tensor_tells():
    assert infer([("x", (H,))], {"x": (3,)}, [("H", None), ("D", integer(4)), ("E", HD)], {})["E"] == 12


def test_terms_of_a_sum_are_sizes_too():
    one = integer(1)
    assert infer([("cu", (op("add", S, one),))], {"cu": (4,)}, [], {})["S"] == 3
    assert infer([("cu", (op("add", S, one),))], {"cu": (1,)}, [], {})["S"] == 0
    distances = op("sub", op("mul", integer(2), S), one)
    assert infer([("t", (H, distances))], {"t": (3, 7)}, [], {}) == {"H": 3, "S": 4}
    assert infer([("x", (K, op("sub", K, S)))], {"x": (7, 5)}, [], {})["S"] == 2


def test_empty_axes_are_sizes_too():
    assert infer([("x", (B, HD))], {"x": (0, 0)}, [("H", None)], {"D": 4}) == {"B": 0, "D": 4, "H": 0}


@pytest.mark.parametrize(
    ("declared", "shapes", "sizes", "fixed", "message"),
    [
        (
            [("v", (B, H, K)), ("k", (B, H, K))],
            {"v": (1, 2, 128), "k": (1, 2, 64)},
            [],
            {},
            "k axis 2: expected Sk = 128 (from v axis 2), got 64",
        ),
        ([("q", (B, D))], {"q": (1, 32)}, [], {"D": 64}, "q axis 1: expected D = 64 (as compiled), got 32"),
        ([("q", (B, S))], {"q": (1, 2, 3)}, [], {}, "q: expected 2 axes [B, S], got 3 [1, 2, 3]"),
        ([("q", (B,))], {}, [], {}, "q: missing"),
        ([("q", (integer(3),))], {"q": (4,)}, [], {}, "q axis 0: expected 3, got 4"),
        (
            [("x", (HD,)), ("y", (D,))],
            {"x": (10,), "y": (4,)},
            [],
            {},
            "x axis 0: expected (H * D), a multiple of 4 (D = 4 from y axis 0), got 10",
        ),
        (
            [("x", (HD,)), ("y", (D,)), ("z", (H,))],
            {"x": (10,), "y": (4,), "z": (2,)},
            [],
            {},
            "x axis 0: expected (H * D) = 8 (H = 2 from z axis 0, D = 4 from y axis 0), got 10",
        ),
        (
            [("x", (E,)), ("y", (H, D))],
            {"x": (9,), "y": (2, 4)},
            [("E", HD)],
            {},
            "size E: expected (H * D) = 8 (H = 2 from y axis 0, D = 4 from y axis 1), got 9 (from x axis 0)",
        ),
        (
            [("cu", (op("add", S, integer(1)),))],
            {"cu": (0,)},
            [],
            {},
            "cu axis 0: expected (S + 1), for some size S, got 0",
        ),
        (
            [("t", (op("sub", op("mul", integer(2), S), integer(1)),))],
            {"t": (4,)},
            [],
            {},
            "t axis 0: expected ((2 * S) - 1), for some size S, got 4",
        ),
        (
            [("x", (HD,))],
            {"x": (9,)},
            [],
            {},
            "size H does not follow from the shapes of the arguments: "
            "give it a value when compiling: sizes={'H': …}, or --size H=…",
        ),
        (
            [("x", (B,))],
            {"x": (9,)},
            [("B", None), ("D", None)],
            {},
            "size D does not follow from the shapes of the arguments: "
            "give it a value when compiling: sizes={'D': …}, or --size D=…",
        ),
    ],
)
def test_conflicts_name_tensor_axis_and_both_values(declared, shapes, sizes, fixed, message):
    with pytest.raises(InputError) as caught:
        infer(declared, shapes, sizes, fixed)
    assert str(caught.value) == message
    assert isinstance(caught.value, Error)


def test_show_writes_calls_and_operators():
    assert show(op("max", op("sub", B, integer(1)), S)) == "max((B - 1), S)"
