"""Torch tensors in calls that have been prepared by others: layouts, kinds and element types in turn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import irc

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
CAUSAL = EXAMPLES / "causal.attn"


def both(program: irc.Program, given: dict[str, object]) -> list[object]:
    run = program.forward(**given)
    return [*program(**given), *run.outputs.values(), *run.backward(o=run.outputs["o"]).values()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_kinds_and_layouts_in_turn_give_the_same_bits(dtype: torch.dtype) -> None:
    program = irc.compile(CAUSAL, dtype={torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}[dtype])
    torch.manual_seed(0)
    plain = {n: torch.randn(2, 3, 21, 16).to(dtype) for n in "qkv"}
    turned = {n: t.transpose(1, 2).contiguous().transpose(1, 2) for n, t in plain.items()}
    leaves = {n: t.clone().requires_grad_() for n, t in plain.items()}
    parameters = {n: torch.nn.Parameter(t.clone()) for n, t in plain.items()}
    last = {n: t.transpose(2, 3).contiguous().transpose(2, 3) for n, t in plain.items()}
    negated = (
        {n: torch.imag(torch.complex(torch.zeros_like(t), -t).conj()) for n, t in plain.items()}
        if (dtype == torch.float32)
        else plain
    )
    expected = both(program, plain)
    for given in (plain, turned, leaves, parameters, last, negated) * 2:
        got = both(program, given)
        assert all(isinstance(a, torch.Tensor) and torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_numpy_and_torch_take_turns() -> None:
    program = irc.compile(CAUSAL)
    arrays = {n: np.random.default_rng(0).standard_normal((1, 2, 9, 16)).astype(np.float32) for n in "qkv"}
    tensors = {n: torch.from_numpy(a.copy()) for n, a in arrays.items()}
    mixed = {"q": tensors["q"], "k": arrays["k"], "v": tensors["v"]}
    for _ in range(3):
        results = [both(program, given) for given in (arrays, tensors, mixed)]
        assert all(isinstance(a, np.ndarray) for a in results[0])
        assert all(isinstance(a, torch.Tensor) for a in results[1] + results[2])
        for other in results[1:]:
            assert all(np.array_equal(a, b.numpy()) for a, b in zip(results[0], other, strict=True))


def test_a_tensor_changed_in_place_is_read_again() -> None:
    program = irc.compile(CAUSAL)
    tensors = {n: torch.randn(1, 1, 6, 16) for n in "qkv"}
    before = program(**tensors)[0]
    tensors["v"].mul_(2)
    assert torch.equal(program(**tensors)[0], 2 * before)


def test_a_tensor_that_is_given_other_memory_between_the_runs_is_read_there_or_named() -> None:
    program = irc.compile(CAUSAL)
    tensors = {n: torch.randn(1, 1, 6, 16) for n in "qkv"}
    cotangent = torch.randn(1, 1, 6, 16)
    expected = program.forward(**tensors).backward(o=cotangent)
    run = program.forward(**tensors)
    for tensor in tensors.values():
        tensor.data = tensor.clone()
    got = run.backward(o=cotangent)
    assert all(torch.equal(got[n], expected[n]) for n in expected)
    tensors["k"].data = torch.randn(1, 1, 2, 16)
    with pytest.raises(irc.InputError, match="k: its element type or its layout is not that of the forward run"):
        run.backward(o=cotangent)


def test_tensors_that_do_not_fit_are_named_after_good_ones() -> None:
    program = irc.compile(CAUSAL)
    tensors = {n: torch.randn(1, 1, 6, 16) for n in "qkv"}
    program(**tensors)
    with pytest.raises(irc.InputError, match="k: expected a tensor on the CPU"):
        program(**{**tensors, "k": tensors["k"].to("meta")})
    with pytest.raises(irc.InputError, match="k: expected a strided tensor"):
        program(**{**tensors, "k": tensors["k"].to_sparse()})
    with pytest.raises(irc.InputError, match="k: expected f32, got f64"):
        program(**{**tensors, "k": tensors["k"].double()})


def test_a_number_in_a_tensor_is_read_where_the_program_assumes_something_of_it() -> None:
    program = irc.compile(EXAMPLES / "softcap_window.attn")
    tensors = {"q": torch.randn(1, 2, 6, 16), **{n: torch.randn(1, 2, 9, 16) for n in "kv"}}
    window = torch.tensor(3, dtype=torch.int32)
    expected = program(**tensors, window=3, cap=5.0)[0]
    for _ in range(2):
        assert torch.equal(program(**tensors, window=window, cap=5.0)[0], expected)
    with pytest.raises(irc.InputError, match="assumes window >= 1, but window = 0"):
        program(**tensors, window=window.zero_(), cap=5.0)
