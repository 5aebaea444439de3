"""numpy arrays as torch tensors that share their memory, and back; PyTorch's number of threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import torch

from benchmarks.cases import Problem
from benchmarks.peers import Array, Ready

BF16 = np.dtype(ml_dtypes.bfloat16)


class Torch:
    """What PyTorch's contestants share: `forward` is a function of q, k, v and the variant's tables, all tensors."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def ready(
        self,
        problem: Problem,
        forward: Callable[..., torch.Tensor],
        notes: Mapping[str, float] | None = None,
    ) -> Ready:
        """`forward(q, k, v, **learned)` in the case's pass."""
        names = ("q", "k", "v", *problem.variant.learned)
        leaves = [tensor(a) for a in ({**problem.operands, **problem.tables}[n] for n in names)]
        given = {} if notes is None else notes  # filled in later by some
        if problem.case.work in ("forward", "decode"):

            def infer() -> torch.Tensor:
                with torch.no_grad():
                    return forward(*leaves)

            return Ready(infer, lambda o: {"o": array(o)}, given)
        cotangent = tensor(problem.operands["g"])
        for leaf in leaves:
            leaf.requires_grad_()
        if problem.case.work == "backward":
            output = forward(*leaves)

            def back() -> Sequence[torch.Tensor]:
                return torch.autograd.grad(output, leaves, cotangent, retain_graph=True)

            return Ready(back, lambda gradients: _named(names, gradients), given)

        def step() -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
            o = forward(*leaves)
            return o, torch.autograd.grad(o, leaves, cotangent)

        return Ready(step, lambda both: {"o": array(both[0]), **_named(names, both[1])}, given)


def tensor(value: Array) -> torch.Tensor:
    if value.dtype == BF16:
        return torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(value)


def array(value: torch.Tensor) -> Array:
    """As float32."""
    return np.asarray(value.detach().float().numpy())


def tables(problem: Problem) -> dict[str, torch.Tensor]:
    return {n: tensor(a) for n, a in problem.tables.items()}


def indices(problem: Problem) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of batch, head, query and key, shaped to broadcast to [B,H,S,S]."""
    shape = problem.case.shape
    token = torch.arange(shape.tokens)
    batch, head = torch.arange(shape.batch), torch.arange(shape.heads)
    return batch[:, None, None, None], head[:, None, None], token[:, None], token


def _named(names: Sequence[str], gradients: Sequence[Any]) -> dict[str, Array]:
    return {n: array(g) for n, g in zip(names, gradients, strict=True)}
