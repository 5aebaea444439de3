"""Masks that read what the program computes: no state of the arguments refutes them."""

from __future__ import annotations

import pytest

from irc.proof.prove import prove
from tests.proof.test_flow import graph_of

PROGRAM = """
attention packed {{
  size T, H, D, N
  input q[T,H,D], k[T,H,D], v[T,H,D], cu[N + 1]: int
  assume nondecreasing cu[n] over n, cu[0] == 0, cu[N] == T
  project {{
    segment[t] over t: T = floor(sum(n: where(cu[n] <= t, 1.0, 0.0)))
  }}
  core o[i,h,d] {{
    score q[i,h,c] * k[j,h,c]
    allow {mask}
    softmax j
    matmul v[j,h,d]
    stat best[i,h] = argmax
  }}
  core p[i,h,d] {{
    score q[i,h,c] * k[j,h,c]
    allow {second}
    softmax j
    matmul v[j,h,d]
  }}
  return o, p
  ensure {ensured}
}}
"""


@pytest.mark.parametrize(
    "mask, second, ensured, expected",
    [
        ("segment[i] == segment[j] and j <= i", "j <= i", "causal", "proved"),
        ("segment[i] == segment[j] and j <= i", "j <= i", "rows nonempty", "not decided"),
        ("segment[i] == segment[j] or j == i", "j <= i", "rows nonempty", "proved"),
        ("j <= i", "j == best[i,h]", "rows nonempty", "not decided"),
        ("j <= i", "j <= i and j >= best[i,h]", "causal", "proved"),
        ("j <= i", "j != best[i,h] and j > T", "rows nonempty", "not decided"),
    ],
)
def test_masks_of_computed_tables(mask: str, second: str, ensured: str, expected: str) -> None:
    graph = graph_of(PROGRAM.format(mask=mask, second=second, ensured=ensured))
    assert [verdict.status for verdict in prove(graph)] == [expected]
