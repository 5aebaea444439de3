"""What a table says of following rows lies evenly in it, where its index grows evenly with the row."""

from __future__ import annotations

import pytest

import irc
from irc.codegen.expr import Index, Kind, Load, Size, integer, op
from irc.codegen.slopes import slope

i, j = Index("i"), Index("j")
seen = Load("seen", (i,), Kind.INT)


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (op("sub", op("add", i, Size("S")), j), 1),
        (op("sub", j, i), -1),
        (op("mul", integer(3), op("neg", i)), -3),
        (op("sub", i, i), 0),
        (j, 0),
        (seen, None),
        (op("mul", i, Size("S")), None),
        (op("floordiv", i, integer(2)), None),
        (op("max", i, j), None),
    ],
)
def test_slope(expr: object, expected: int | None) -> None:
    assert slope(expr, "i") == expected  # type: ignore[arg-type]


TABLE = """
attention table {
  size  B, H, S, D
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]
  param T[H, 2 * S - 1]
  core o[b,h,i,d] {
    score  q[b,h,i,c] * k[b,h,j,c]
    bias   T[h, INDEX]
    softmax j
    matmul v[b,h,j,d]
  }
  return o
}
"""


@pytest.mark.parametrize(("index", "runs"), [("i + j", 3), ("2 * S - 2 - i - j", 3), ("clamp(i + j, 0, 6)", 0)])
def test_whole_vectors_are_loaded_from_evenly_spaced_entries(index: str, runs: int) -> None:
    """Forward, with rows in the lanes, backward, with columns in them, and for the gradient of the table. (What a
    distance tells is read from tables of their own.)"""
    program = irc.compile(TABLE.replace("INDEX", index), sizes={"D": 8})
    assert program.source.count("return irc::load_run<vec>(") == runs
