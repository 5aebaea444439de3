"""The contestants of the benchmark on a device compute what irc's programs mean: here on the CPU, where small."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import irc  # noqa: E402
from benchmarks import gpu, gpu_contestants  # noqa: E402
from benchmarks.gpu import VARIANTS, Case  # noqa: E402

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("name", ("math", "flex"))
@pytest.mark.parametrize("variant", VARIANTS)
def test_they_agree_with_the_program(variant: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for what, value in (("TOKENS", 512), ("FEATURES", 128), ("WINDOW", 48)):
        monkeypatch.setattr(gpu, what, value)
    monkeypatch.setattr(gpu_contestants, "WINDOW", 48)
    monkeypatch.setitem(gpu.VARIANTS, "window", ("", "allow i - 48 < j and j <= i"))
    monkeypatch.setattr(gpu_contestants, "DEVICE", "cpu")
    monkeypatch.setattr(gpu_contestants, "_compiled", lambda: gpu_contestants.flex_attention)
    case = Case(variant, 64, 256)
    torch.manual_seed(0)
    tensors = gpu_contestants._tensors(case)
    if (variant, name) == ("soft cap", "math"):
        with pytest.raises(NotImplementedError, match="no soft cap"):
            gpu_contestants._sdpa(case, gpu_contestants.BACKENDS["math"])
        return
    made = (
        gpu_contestants._flex(case, tensors)
        if name == "flex"
        else gpu_contestants._sdpa(case, gpu_contestants.BACKENDS[name])
    )
    got = made(tensors).float().numpy()
    given: dict[str, Any] = {n: t.numpy() if n == "doc" else t.double().numpy() for n, t in tensors.items()}
    expected = irc.compile(case.text, target="reference")(**given)
    assert np.linalg.norm(got - expected) < gpu_contestants.TOLERANCE / 2 * np.linalg.norm(expected)
