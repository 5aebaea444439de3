"""FlexAttention under torch.compile, with what its mask and its compilation take. It has no backward on the CPU."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from benchmarks.cases import Problem
from benchmarks.memory import Peak
from benchmarks.peers import Ready
from benchmarks.peers.torch_tensors import Torch, tables


class Flex(Torch):
    def prepare(self, problem: Problem) -> Ready:
        torch.compiler.reset()  # this case's compilation alone is seen, whatever ran before
        notes: dict[str, float] = {}
        if problem.case.decodes:
            compiled = torch.compile(flex_attention, dynamic=False)
            return self._first(problem, lambda q, k, v: compiled(q, k, v, enable_gqa=True), notes)
        variant, given = problem.variant, tables(problem)
        mask = self._mask(problem, given, notes)
        score = variant.score

        def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *learned: torch.Tensor) -> Any:
            known = {**given, **dict(zip(variant.learned, learned, strict=True))}

            def changed(s: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
                assert score is not None
                return score(s, (b, h, i, j), known, torch)

            return flex_attention(q, k, v, score_mod=None if score is None else changed, block_mask=mask)

        return self._first(problem, torch.compile(attend, dynamic=False), notes)

    def _mask(self, problem: Problem, given: dict[str, torch.Tensor], notes: dict[str, float]) -> BlockMask | None:
        allowed, shape = problem.variant.allowed, problem.case.shape
        if allowed is None:
            return None
        batch = shape.batch if given.keys() - set(problem.variant.learned) else None
        with Peak() as peak:
            start = time.perf_counter()
            made = create_block_mask(
                lambda b, h, i, j: allowed((b, h, i, j), given), batch, None, shape.tokens, shape.tokens, device="cpu"
            )
            notes["mask seconds"] = time.perf_counter() - start
        notes["mask bytes"] = peak.bytes
        return made

    def _first(self, problem: Problem, forward: Any, notes: dict[str, float]) -> Ready:
        """Ready after a first run, which compiles."""
        ready = self.ready(problem, forward, notes)
        start = time.perf_counter()
        ready.run()
        notes["compile seconds"] = time.perf_counter() - start
        return ready
