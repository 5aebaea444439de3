"""The plain core and its gradients against PyTorch's scaled_dot_product_attention."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import irc

EXAMPLES = Path(__file__).parents[2] / "examples"


def relative(ours: np.ndarray, theirs: torch.Tensor) -> float:
    expected = theirs.detach().double().numpy()
    return float(np.linalg.norm(ours.astype(np.float64) - expected) / np.linalg.norm(expected))


def draw(*shape: int, seed: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [("f32", 5e-6), ("f64", 1e-13)])
@pytest.mark.parametrize("shape", [(1, 1, 1, 8), (2, 3, 37, 40), (1, 2, 300, 64), (3, 1, 129, 72)])
def test_causal_forward_and_backward_agree(shape: tuple[int, ...], dtype: str, tolerance: float) -> None:
    kind = torch.float32 if dtype == "f32" else torch.float64
    q, k, v, do = (draw(*shape, seed=n, dtype=kind) for n in range(4))
    exact = [x.double().clone().requires_grad_() for x in (q, k, v)]
    o = torch.nn.functional.scaled_dot_product_attention(*exact, is_causal=True)
    expected = torch.autograd.grad(o, exact, do.double())

    run = irc.compile(EXAMPLES / "causal.attn", dtype=dtype).forward(q=q.numpy(), k=k.numpy(), v=v.numpy())
    grads = run.backward(o=do.numpy())
    assert relative(run.outputs["o"], o) < tolerance
    for name, gradient in zip("qkv", expected, strict=True):
        if torch.linalg.norm(gradient) > 0:
            assert relative(grads[name], gradient) < tolerance * 4, name
        else:
            assert np.abs(grads[name]).max() < tolerance, name


def test_torch_tensors_come_back_as_torch_tensors_with_any_strides() -> None:
    q, k, v = (draw(2, 19, 4, 16, seed=n, dtype=torch.float32).transpose(1, 2) for n in range(3))
    assert not q.is_contiguous()
    o, lse = irc.compile(EXAMPLES / "causal.attn")(q=q, k=k, v=v)
    assert isinstance(o, torch.Tensor) and isinstance(lse, torch.Tensor)
    torch.testing.assert_close(o, torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True))


def test_grouped_heads_sum_the_gradients_of_their_queries() -> None:
    q = draw(2, 6, 33, 24, seed=0, dtype=torch.float64).requires_grad_()
    k, v = (draw(2, 2, 33, 24, seed=n, dtype=torch.float64).requires_grad_() for n in (1, 2))
    o = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    expected = torch.autograd.grad(o.sum(), (q, k, v))
    arrays = {name: x.detach().numpy() for name, x in (("q", q), ("k", k), ("v", v))}
    run = irc.compile(EXAMPLES / "grouped_heads.attn", dtype="f64").forward(**arrays)
    grads = run.backward(o=np.ones_like(run.outputs["o"]))
    assert relative(run.outputs["o"], o) < 1e-13
    for name, gradient in zip("qkv", expected, strict=True):
        assert relative(grads[name], gradient) < 1e-12, name
