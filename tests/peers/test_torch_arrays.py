"""Torch tensors in and out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from irc.runtime.arrays import DTYPE, give, look, take
from irc.runtime.errors import InputError


@pytest.mark.parametrize("storage", ["f32", "f64", "f16", "bf16"])
def test_tensors_are_viewed_and_given_back(storage):
    kind = {"f32": torch.float32, "f64": torch.float64, "f16": torch.float16, "bf16": torch.bfloat16}[storage]
    x = torch.arange(24).reshape(2, 3, 4).to(kind).transpose(0, 1).requires_grad_()
    taken = take("x", x, storage)
    assert taken.dtype == DTYPE[storage]
    assert taken.__array_interface__["data"][0] == x.data_ptr()
    assert taken.astype(np.float64).tolist() == x.tolist()
    back = give(taken, x)
    assert back.dtype == kind
    assert back.data_ptr() == x.data_ptr()
    assert torch.equal(back, x)


def test_integer_bool_and_rank_0_tensors():
    assert take("n", torch.tensor([1, 2]), "i32").dtype == np.int32
    m = torch.tensor([True, False])
    taken = take("m", m, "bool")
    assert taken.tolist() == [1, 0]
    assert give(taken, m, "bool").dtype == torch.bool
    assert take("c", torch.tensor(2.0), "f32").shape == ()
    assert give(np.array(2.0, np.float32), m).shape == ()


def test_tensors_elsewhere_and_sparse_are_named():
    with pytest.raises(InputError, match="x: expected a tensor on the CPU, got one on meta"):
        take("x", torch.ones(2, device="meta"), "f32")
    with pytest.raises(InputError, match="x: expected a strided tensor"):
        take("x", torch.eye(2).to_sparse(), "f32")
    with pytest.raises(InputError, match="x: expected f32, got bf16"):
        take("x", torch.ones(2, dtype=torch.bfloat16), "f32")
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    with pytest.raises(InputError, match="x: expected a plain tensor, got a nested one"):
        look("x", nested, "f32")
    with pytest.raises(InputError, match=r"x: .*storage"):
        torch.vmap(lambda x: look("x", x, "f32"))(torch.ones(2, 3))
    with pytest.raises(InputError, match="x: "):
        take("x", torch.ones(2).to(torch.float8_e4m3fn), "f32")


def test_conjugate_views_are_resolved():
    z = torch.tensor([1 + 2j, 3 - 4j]).conj().imag
    assert z.is_neg()
    assert take("x", z, "f32").tolist() == [-2.0, 4.0]


@pytest.mark.parametrize("kind, storage", [(torch.float32, "f32"), (torch.bfloat16, "bf16")])
def test_tensors_without_memory_are_named(kind, storage):
    """A call looks at an argument by its address alone where its layout is known, and these have none."""
    zero = torch._efficientzerotensor(2, 3, dtype=kind)
    with pytest.raises(InputError, match=r"x: expected a tensor with memory"):
        look("x", zero, storage)
    assert look("x", torch.empty(0, 3, dtype=kind), storage)[1].shape == (0, 3)
