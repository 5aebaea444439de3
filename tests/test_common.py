"""Cores over the same pairs with the same scores: these, and their gradients, are made once."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import irc
from irc.codegen.kernel import Dot, RowReduce, TileKernel
from irc.runtime.plan import Product
from tests.test_kernels import Arrays, arrays, both

QUOTIENT = """
attention quotient {
  size B, H, S, D
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]
  core u[b,h,i,d] {
    score sum(c: max(q[b,h,i,c], 0) * max(k[b,h,j,c], 0))
    scale 1 / S
    allow j <= i
    linear j
    matmul v[b,h,j,d]
  }
  core z[b,h,n] {
    score sum(c: max(k[b,h,m,c], 0) * max(q[b,h,n,c], 0))
    scale 1 / S
    map abs(score) + 1
    allow m <= n
    linear m
    matmul where(m >= 0, 1.0, 0.0)
  }
  merge { o[b,h,i,d] = u[b,h,i,d] / z[b,h,i] }
  return o
}
"""

BOTH_WAYS = """
attention both_ways {
  size N, D
  input a[N,D], z[N,D], m[N,N]: bool
  param tau
  core u[i,d], l1[i] {
    score a[i,c] * z[j,c]
    scale exp(tau)
    allow m[i,j]
    softmax j
    matmul z[j,d]
  }
  core w[i,d], l2[i] {
    score z[i,c] * a[j,c]
    scale exp(tau)
    allow m[j,i]
    softmax j
    matmul a[j,d]
  }
  merge { o[i] = l1[i] + 2 * l2[i] }
  return o, w
}
"""

OF_POINTS = """
attention of_points {
  size B, H, S, D, F
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D], p[B,H,S,3], z[B,S,S,F], r[B,H,S,S], ok[B,S]: bool
  core zs[b,h,i,f] {
    score q[b,h,i,c] * k[b,h,j,c]
    bias r[b,h,i,j]
    bias -sum(x: (p[b,h,i,x] - p[b,h,j,x]) ^ 2)
    allow ok[b,i] and ok[b,j]
    softmax j
    matmul z[b,i,j,f]
  }
  core o[b,h,i,d], lse[b,h,i] {
    score q[b,h,i,c] * k[b,h,j,c]
    bias r[b,h,i,j]
    bias -sum(x: (p[b,h,i,x] - p[b,h,j,x]) ^ 2)
    allow ok[b,i] and ok[b,j]
    softmax j
    matmul v[b,h,j,d]
  }
  core y[b,h,i,x], l2[b,h,i] {
    score q[b,h,i,c] * k[b,h,j,c]
    bias r[b,h,i,j]
    bias -sum(y: (p[b,h,i,y] - p[b,h,j,y]) ^ 2)
    allow ok[b,i] and ok[b,j]
    softmax j
    matmul p[b,h,j,x]
  }
  return o, y, zs, l2
}
"""

SLOTS = """
attention slots {
  size B, N, S, D
  input q[B,N,D], k[B,S,D], v[B,S,D]
  core unused[b,j,d], lse[b,j] {
    score k[b,j,c] * q[b,n,c]
    softmax n
    matmul q[b,n,d]
  }
  core o[b,i,d] {
    score q[b,i,c] * k[b,j,c]
    bias -lse[b,j]
    softmax j
    matmul v[b,j,d]
  }
  return o
}
"""

POINTER = """
attention pointer {
  size B, H, S, N, D
  input q[B,H,N,D], k[B,H,S,D], m[N,S]: bool, t[N]: int
  core p[b,h,i], lse[b,h,i] {
    score q[b,h,i,c] * k[b,h,j,c]
    allow m[i,j]
    softmax j
    matmul where(j == t[i], 1.0, 0.0)
  }
  merge { o[b,h,i] = sqrt(p[b,h,i]) }
  return o, lse
}
"""

SIZES = {"B": 2, "H": 3, "S": 37, "D": 8, "F": 5, "N": 37}


def drawn(spec: str, rng: np.random.Generator) -> Arrays:
    found = arrays(irc.compile(spec, target="reference"), SIZES, rng)
    if "m" in found:
        found["m"] = found["m"] > 0
        found["m"][3] = found["m"][:, 5] = False
    if "t" in found:
        found["t"] = np.arange(37, dtype=np.int32) // 2
    if "ok" in found:
        found["ok"] = np.arange(74).reshape(2, 37) % 37 != 4
    return found


def kernels(spec: str, run: int) -> tuple[list[TileKernel], int]:
    """The tile kernels of a run, and how many matrix products it has beside them."""
    program = irc.compile(spec)
    made = program.built({name: SIZES[name] for name in program.features}).compiled.runs[run]
    products = sum(isinstance(step, Product) for step in made.plan.steps)
    return [k for k in made.kernels if isinstance(k, TileKernel)], products


@pytest.mark.parametrize("target", ["cpu", "emulator"])
@pytest.mark.parametrize(
    "spec", [QUOTIENT, BOTH_WAYS, OF_POINTS, SLOTS], ids=["quotient", "both ways", "of points", "slots"]
)
def test_scores_that_cores_share(spec: str, target: str) -> None:
    rng = np.random.default_rng(1)
    both(spec, drawn(spec, rng), "f32", rng, target=target)


@pytest.mark.parametrize("spec", [QUOTIENT, BOTH_WAYS], ids=["quotient", "both ways"])
def test_gradients_of_scores_are_added_before_products(spec: str) -> None:
    """In one kernel, with a dot of the scores and one of values; a product for each side of either."""
    (kernel,), _ = kernels(spec, 1)
    steps = Counter(type(step).__name__ for step in kernel.body)
    assert steps["Dot"] == 2 and steps["RowProduct"] + steps["ColumnProduct"] == 3


@pytest.mark.parametrize("target", ["cpu", "emulator"])
def test_the_row_sum_of_a_value_that_is_one_number_is_a_multiple_of_the_output(target: str) -> None:
    """Where the mask leaves nothing the gradient of a root is infinite, and plays no part."""
    rng = np.random.default_rng(1)
    both(POINTER, drawn(POINTER, rng), "f32", rng, target=target)
    if target == "cpu":
        assert all(not isinstance(step, RowReduce) for k in kernels(POINTER, 1)[0] for step in k.body)


def test_rows_are_the_queries_of_cores_that_share_keys() -> None:
    """Though values of pairs alone would have heads for rows; and their weights are a tensor."""
    for run in (0, 1):
        found, products = kernels(OF_POINTS, run)
        assert products and all({a.name for a in k.rows} == {"i"} for k in found)
    softmax = [k for k in kernels(OF_POINTS, 0)[0] if k.order == "rows"]
    assert len(softmax) == 1 and sum(isinstance(step, Dot) for step in softmax[0].body) == 1


@pytest.mark.parametrize("other", ["allow j < i", "allow j <= i\n    map score + 1"])
def test_what_differs_stays_apart(other: str) -> None:
    """Other masks have other pairs; of the same ones, what is made of a score may differ."""
    spec = QUOTIENT.replace("    allow m <= n\n", f"    {other.replace('j', 'm').replace('i', 'n')}\n")
    if "map" in other:
        spec = spec.replace("    map abs(score) + 1\n", "")
    dots = [step for kernel in kernels(spec, 0)[0] for step in kernel.body if isinstance(step, Dot)]
    assert len(dots) == (1 if "map" in other else 2)
