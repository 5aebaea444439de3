"""Integers of pairs in 32 bits: rewritten, an expression means what it did, and nothing overflows, at the ends of every
range; what does not keep within the ranges is refused."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from irc.codegen.cuda import MOST_POSITIONS, Launch
from irc.codegen.expr import Axis, Const, Expr, Index, Kind, Load, Local, Op, Size, integer, op
from irc.codegen.kernel import Summary, TileKernel
from irc.codegen.narrow import BASE, FITS, POSITIONS, STEP, Narrow
from irc.runtime import launches
from irc.runtime.errors import InputError

ROW, COLUMN, Y = Index("i"), Index("j"), Index("y")
COUNT, AHEAD, OTHER = Size("count"), Load("ahead", (), Kind.INT), Load("other", (ROW,), Kind.INT)
OF_COLUMN = Load("of_column", (COLUMN,), Kind.INT)


def kernel(columns: tuple[str, ...] = ("j",)) -> TileKernel:
    return TileKernel(
        "k", "rows", (), (), (Axis("b", Size("B")),), (), (Axis("i", Size("rows")),),
        tuple(Axis(name, Size("columns")) for name in columns), (), (), None, None, "f32",
        summaries=(Summary("doc", "column", OF_COLUMN),),
    )  # fmt: skip


def meant(e: Expr, values: dict[Expr, int]) -> int:
    """In integers of any size."""
    match e:
        case Const(value, _):
            return int(value)
        case Op("where", (condition, x, y), _):
            return meant(x if meant(condition, values) else y, values)
        case Op(name, args, _):
            return OPERATIONS[name](*(meant(a, values) for a in args))
        case _:
            return values[e]


def divided(x: int, y: int) -> int:
    return x // y if y else 0


OPERATIONS: dict[str, Callable[..., int]] = {
    "add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: x * y, "neg": lambda x: -x,
    "min": min, "max": max, "abs": abs, "clamp": lambda x, low, high: min(max(x, low), high),
    "floordiv": divided, "mod": lambda x, y: x % y if y else 0,
    "lt": lambda x, y: int(x < y), "le": lambda x, y: int(x <= y), "eq": lambda x, y: int(x == y),
    "ne": lambda x, y: int(x != y), "and": lambda x, y: int(bool(x and y)), "or": lambda x, y: int(bool(x or y)),
    "not": lambda x: int(not x), "saturate": lambda x: min(max(x, -POSITIONS), POSITIONS),
}  # fmt: skip


def ran(e: Expr, values: dict[Expr, int]) -> tuple[int, int]:
    """The value as a device computes it, and its bits; what overflows, or is cut off, fails."""
    match e:
        case Const(value, _):
            return int(value), 32 if FITS[0] <= value <= FITS[1] else 64
        case Index(name):
            return values[e], 32 if name in ("i", "j", "y", "x") else 64
        case Local("column base" | "column step"):
            return values[e], 32
        case Local("doc low" | "row first"):
            return values[e], 32
        case Op("where", (condition, x, y), _):
            bits = max(ran(x, values)[1], ran(y, values)[1])
            return ran(x if ran(condition, values)[0] else y, values)[0], bits
        case Op(name, args, _):
            parts = [ran(a, values) for a in args]
            bits = {"narrow": 32, "saturate": 32, "widen": 64}.get(name, max(b for _, b in parts))
            if name in ("floordiv", "mod"):  # a machine divides so first
                assert not (parts[0][0] == -(1 << bits - 1) and parts[1][0] == -1), e
            value = parts[0][0] if name in ("narrow", "widen") else OPERATIONS[name](*(v for v, _ in parts))
            assert -(1 << bits - 1) <= value < 1 << bits - 1, (e, value)
            return value, bits
        case _:
            return values[e], 64


LAST = POSITIONS - 1
WORDS = (*FITS, FITS[0] + 1, -1, 0, 1, 2, LAST, POSITIONS)
ENDS: dict[Expr, tuple[int, ...]] = {
    ROW: (0, 1, 7, LAST - 1, LAST), COLUMN: (0, 1, 6, LAST - 1, LAST), Index("b"): (0, 3, LAST), COUNT: (0, 1, 5, LAST),
    **dict.fromkeys((AHEAD, OTHER, OF_COLUMN, Local("doc low", Kind.INT)), WORDS),
    Local("row first", Kind.INT): (0, 128, LAST), Local("unknown", Kind.INT): (-(1 << 40), 0, 1 << 40),
}  # fmt: skip


def drawn(rng: random.Random, depth: int) -> Expr:
    """An integer expression."""
    if not depth or rng.random() < 0.15:
        return rng.choice([*ENDS, integer(rng.choice([-3, 0, 1, 2, LAST]))])
    parts = [drawn(rng, depth - 1) for _ in range(3)]
    match rng.choice(
        ["add", "sub", "add", "sub", "mul", "neg", "min", "max", "abs", "clamp", "floordiv", "mod", "where"]
    ):
        case "neg" | "abs" as name:
            return Op(name, (parts[0],), Kind.INT)
        case "clamp":
            return Op("clamp", tuple(parts), Kind.INT)
        case "where":
            return Op("where", (compared(rng, depth - 1), *parts[:2]), Kind.INT)
        case name:
            return Op(name, tuple(parts[:2]), Kind.INT)


def compared(rng: random.Random, depth: int) -> Expr:
    name = rng.choice(["lt", "le", "eq", "ne"])
    return Op(name, (drawn(rng, depth), drawn(rng, depth)), Kind.BOOL)


def assigned(rng: random.Random) -> dict[Expr, int]:
    values = {e: rng.choice(ends) for e, ends in ENDS.items()}
    values[STEP] = min(rng.choice([0, 1, 97]), values[COLUMN])
    values[BASE] = values[COLUMN] - values[STEP]
    return values


def is_moderate(e: Expr, values: dict[Expr, int]) -> bool:
    """Whether 64 bits hold it and all its parts: beyond these no target says anything of it. Terms are added in another
    order, so a bit is left for these."""
    parts = e.args if isinstance(e, Op) else ()
    return all(is_moderate(p, values) for p in parts) and abs(meant(e, values)) < 1 << 58


def test_rewritten_it_means_the_same_and_nothing_overflows() -> None:
    rng, tried = random.Random(7), 0
    for _ in range(1500):
        expr = compared(rng, rng.choice([1, 2, 3])) if rng.random() < 0.7 else drawn(rng, 3)
        narrow = Narrow(kernel())
        made = narrow(expr)
        for _ in range(20):
            values = assigned(rng)
            if is_moderate(expr, values):
                tried += 1
                assert ran(made, values)[0] == meant(expr, values), (expr, made, values)
                if expr.kind is Kind.INT and narrow.fits(expr):
                    assert FITS[0] <= meant(expr, values) <= FITS[1], (expr, values)
    assert tried > 15000


def test_ends_are_held_without_changing_what_is_compared_with_them() -> None:
    narrow = Narrow(kernel())
    for value in (-(1 << 40), -POSITIONS - 1, -POSITIONS, -1, 0, LAST, POSITIONS, 1 << 40):
        values: dict[Expr, int] = {Local("unknown", Kind.INT): value}
        held = ran(narrow.held(Local("unknown", Kind.INT)), values)[0]
        assert [p <= value for p in (0, 1, LAST)] == [p <= held for p in (0, 1, LAST)]
        assert [p == value for p in (0, 1, LAST)] == [p == held for p in (0, 1, LAST)]


@pytest.mark.parametrize(
    "expr",
    [
        op("le", COLUMN, op("add", ROW, AHEAD)),
        op("lt", op("sub", ROW, COLUMN), AHEAD),
        op("le", op("abs", op("sub", ROW, COLUMN)), AHEAD),
        op("lt", op("sub", COLUMN, COUNT), op("sub", ROW, op("mul", AHEAD, OTHER))),
        op("eq", OF_COLUMN, OTHER),
    ],
    ids=str,
)
def test_masks_are_compared_in_32_bits(expr: Expr) -> None:
    made = Narrow(kernel())(expr)
    assert isinstance(made, Op)
    for side in made.args:
        assert ran(side, assigned(random.Random(1)))[1] == 32, made


def test_positions_of_several_indices_stand_for_themselves() -> None:
    made = Narrow(kernel(("y", "x")))(op("le", Y, op("add", ROW, AHEAD)))
    assert isinstance(made, Op) and made.args[0] == Y and ran(made.args[1], {ROW: 1, AHEAD: 2}) == (3, 32)


def test_too_many_positions_are_refused() -> None:
    launch = Launch("k", Size("rows"), 1, 128, 0, "", bounded=(Size("rows"), Size("columns")))
    assert launches.blocks(launch, {"rows": 5, "columns": MOST_POSITIONS}) == 5
    with pytest.raises(InputError, match=r"columns is 1073741569: .* count to 1073741568"):
        launches.blocks(launch, {"rows": 5, "columns": MOST_POSITIONS + 1})
    assert launches.blocks(launch, {"rows": 0, "columns": POSITIONS}) == 0
