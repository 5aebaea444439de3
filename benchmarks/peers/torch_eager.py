"""PyTorch without a fused kernel, as variants are written and trained today: eager, and under torch.compile."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from benchmarks.cases import Problem
from benchmarks.peers import Ready, Unsupported
from benchmarks.peers.torch_tensors import Torch, indices, tables


class Eager(Torch):
    def prepare(self, problem: Problem) -> Ready:
        return self.ready(problem, formula(problem))


class Compiled(Torch):
    def prepare(self, problem: Problem) -> Ready:
        torch.compiler.reset()
        notes: dict[str, float] = {}
        ready = self.ready(problem, torch.compile(formula(problem), dynamic=False), notes)
        start = time.perf_counter()
        ready.run()
        notes["compile seconds"] = time.perf_counter() - start
        return ready


def formula(problem: Problem) -> Callable[..., torch.Tensor]:
    """softmax(mask(score(Q Kᵀ · scale))) V; the mask is made beforehand."""
    if problem.case.decodes:
        raise Unsupported("a decode step is measured with fused attention")
    if problem.case.work == "backward":
        raise Unsupported("measured as forward+backward")
    variant, scale, given, at = problem.variant, problem.scale, tables(problem), indices(problem)
    allowed = None if variant.allowed is None else variant.allowed(at, given)

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *learned: torch.Tensor) -> torch.Tensor:
        s = (q @ k.transpose(-2, -1)) * scale
        if variant.score is not None:
            known = {**given, **dict(zip(variant.learned, learned, strict=True))}
            s = variant.score(s, at, known, torch)
        if allowed is not None:
            s = torch.where(allowed, s, float("-inf"))
        return torch.softmax(s, -1) @ v

    return attend
