"""The order of steps, results in place of operands, and the layout of new tensors."""

from __future__ import annotations

import pytest

import irc
from irc.arrangement.lifetimes import reads, writes
from irc.runtime.plan import Allocate, Plan, Product, Release, View
from tests.test_recompute import EXAMPLES


def plans(name: str) -> tuple[Plan, Plan]:
    compiled = irc.compile(EXAMPLES / name).built({}).compiled
    assert compiled.backward is not None
    return compiled.forward.plan, compiled.backward.plan


def test_gradients_of_a_fused_projection_are_made_side_by_side_in_its_memory() -> None:
    _, backward = plans("gpt2.attn")
    views = {s.result: s.operand.tensor for s in backward.steps if isinstance(s, View)}
    assert views["d.qkv"] == "qkv"
    assert [views[f"d.{n}.part"] for n in "qkv"] == ["d.qkv"] * 3


def test_what_a_kernel_does_not_read_is_gone_before_its_operands_are_made() -> None:
    _, backward = plans("gpt2.attn")
    made = next(n for n, s in enumerate(backward.steps) if isinstance(s, Product) and s.result == "qkv.dot")
    assert backward.steps.index(Release("o")) < made


def test_outputs_of_a_core_lie_as_the_product_that_merges_them_reads_them() -> None:
    forward, _ = plans("gpt2.attn")
    assert Allocate("o", order=(0, 2, 1, 3)) in forward.steps


@pytest.mark.parametrize("name", ["gpt2.attn", "cross.attn", "minilm/minilm.attn"])
def test_nothing_is_used_after_its_release(name: str) -> None:
    compiled = irc.compile(EXAMPLES / name).built({}).compiled
    for fused in (compiled.forward, compiled.backward):
        assert fused is not None
        kernels = {k.name: k for k in fused.kernels}
        gone: set[str] = set()
        for step in fused.plan.steps:
            assert not (reads(step, kernels) | writes(step, kernels)) & gone
            if isinstance(step, Release):
                gone.add(step.tensor)
