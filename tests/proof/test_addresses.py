"""Entries that are read through tables: those of the pair's own token, and others."""

from __future__ import annotations

import pytest

from irc.graph.ir import Graph
from irc.proof.flow import Undecided
from irc.proof.properties import claims
from tests.proof.test_flow import graph_of, verdict

ADDRESSED = """attention addressed {
  size B, Sq, Sk, D, N, R, M
  input q[B,Sq,D], k[N,R,D], v[N,R,D], flat[N], page[B,M]: int, slot[B,Sk]: int, first[B]: int, sequence[Sq]: int
  scalar w: int
  core o[b,i,d] over j: Sk {
    align last
    score q[b,i,c] * k[page[b, j // R], j % R, c]
    allow j <= pos(i)
    softmax j
    matmul VALUE
  }
  return o
  ensure PROPERTY
}"""


def addressed(value: str, property: str = "causal") -> Graph:
    return graph_of(ADDRESSED.replace("VALUE", value).replace("PROPERTY", property))


@pytest.mark.parametrize(
    "value",
    [
        "v[page[b, j // R], j % R, d]",
        "v[slot[b,j] // R, slot[b,j] % R, d]",
        "v[(first[b] + j) // R, (first[b] + j) % R, d]",
        "v[page[b, page[b, j // R // M] + j // R % M], j % R, d]",
        "v[page[b, j // R], j % R, d] * flat[page[b, j // R] * R + j % R]",
        "v[page[b, j // R], j % R, d] * flat[first[b] + j]",
        "v[page[sequence[i], j // R], j % R, d]",
    ],
)
@pytest.mark.parametrize("property", ["causal", "window(Sk + 1)", "incremental"])
def test_tables_put_the_token_itself_anywhere(value: str, property: str) -> None:
    assert verdict(addressed(value, property)) == "proved"


@pytest.mark.parametrize(
    ("value", "property", "expected"),
    [
        ("v[slot[b, max(j - 1, 0)], 0, d]", "causal", "proved"),
        ("v[slot[b, max(j - 1, 0)], 0, d]", "incremental", "proved"),
        ("v[slot[b, min(j + 1, Sk - 1)], 0, d]", "causal", "refuted"),
        ("v[slot[b, min(j + 1, Sk - 1)], 0, d]", "incremental", "refuted"),
    ],
)
def test_what_a_table_of_tokens_finds_is_the_token_of_that_place(value: str, property: str, expected: str) -> None:
    assert verdict(addressed(value, property)) == expected


@pytest.mark.parametrize("property", ["causal", "window(Sk)", "incremental"])
@pytest.mark.parametrize(
    "value",
    [
        "v[page[b, (j + 1) // R], (j + 1) % R, d]",
        "v[page[b, (Sk - 1 - j) // R], (Sk - 1 - j) % R, d]",
        "v[page[b, j // R], (j + 1) % R, d]",
        "v[page[b, j // R], R - 1, d]",
        "v[page[b, j // R], R - 1 - j % R, d]",
        "v[page[b, j // R + 1], j % R, d]",
        "v[slot[b, j], (j + i) % R, d]",
        "v[slot[b, j], j * w, d]",
        "v[slot[b, j], j % R, d] * flat[first[b] + j + j]",
        "v[page[b, j // R], j % R, d] * flat[page[b, j // R] * R + j % R + 1]",
        "v[page[b, j // R], j % R, d] * flat[slot[b, j] + w]",
        "v[page[b, j // R], j % R, d] * flat[slot[b, j] + j * w]",
        "v[page[b, j // R], j % (R + 1), d]",
        "v[page[b, j // R], j % R, d] * flat[slot[b, pos(i)]]",
    ],
)
def test_another_token_read_through_a_table_is_not_taken_for_the_pairs_own(value: str, property: str) -> None:
    graph = addressed(value, property)
    with pytest.raises(
        Undecided, match=r"is read through a table at .*: nothing says that this is of (key j|query i) alone"
    ):
        claims(graph.properties[0], graph)
