"""Programs in what trains models with PyTorch: checkpoints, hooks of saved tensors, modes, copies, threads."""

from __future__ import annotations

import copy
import gc
import io
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

import irc
from irc.calls.program import Run
from irc.error import Error
from irc.runtime import machine
from tests.peers.test_autograd import CAUSAL

sdpa = torch.nn.functional.scaled_dot_product_attention


@pytest.fixture(scope="module")
def program() -> irc.Program:
    return irc.compile(CAUSAL)


class Attention(torch.nn.Module):
    def __init__(self, program: irc.Program) -> None:
        super().__init__()
        self.program = program
        self.project = torch.nn.Linear(24, 72)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.project(x).unflatten(-1, (3, 3, 8)).permute(2, 0, 3, 1, 4)
        made: torch.Tensor = self.program(q=q, k=k, v=v)[0]
        return made


def gradients(call: Any, model: torch.nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(call(model, x).square().sum(), [*model.parameters()]))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoints(program: irc.Program, use_reentrant: bool) -> None:
    model, x = Attention(program), torch.randn(2, 17, 24)
    wanted = gradients(lambda model, x: model(x), model, x)
    made = checkpoint(model, x.requires_grad_(), use_reentrant=use_reentrant)
    gc.collect()
    assert not any(type(value) is Run for value in gc.get_objects()), "a checkpoint keeps what it computes again"
    made.square().sum().backward()
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_what_is_saved_goes_through_hooks(program: irc.Program) -> None:
    q, k, v = (torch.randn(2, 3, 17, 8, requires_grad=True) for _ in range(3))
    wanted = torch.autograd.grad(program(q=q, k=k, v=v)[0].square().sum(), (q, k, v))
    packed: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> int:
        packed.append(tensor.detach().clone())
        return len(packed) - 1

    with torch.autograd.graph.saved_tensors_hooks(pack, packed.__getitem__):
        o, _ = program(q=q, k=k, v=v)
    gc.collect()
    assert not any(type(value) is Run for value in gc.get_objects())
    made = torch.autograd.grad(o.square().sum(), (q, k, v))
    assert len(packed) >= 5
    assert all(torch.equal(a, b) for a, b in zip(made, wanted, strict=True))


def test_modes_see_one_operator(program: irc.Program) -> None:
    q, k, v = (torch.randn(2, 3, 17, 8, requires_grad=True) for _ in range(3))
    seen: list[str] = []

    def policy(_: Any, operator: Any, *given: Any, **more: Any) -> CheckpointPolicy:
        seen.append(str(operator))
        return CheckpointPolicy.MUST_SAVE if "irc" in str(operator) else CheckpointPolicy.PREFER_RECOMPUTE

    def call(q: torch.Tensor) -> Any:
        return program(q=q * 2, k=k, v=v)[0]

    made = checkpoint(call, q, use_reentrant=False, context_fn=lambda: create_selective_checkpoint_contexts(policy))
    assert seen.count("irc.forward.default") == 1
    wanted = torch.autograd.grad(call(q).square().sum(), q)
    assert torch.equal(torch.autograd.grad(made.square().sum(), q)[0], wanted[0])
    with torch._subclasses.FakeTensorMode():
        fake = [torch.empty(2, 3, 17, 8) for _ in range(3)]
        o, lse = program(q=fake[0], k=fake[1], v=fake[2])
    assert (o.shape, lse.shape) == (q.shape, q.shape[:-1])


def test_tables_of_numpy_where_pytorch_wants_tensors() -> None:
    text = CAUSAL.read_text().replace("v[B,H,S,D]\n", "v[B,H,S,D]\n  input seen[B,S]: bool\n", 1)
    masked = irc.compile(text.replace("allow  j <= i", "allow  j <= i and seen[b,j]").replace(", rows nonempty", ""))
    q, k, v = (torch.randn(2, 3, 17, 8, requires_grad=True) for _ in range(3))
    seen = (torch.rand(2, 17) < 0.7).numpy()
    wanted = masked(q=q, k=k, v=v, seen=seen)[0]
    assert torch.equal(checkpoint(lambda q: masked(q=q, k=k, v=v, seen=seen)[0], q, use_reentrant=False), wanted)
    assert torch.equal(torch.vmap(lambda q: masked(q=q, k=k, v=v, seen=seen)[0])(q[None])[0], wanted)


def test_traces_of_jit_are_refused(program: irc.Program) -> None:
    given = tuple(torch.randn(1, 1, 5, 8) for _ in range(3))
    with pytest.raises(Error, match=r"torch\.jit\.trace takes no programs: torch\.export"):
        torch.jit.trace(lambda q, k, v: program(q=q, k=k, v=v)[0], given)


def test_autocast_wants_a_program_of_its_type() -> None:
    model, x = Attention(irc.compile(CAUSAL, dtype="bf16")), torch.randn(2, 17, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q, k, v = model.project(x).unflatten(-1, (3, 3, 8)).permute(2, 0, 3, 1, 4)
        made = model(x)
    torch.testing.assert_close(made, sdpa(q, k, v, is_causal=True), rtol=2e-2, atol=2e-2)
    made.float().square().mean().backward()
    assert model.project.weight.grad.dtype == torch.float32


def test_copies_of_models(program: irc.Program) -> None:
    model, x = Attention(program), torch.randn(2, 17, 24)
    averaged = torch.optim.swa_utils.AveragedModel(model)
    averaged.update_parameters(model)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (copy.deepcopy(model), averaged, torch.load(file, weights_only=False)):
        assert torch.equal(other(x), model(x))
    assert copy.deepcopy(model).program is program
    assert [*model.state_dict()] == ["project.weight", "project.bias"]


def test_threads_are_as_many_as_those_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IRC_THREADS", raising=False)
    before = torch.get_num_threads()
    try:
        for count in (3, 1):
            torch.set_num_threads(count)
            assert machine.threads() == count
        monkeypatch.setenv("IRC_THREADS", "2")
        assert machine.threads() == 2
    finally:
        torch.set_num_threads(before)
