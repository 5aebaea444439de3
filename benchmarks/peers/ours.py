"""irc: the variant's own text, compiled; and a decode step from a contiguous and from a paged cache."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

import irc
from benchmarks.cases import DECODE_GROUPS, Problem
from benchmarks.peers import Array, Ready, Unsupported

PAGE = 16  # tokens

DECODE = """
attention decode {
  size  B, H, G, Sq, Sk, D
  input q[B,H,Sq,D], k[B,G,Sk,D], v[B,G,Sk,D]
  assume H % G == 0, Sq <= Sk

  core o[b,h,i,d] {
    align  last
    score  q[b,h,i,c] * k[b, h // (H // G), j, c]
    scale  1 / sqrt(D)
    allow  j <= pos(i)
    softmax j
    matmul v[b, h // (H // G), j, d]
  }
  return o
}
"""
PAGED = """
attention decode_paged {
  size  B, H, G, Sq, N, P, R, D
  input q[B,H,Sq,D], k[N,R,G,D], v[N,R,G,D]
  input page[B,P]: int, len[B]: int
  assume H % G == 0, 0 <= page[b,p] < N, Sq <= len[b] <= P * R

  core o[b,h,i,d] over j: P * R {
    align  offset len[b] - Sq
    score  q[b,h,i,c] * k[page[b, j // R], j % R, h // (H // G), c]
    scale  1 / sqrt(D)
    allow  j <= pos(i)
    softmax j
    matmul v[page[b, j // R], j % R, h // (H // G), d]
  }
  return o
}
"""


class Irc:
    def __init__(self, threads: int) -> None:
        os.environ["IRC_THREADS"] = str(threads)

    def prepare(self, problem: Problem) -> Ready:
        case = problem.case
        text = DECODE if case.decodes else problem.variant.spec()
        program, notes = _compile(text, {"D": case.shape.width}, case.dtype)
        operands = {n: a for n, a in problem.operands.items() if n != "g"} | problem.tables
        match case.work:
            case "forward" | "decode":
                return Ready(lambda: program(**operands), lambda o: {"o": o}, notes)
            case "backward":
                runs, g = [program.forward(**operands)], problem.operands["g"]

                def forward() -> None:  # a backward run uses up what it kept
                    runs[0] = program.forward(**operands)

                return Ready(lambda: runs[0].backward(o=g), lambda gradients: gradients, notes, forward)
            case "forward+backward":
                g = problem.operands["g"]

                def step() -> tuple[Array, Mapping[str, Array]]:
                    run = program.forward(**operands)
                    return run.outputs["o"], run.backward(o=g)

                return Ready(step, lambda both: {"o": both[0], **both[1]}, notes)


class Paged(Irc):
    def prepare(self, problem: Problem) -> Ready:
        case = problem.case
        if not case.decodes:
            raise Unsupported("decode only")
        program, notes = _compile(PAGED, {"D": case.shape.width, "R": PAGE}, case.dtype)
        batch, keys = case.shape.batch, case.shape.tokens
        pages = keys // PAGE
        page = np.random.default_rng(0).permutation(batch * pages).astype(np.int32)

        def pool(cache: Array) -> Array:
            """[B,G,S,D] cut into pages [N,R,G,D], page n of the sequence at page[n]."""
            pieces = cache.reshape(batch, DECODE_GROUPS, pages, PAGE, -1).transpose(0, 2, 3, 1, 4)
            laid = np.empty((batch * pages, *pieces.shape[2:]), cache.dtype)
            laid[page] = pieces.reshape(laid.shape)
            return laid

        operands: dict[str, Any] = {
            "q": problem.operands["q"],
            "k": pool(problem.operands["k"]),
            "v": pool(problem.operands["v"]),
            "page": page.reshape(batch, pages),
            "len": np.full(batch, keys, np.int32),
        }
        return Ready(lambda: program(**operands), lambda o: {"o": o}, notes)


def _compile(text: str, sizes: Mapping[str, int], dtype: Any) -> tuple[irc.Program, dict[str, float]]:
    start = time.perf_counter()
    program = irc.compile(text, sizes=sizes, dtype=dtype)
    return program, {"compile seconds": time.perf_counter() - start}
