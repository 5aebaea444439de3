"""Training with irc's attention follows training with PyTorch's attention, step by step."""

from __future__ import annotations

import numpy as np
import torch
import train
from numpy.typing import NDArray

import irc

HEADS, WIDTH = 4, 16


class TorchRun:
    def __init__(self, arrays: dict[str, NDArray[np.float32]]) -> None:
        self.tensors = {name: torch.from_numpy(np.array(a)).requires_grad_() for name, a in arrays.items()}
        t = self.tensors
        batch, length, features = t["x"].shape
        fused = (t["x"] @ t["Wqkv"] + t["bqkv"]).view(batch, length, 3, HEADS, WIDTH)
        q, k, v = fused.permute(2, 0, 3, 1, 4)
        o = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        self.y = o.transpose(1, 2).reshape(batch, length, features) @ t["Wo"] + t["bo"]
        self.outputs = {"y": self.y.detach().numpy()}

    def backward(self, y: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        grads = torch.autograd.grad(self.y, list(self.tensors.values()), torch.from_numpy(y))
        return {name: grad.numpy() for name, grad in zip(self.tensors, grads, strict=True)}


class TorchAttention:
    """The block of `charlm.attn` through PyTorch's scaled_dot_product_attention."""

    def forward(self, **arrays: NDArray[np.float32]) -> TorchRun:
        return TorchRun(arrays)


def test_fifty_losses_follow_pytorch_to_1e_4() -> None:
    ours = np.array([loss for loss, _ in train.train(irc.compile(train.SPEC), 50)])
    theirs = np.array([loss for loss, _ in train.train(TorchAttention(), 50)])
    assert ours[-1] < ours[0] - 1, "fifty steps are meant to learn something"
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
