"""Names of a program beside those of C++ and of the templates."""

from __future__ import annotations

import numpy as np
import pytest

import irc
from irc.codegen.names import identifier

PROGRAM = """attention named {{
  size  B, H, S, D
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D], length[B]: int
  param slope[H], edge[D], pair[H,S,S]
  core o[{b},{h},{i},{d}] {{
    score  q[{b},{h},{i},{c}] * k[{b},{h},{j},{c}] + sum({e}: tanh(edge[{e}] * k[{b},{h},{j},{e}] - q[{b},{h},{i},{e}]))
    bias   slope[{h}] * ({j} - {i}) + pair[{h},{i},{j}]
    allow  {j} <= {i} and {j} <= length[{b}]
    softmax {j}
    matmul v[{b},{h},{j},{d}]
  }}
  return o
}}"""
PLAIN = ("b", "h", "i", "d", "j", "c", "e")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *((name, name) for name in (*"bhidcejkqvgpstxy", "yi", "doc", "lens", "T_k")),
        *(
            (name, f"{name}__")
            for name in ("for", "T", "w", "row_at", "column_first", "NULL", "panel_q", "q_ptr", "q_s0")
        ),
        ("d.q", "d__q"),
        ("row.chunk", "row__chunk"),
        ("a__b", "au5fu5fb"),
        ("1x", "n1x"),
        ("ß", "udf"),
        ("row first", "row_first"),
    ],
)
def test_names_are_as_they_are_written_where_nothing_else_has_them(name: str, text: str) -> None:
    assert identifier(name) == text


@pytest.mark.parametrize("target", ["cpu", "emulator"])
@pytest.mark.parametrize(
    "names",
    [
        ("w", "n", "m", "feature", "lane", "tile", "rescale"),
        ("batch_at", "w", "row_at", "column_first", "value", "m", "ends"),
        ("lanes", "n", "turn", "first", "last", "weights", "share"),
        ("row_first", "turn", "place", "NULL", "column_at", "rows", "position_at"),
        ("thread_local", "char16_t", "xor_eq", "static_assert", "not_eq", "wchar_t", "co_await"),
    ],
)
def test_indices_may_be_called_as_variables_of_templates(target: str, names: tuple[str, ...]) -> None:
    rng = np.random.default_rng(5)
    q, k, v = rng.standard_normal((3, 2, 3, 19, 8)).astype(np.float32)
    arrays = {"q": q, "k": k, "v": v, "length": np.array([7, 18], np.int32)}
    arrays |= {"slope": np.float32([0.5, 0.25, -0.5]), "edge": rng.standard_normal(8).astype(np.float32)}
    arrays["pair"] = rng.standard_normal((3, 19, 19)).astype(np.float32)
    found, wanted = (
        irc.compile(PROGRAM.format(**dict(zip(PLAIN, chosen, strict=True))), target=target).forward(**arrays)
        for chosen in (names, PLAIN)
    )
    np.testing.assert_array_equal(found.outputs["o"], wanted.outputs["o"])
    assert all(np.array_equal(a, b) for a, b in zip(*(r.backward(o=q).values() for r in (found, wanted)), strict=True))
