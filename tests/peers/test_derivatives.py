"""Programs under PyTorch's other derivatives: gradients of gradients, forward mode, `torch.func`, against a formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._vmap_internals import _vmap
from torch.autograd import forward_ad, functional
from torch.autograd.graph import saved_tensors_hooks
from torch.func import grad, jvp, linearize
from torch.fx.experimental.proxy_tensor import make_fx

import irc
from irc.error import Error
from tests.peers.test_autograd import CAUSAL

Call = Callable[..., tuple[torch.Tensor, torch.Tensor]]


@pytest.fixture(scope="module")
def program() -> irc.Program:
    return irc.compile(CAUSAL, dtype="f64")


@pytest.fixture
def given() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(2, 1, 4, 8, dtype=torch.float64, generator=generator) for _ in range(3)]


def formula(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    masked = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), -math.inf)
    return masked.softmax(-1) @ v, masked.logsumexp(-1)


def same(compute: Callable[[Call], Any], program: irc.Program) -> None:
    """What is computed of the program's call is what is computed of the formula."""
    ours, theirs = compute(lambda q, k, v: program(q=q, k=k, v=v)), compute(formula)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def penalty(call: Call, given: list[torch.Tensor]) -> list[torch.Tensor]:
    """Gradients of what depends on gradients, also through the cotangents, which are not constant."""
    leaves = [t.clone().requires_grad_() for t in given]
    o, lse = call(*leaves)
    first = torch.autograd.grad(o.square().sum() + lse.exp().sum(), leaves, create_graph=True)
    (sum(g.square().sum() for g in first) + o.sum()).backward()
    return [*first, *(leaf.grad for leaf in leaves)]


def test_gradients_of_gradients(program: irc.Program, given: list[torch.Tensor]) -> None:
    same(lambda call: penalty(call, given), program)


def test_gradients_of_gradients_of_one_output_and_argument(program: irc.Program, given: list[torch.Tensor]) -> None:
    def compute(call: Call) -> Any:
        q = given[0].clone().requires_grad_()
        (first,) = torch.autograd.grad(call(q, *given[1:])[0].sum(), q, create_graph=True)
        return torch.autograd.grad(first.square().sum(), q)

    same(compute, program)
    assert torch.autograd.gradgradcheck(lambda q: program(q=q, k=given[1], v=given[2]), given[0].requires_grad_())


def test_gradients_of_gradients_in_exported_code(program: irc.Program, given: list[torch.Tensor]) -> None:
    class Attention(torch.nn.Module):
        def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
            return program(q=q, k=k, v=v)

    leaves = tuple(t.clone().requires_grad_() for t in given)
    exported = torch.export.export(Attention(), leaves).module()
    torch.testing.assert_close(penalty(exported, given), penalty(formula, given), rtol=1e-9, atol=1e-9)


def test_third_derivatives_are_refused(program: irc.Program, given: list[torch.Tensor]) -> None:
    gradient = given[0].requires_grad_()
    for _ in range(2):
        (gradient,) = torch.autograd.grad(
            (program(q=given[0], k=given[1], v=given[2])[0] if gradient is given[0] else gradient).square().sum(),
            given[0], create_graph=True,
        )  # fmt: skip
    with pytest.raises(Error, match="third derivatives do not pass"):
        gradient.sum().backward()


def test_forward_mode(program: irc.Program, given: list[torch.Tensor]) -> None:
    moves = [t.cos() for t in given]

    def dual(call: Call) -> Any:
        with forward_ad.dual_level():
            made = call(*(forward_ad.make_dual(t, m) for t, m in zip(given, moves, strict=True)))
            return [forward_ad.unpack_dual(t).tangent for t in made]

    same(dual, program)
    same(lambda call: jvp(call, tuple(given), tuple(moves)), program)
    with saved_tensors_hooks(lambda kept: kept, lambda kept: kept):
        same(dual, program)
    same(lambda call: dual(torch.compile(call, backend="aot_eager")), program)


def test_forward_mode_of_gradients(program: irc.Program, given: list[torch.Tensor]) -> None:
    def compute(call: Call) -> Any:
        def gradient(q: torch.Tensor) -> torch.Tensor:
            return torch.func.grad(lambda q: call(q, *given[1:])[0].square().sum())(q)

        return torch.func.jvp(gradient, (given[0],), (given[0].sin(),))

    same(compute, program)


def test_entries_of_a_batch(program: irc.Program, given: list[torch.Tensor]) -> None:
    def loss(call: Call, *entry: torch.Tensor) -> torch.Tensor:
        return call(*(t[None] for t in entry))[0].square().sum()

    same(lambda call: torch.vmap(lambda *entry: loss(call, *entry))(*given), program)
    same(lambda call: torch.vmap(torch.func.grad(lambda *entry: loss(call, *entry)))(*given), program)
    same(lambda call: torch.vmap(lambda q: call(q, *given[1:]), in_dims=1)(torch.stack([given[0]] * 3, 1)), program)


def test_no_entries(program: irc.Program, given: list[torch.Tensor]) -> None:
    none = torch.zeros(0, *given[0].shape, dtype=torch.float64)

    def loss(call: Call, q: torch.Tensor) -> torch.Tensor:
        return torch.vmap(lambda q: call(q, *given[1:])[0])(q).square().sum()

    same(lambda call: torch.vmap(lambda q: call(q, *given[1:]))(none), program)
    same(lambda call: torch.vmap(grad(lambda q: call(q, *given[1:])[0].sum()))(none), program)
    same(lambda call: grad(lambda q: loss(call, q))(none), program)
    same(lambda call: torch.autograd.grad(loss(call, leaf := none.clone().requires_grad_()), leaf), program)


@pytest.mark.parametrize("of", ["jacrev", "jacfwd", "hessian"])
def test_jacobians(program: irc.Program, given: list[torch.Tensor], of: str) -> None:
    given = [t[:1] for t in given]
    same(lambda call: getattr(torch.func, of)(lambda q: call(q, *given[1:])[0].square().sum())(given[0]), program)


def test_graphs_of_derivatives(program: irc.Program, given: list[torch.Tensor]) -> None:
    """They hold operators, for what moves now and for what the trace saw alike."""
    move, others = given[0].sin(), (given[0].exp(), given[0].cos())

    def alone(call: Call) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda q: call(q, *given[1:])[0]

    def gradient(call: Call) -> Callable[[torch.Tensor], torch.Tensor]:
        return grad(lambda q: alone(call)(q).square().sum())

    def linear(call: Call) -> Any:
        along = linearize(alone(call), given[0])[1]
        return along(move), torch.vmap(along)(torch.stack(others))

    def graph(of: Callable[[Call], Callable[[torch.Tensor], torch.Tensor]]) -> Callable[[Call], Any]:
        return lambda call: make_fx(lambda q, t: jvp(of(call), (q,), (t,)))(given[0], move)(*others)

    def again(call: Call) -> Any:
        products = make_fx(lambda q, t: grad(lambda q: (gradient(call)(q) * t).sum())(q))
        return products(given[0], move)(*others)

    for compute in (linear, graph(alone), graph(gradient), again):
        same(compute, program)


@pytest.mark.parametrize("strategy", ["reverse-mode", "forward-mode"])
def test_batches_of_gradients(program: irc.Program, given: list[torch.Tensor], strategy: str) -> None:
    """PyTorch's older vmap runs them."""
    q, k, v = (t[:1] for t in given)

    def compute(call: Call) -> Any:
        def alone(q: torch.Tensor) -> torch.Tensor:
            return call(q, k, v)[0]

        def loss(q: torch.Tensor) -> torch.Tensor:
            return alone(q).square().sum()

        first = functional.jacobian(alone, q, vectorize=True, strategy=strategy)
        return first, functional.hessian(loss, q, vectorize=True, outer_jacobian_strategy=strategy)

    same(compute, program)


def test_batches_of_batches_of_gradients(program: irc.Program, given: list[torch.Tensor]) -> None:
    q, cotangents = given[0].clone().requires_grad_(), torch.stack([given[0].sin(), given[0].cos()])

    def compute(call: Call) -> Any:
        o = call(q, *given[1:])[0]

        def gradient(c: torch.Tensor) -> torch.Tensor:
            return torch.autograd.grad(o, q, c, retain_graph=True)[0]

        def each(c: torch.Tensor) -> torch.Tensor:
            return _vmap(lambda d: gradient(c) + gradient(c * d))(cotangents)

        return _vmap(each)(cotangents)

    same(compute, program)


def test_a_result_that_does_not_move(given: list[torch.Tensor]) -> None:
    text = CAUSAL.read_text().replace("matmul v[b,h,j,d]", "matmul v[b,h,j,d]\n    stat   best[b,h,i] = argmax")
    best = irc.compile(text.replace("return o, lse", "return o, best"), dtype="f64")
    q, k, v = given
    (o, index), (moved, still) = torch.func.jvp(lambda q: best(q=q, k=k, v=v), (q,), (q.cos(),))
    wanted = torch.func.jvp(lambda q: formula(q, k, v)[0], (q,), (q.cos(),))
    torch.testing.assert_close((o, moved), wanted, rtol=1e-9, atol=1e-9)
    assert not index.is_floating_point() and not still.any()
