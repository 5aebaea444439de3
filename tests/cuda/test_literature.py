"""Programs as papers have them that no example is, on warpgroups or what an sm_90a has beside them: watched, under two
schedules, and against the interpreter, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import irc
from irc.runtime.emulated import Library
from tests.test_kernels import TOLERANCE, arrays, relative, widened

Rng = np.random.Generator
HOPPER = "sm_90a"


@dataclass(frozen=True)
class Case:
    """`draw` gives scalars and tables; `untold` are the sizes that no shape tells."""

    text: str
    sizes: dict[str, int]
    draw: Callable[[Rng], dict[str, Any]] = lambda rng: {}
    untold: dict[str, int] = field(default_factory=dict)


def whole(*numbers: Any) -> np.ndarray:
    return np.array(numbers, np.int32)


SHAW = """
attention shaw {  # Shaw et al. 2018: keys and values of distances
  size B, H, S, D, R
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]
  param ak[2 * R + 1, D], av[2 * R + 1, D]
  core o[b,h,i,d] {
    let far = clamp(j - i, -R, R) + R
    score q[b,h,i,c] * k[b,h,j,c] + q[b,h,i,c] * ak[far,c]
    scale 1 / sqrt(D)
    allow j <= i
    softmax j
    matmul v[b,h,j,d] + av[far,d]
  }
  return o
}
"""
COPE = """
attention cope {  # Golovneva et al. 2024: positions that are counted, between two vectors
  size B, H, S, D, N
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D], place[B,H,S,S]
  param e[N,D]
  core o[b,h,i,d] {
    let low = clamp(floor(place[b,h,i,j]), 0, N - 2)
    let part = min(place[b,h,i,j], N - 1) - low
    score q[b,h,i,c] * k[b,h,j,c] + (1 - part) * q[b,h,i,c] * e[low,c] + part * q[b,h,i,c] * e[low + 1,c]
    scale 1 / sqrt(D)
    allow j <= i
    softmax j
    matmul v[b,h,j,d]
  }
  return o
}
"""
PACKED = """
attention packed {  # one key head, sequences of two tables of offsets, slopes, a window
  size Tq, Tk, H, D, N
  input q[Tq,H,D], k[Tk,D], v[Tk,D], cu_q[N + 1]: int, cu_k[N + 1]: int
  param slope[H]
  scalar window: int
  assume nondecreasing cu_q[n] over n, cu_q[0] == 0, cu_q[N] == Tq
  assume nondecreasing cu_k[n] over n, cu_k[0] == 0, cu_k[N] == Tk
  core o[i,h,d], lse[i,h] {
    let s = segment(cu_q, i)
    align offset cu_k[s + 1] - cu_q[s + 1]
    score q[i,h,c] * k[j,c]
    scale 1 / sqrt(D)
    bias slope[h] * (j - pos(i))
    allow segment(cu_k, j) == s and j <= pos(i) and pos(i) - window < j
    softmax j
    matmul v[j,d]
  }
  return o, lse
}
"""
TREE = """
attention tree {  # SpecInfer, Miao et al. 2024: a tree of drafts after a cache in pages
  size B, H, G, T, N, P, R = 16, D
  input q[B,H,T,D], kpool[N,R,G,D], vpool[N,R,G,D], page[B,P]: int, len[B]: int, anc[B,T,T]: bool
  assume H % G == 0, 0 <= page[b,p] < N, T <= len[b] <= P * R
  core o[b,h,i,d] over j: P * R {
    let own = j - (len[b] - T)
    align offset len[b] - T
    score q[b,h,i,c] * kpool[page[b, j // R], j % R, h // (H // G), c]
    scale 1 / sqrt(D)
    allow j < len[b] and (own < 0 or anc[b, i, clamp(own, 0, T - 1)])
    softmax j
    matmul vpool[page[b, j // R], j % R, h // (H // G), d]
  }
  return o
}
"""
SWIN = """
attention swin {  # Liu et al. 2021, of windows that are moved, without rolling the picture
  size B, H, Y, X, D, M = 4
  input q[B,H,(Y X),D], k[B,H,(Y X),D], v[B,H,(Y X),D]
  param T[H, 2 * M - 1, 2 * M - 1]
  scalar shift: int
  assume 0 <= shift, shift < M
  core o[b,h,(yi xi),d] {
    score q[b,h,(yi xi),c] * k[b,h,(yj xj),c]
    scale 1 / sqrt(D)
    bias T[h, clamp(yi - yj, 1 - M, M - 1) + M - 1, clamp(xi - xj, 1 - M, M - 1) + M - 1]
    allow (yi + shift) // M == (yj + shift) // M and (xi + shift) // M == (xj + shift) // M
    softmax (yj xj)
    matmul v[b,h,(yj xj),d]
  }
  return o
}
"""
FLAMINGO = """
attention flamingo {  # Alayrac et al. 2022: text sees the image before it, and before the first one none
  size B, H, T, M, L, D, S = M * L
  input q[B,H,T,D], k[B,H,S,D], v[B,H,S,D], image[B,T]: int
  param gate[H]
  assume nondecreasing image[b,t] over t, -1 <= image[b,t], image[b,t] < M
  core x[b,h,i,d] {
    align first
    score q[b,h,i,c] * k[b,h,j,c]
    scale 1 / sqrt(D)
    allow j // L == image[b,i]
    softmax j
    matmul v[b,h,j,d]
  }
  merge {
    o[b,h,t,d] = tanh(gate[h]) * x[b,h,t,d]
  }
  return o
}
"""

CASES = {
    "shaw": Case(SHAW, {"B": 1, "H": 2, "S": 70, "D": 16, "R": 6}),
    "cope": Case(
        COPE,
        {"B": 1, "H": 1, "S": 40, "D": 16, "N": 8},
        lambda rng: {"place": (6 * rng.random((1, 1, 40, 40))).astype(ml_dtypes.bfloat16)},
    ),
    "packed": Case(
        PACKED,
        {"Tq": 150, "Tk": 190, "H": 2, "D": 32, "N": 4},
        lambda rng: {"cu_q": whole(0, 3, 3, 80, 150), "cu_k": whole(0, 40, 45, 110, 190), "window": np.int32(50)},
    ),
    "tree": Case(
        TREE,
        {"B": 2, "H": 2, "G": 1, "T": 20, "N": 9, "P": 9, "R": 16, "D": 16},
        lambda rng: {
            "page": rng.integers(0, 9, (2, 9)).astype(np.int32),
            "len": whole(20, 131),
            "anc": np.tril(rng.random((2, 20, 20)) < 0.5) | np.eye(20, dtype=bool),
        },
    ),
    "swin": Case(
        SWIN,
        {"B": 1, "H": 1, "Y": 13, "X": 10, "D": 16, "M": 4},
        lambda rng: {"shift": np.int32(2)},
        {"Y": 13, "X": 10},
    ),
    "flamingo": Case(
        FLAMINGO,
        {"B": 1, "H": 2, "T": 140, "M": 4, "L": 37, "D": 16, "S": 148},
        lambda rng: {"image": np.sort(rng.integers(-1, 4, (1, 140)), axis=1).astype(np.int32)},
        {"L": 37},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_programs_of_papers(name: str) -> None:
    case, rng, found = CASES[name], np.random.default_rng(1), []
    program = irc.compile(case.text, dtype="bf16", sizes=case.untold, target=f"emulator:{HOPPER}")
    reference = irc.compile(case.text, target="reference", sizes=case.untold)
    given = arrays(program, case.sizes, rng, "bf16") | case.draw(rng)
    sizes = {n: case.sizes[n] for n in program.features}
    source = program.built(sizes).compiled.source
    expected = reference.forward(**widened(given))
    drawn = {n: rng.standard_normal(np.shape(o)) for n, o in expected.outputs.items()}
    for seed in (1, 4):
        program.measured_through(sizes, Library(source, True, seed, HOPPER))
        run = program.forward(**given)
        cotangents = {n: drawn[n].astype(o.dtype) for n, o in run.outputs.items()}
        gradients = run.backward(**cotangents)
        found.append([a.tobytes() for a in (*run.outputs.values(), *gradients.values())])
    assert found[0] == found[1]
    for n, output in expected.outputs.items():
        assert relative(run.outputs[n], output) < TOLERANCE["bf16"], n
    wanted = expected.backward(**widened(cotangents))
    largest = max(float(np.linalg.norm(g)) for g in wanted.values())
    for n, gradient in gradients.items():
        assert relative(gradient, wanted[n], 0.1 + 0.1 * largest) < 3 * TOLERANCE["bf16"], n
