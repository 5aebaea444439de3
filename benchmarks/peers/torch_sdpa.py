"""PyTorch's scaled_dot_product_attention: fused, with a dense mask or bias, and decoding grouped heads."""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa

from benchmarks.cases import DECODE_GROUPS, Problem
from benchmarks.peers import Ready, Unsupported
from benchmarks.peers.torch_tensors import Torch, indices, tables


class Fused(Torch):
    """Without a mask tensor: full, causal, and decode with enable_gqa."""

    def prepare(self, problem: Problem) -> Ready:
        if problem.case.decodes:
            return self.ready(problem, lambda q, k, v: sdpa(q, k, v, enable_gqa=True))
        causal = {"full": False, "causal": True}.get(problem.variant.name)
        if causal is None:
            raise Unsupported("no such mask or bias without a dense tensor")
        return self.ready(problem, lambda q, k, v: sdpa(q, k, v, is_causal=causal))


class Folded(Torch):
    """A decode step as queries of their group: q [B,H,1,D] as [B,G,H/G,D], which needs no copy."""

    def prepare(self, problem: Problem) -> Ready:
        if not problem.case.decodes:
            raise Unsupported("decode only")
        shape = problem.case.shape
        folded = (shape.batch, DECODE_GROUPS, shape.heads // DECODE_GROUPS, shape.width)
        whole = (shape.batch, shape.heads, 1, shape.width)
        return self.ready(problem, lambda q, k, v: sdpa(q.view(folded), k, v).reshape(whole))


class Masked(Torch):
    """With a boolean mask made beforehand, or, for a bias, a tensor of scores: made beforehand where nothing is learned
    in the pass, otherwise at every call, as training must."""

    def prepare(self, problem: Problem) -> Ready:
        variant = problem.variant
        if problem.case.decodes or variant.allowed is None:
            raise Unsupported("nothing to mask")
        if variant.score is not None and not variant.additive:
            raise Unsupported("a map of the score is neither a mask nor a bias")
        at, given = indices(problem), tables(problem)
        allowed = variant.allowed(at, given)
        score = variant.score
        if score is None:
            return self.ready(problem, lambda q, k, v: sdpa(q, k, v, attn_mask=allowed))

        def bias(*learned: torch.Tensor) -> torch.Tensor:
            known = {**given, **dict(zip(variant.learned, learned, strict=True))}
            zero = torch.zeros((), dtype=learned[0].dtype)
            return torch.where(allowed, score(zero, at, known, torch), float("-inf")).to(learned[0].dtype)

        if problem.case.work == "forward":
            with torch.no_grad():
                made = bias(*(given[n] for n in variant.learned))
            return self.ready(problem, lambda q, k, v, *learned: sdpa(q, k, v, attn_mask=made))
        return self.ready(problem, lambda q, k, v, *learned: sdpa(q, k, v, attn_mask=bias(*learned)))
