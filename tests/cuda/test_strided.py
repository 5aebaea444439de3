"""The kernel for what is done between kernels, through nvcc."""

from __future__ import annotations

import pytest

from irc.runtime.cuda import nvcc, products


@pytest.mark.parametrize("architecture", ("sm_80", "sm_90a"))
def test_it_compiles(architecture: str) -> None:
    assert nvcc.cubin(products.strided_source(), architecture).stat().st_size > 0
