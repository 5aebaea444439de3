"""Programs in PyTorch's autograd."""

from __future__ import annotations

import gc
import re
import weakref
from pathlib import Path

import pytest
import torch

import irc
from irc.error import InputError

ROOT = Path(__file__).parents[2]
CAUSAL = ROOT / "examples" / "causal.attn"
SPEC = """
attention best {
  size  B, H, S, D
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]
  input doc[B,S]: int
  param slope[H]
  scalar cap: float

  core o[b,h,i,d] {
    score  q[b,h,i,c] * k[b,h,j,c]
    map    cap * tanh(score / cap) - slope[h] * (i - j)
    allow  j <= i and doc[b,i] == doc[b,j]
    softmax j
    matmul v[b,h,j,d]
    stat   best[b,h,i] = argmax
  }
  return o, best
}
"""


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def three() -> list[torch.Tensor]:
    return [drawn(2, 3, 17, 8) for _ in range(3)]


def test_the_lines_of_the_readme(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(program = [^\n]*\nq, k, v = .*?)```", text, re.DOTALL)
    given = {"torch": torch, "irc": irc}
    exec(code, given)
    tensors = [given[name] for name in "qkv"]
    expected = torch.nn.functional.scaled_dot_product_attention(*tensors, is_causal=True)
    for tensor, wanted in zip(tensors, torch.autograd.grad(expected.square().mean(), tensors), strict=True):
        torch.testing.assert_close(tensor.grad, wanted, rtol=1e-4, atol=1e-9)


def test_gradients_of_every_output_and_argument():
    program = irc.compile(SPEC, dtype="f64")
    doc = torch.arange(17).expand(2, -1) // 7

    def call(*given: torch.Tensor) -> torch.Tensor:
        q, k, v, slope = given
        o, best = program(q=q, k=k, v=v, slope=slope, doc=doc, cap=3.0)
        assert not best.requires_grad
        return o

    assert torch.autograd.gradcheck(call, (*three(), drawn(3)))
    causal = irc.compile(CAUSAL, dtype="f64")
    assert torch.autograd.gradcheck(lambda q, k, v: causal(q=q, k=k, v=v), three())


def test_only_what_requires_gradients_has_one_and_only_where_they_are_wanted():
    program = irc.compile(CAUSAL, dtype="f64")
    q, k, v = three()
    lse = program(q=q, k=k.detach(), v=v)[1]
    lse.sum().backward(retain_graph=True)
    once = q.grad.clone()
    assert k.grad is None and not v.grad.any()
    lse.sum().backward()
    torch.testing.assert_close(q.grad, 2 * once)
    with torch.no_grad():
        assert not program(q=q, k=k, v=v)[0].requires_grad
    assert not program(q=q.detach(), k=k.detach(), v=v.detach())[0].requires_grad
    assert not program.forward(q=q, k=k, v=v).outputs["o"].requires_grad


@pytest.mark.parametrize("changed", ["argument", "constant", "result"])
def test_what_is_read_again_may_not_have_changed(changed):
    q, k, v = three()
    constant = v.detach().clone()
    o, lse = irc.compile(CAUSAL, dtype="f64")(q=q, k=k, v=constant)
    with torch.no_grad():
        {"argument": k, "constant": constant, "result": lse}[changed].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        o.sum().backward()


def test_what_a_call_kept_goes_with_its_results():
    q, k, v = three()
    o, lse = irc.compile(CAUSAL, dtype="f64")(q=q, k=k, v=v)
    run = weakref.ref(o.grad_fn.run)
    gc.disable()
    try:
        assert run() is not None
        del o, lse
        assert run() is None
    finally:
        gc.enable()


def test_what_has_no_gradient_is_named():
    q, k, v = three()
    with pytest.raises(InputError, match="k: requires a gradient, but results are ndarray"):
        irc.compile(CAUSAL, dtype="f64")(q=q.detach().numpy(), k=k, v=v)
    with pytest.raises(InputError, match="q: expected an array, got list"):
        irc.compile(CAUSAL, dtype="f64")(q=q.tolist(), k=k, v=v)
    with pytest.raises(InputError, match="k: missing"):
        irc.compile(CAUSAL, dtype="f64")(q=q, v=v)
    program, doc = irc.compile(SPEC, dtype="f64"), torch.zeros(2, 17, dtype=torch.int32)
    with pytest.raises(InputError, match="cap: requires a gradient, which a `scalar` has not"):
        program(q=q, k=k, v=v, slope=drawn(3), doc=doc, cap=drawn())
