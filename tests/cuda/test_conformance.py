"""What instructions compute on a device, bit for bit as in the emulator: its own tests, run on both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.cuda.both import Module
from tests.emulator import kernels, test_instructions, test_wgmma
from tests.emulator.bugs import RIGHT
from tests.emulator.kernels import HEADER, kernel, launch, launch_bulk, source
from tests.emulator.test_instructions import (  # noqa: F401
    test_atomics,
    test_cp_async_fills_with_zeros,
    test_cp_async_of_no_bytes_reads_nothing,
    test_every_half_is_widened_exactly,
    test_ldmatrix_hands_each_lane_its_words,
    test_mma_of_halves_is_the_product,
    test_mma_of_tf32_is_the_product_of_rounded_numbers,
    test_numbers_are_rounded_to_the_nearest,
    test_shuffles_and_votes,
    test_threads_know_their_places,
)
from tests.emulator.test_wgmma import test_products_in_every_layout  # noqa: F401

KERNELS = source(kernel(name, body) for name, body in RIGHT.items() if name != "staged")
STAGED = source([kernel("staged", RIGHT["staged"])])
MODULES: dict[str, Module] = {}


def both(text: str) -> Module:
    if text not in MODULES:
        MODULES[text] = Module(text)
    return MODULES[text]


@pytest.fixture(autouse=True)
def on_both(device: None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Launches of the emulator's tests run on both."""
    from irc.runtime.cuda import device as cuda

    hopper = "products" in request.node.name or "staged" in request.node.name
    if hopper and cuda.find().architecture != "sm_90a":
        pytest.skip("instructions of sm_90a")
    monkeypatch.setattr(test_wgmma, "module", lambda check: both(test_wgmma.TEXT))
    monkeypatch.setattr(kernels, "built", lambda text, check: both(text))


@pytest.fixture
def run(on_both: None) -> Callable[..., None]:
    def launch(kernel: str, *args: Any, grid: tuple[int, ...] = (1,), block: tuple[int, ...] = (32,)) -> None:
        for _ in range(3):
            both(HEADER + test_instructions.SOURCE).launch(kernel, grid, block, 4096, args)

    return launch


@pytest.mark.parametrize("name", [name for name in RIGHT if name != "staged"])
def test_kernels(name: str) -> None:
    assert launch(KERNELS, name).out.any()


def test_staged_products() -> None:
    got, want = launch_bulk(STAGED, "staged")
    assert np.array_equal(got, want)
