"""New tensors on a device: where they lie, and when their memory is used again."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from irc.runtime.arrays import Array
from irc.runtime.cuda import device
from irc.runtime.cuda.memory import ALIGNMENT
from irc.runtime.memory import SMALL, New

pytestmark = pytest.mark.usefixtures("device")


@pytest.fixture
def cuda() -> Any:
    return device.find()


def made(cuda: Any, new: dict[str, New]) -> tuple[dict[str, Array], dict[str, int]]:
    arrays: dict[str, Array] = {}
    places: dict[str, int] = {}
    cuda.allocator(new)(arrays, places)
    return arrays, places


@pytest.mark.parametrize("count", [0, 1, 5, SMALL // 4])
def test_tensors_made_at_once_share_no_bytes(cuda: Any, count: int) -> None:
    new = {
        "x": New((count,), "f32"),
        "y": New((2, count, 3), "bf16", order=(1, 2, 0)),
        "none": New((0, 3), "f64"),
        "z": New((2, 2), "i32", zero=True),
        "w": New((3,), "f32", zero=True),
    }
    with cuda.running(()):
        arrays, places = made(cuda, new)
        assert {name: a.shape for name, a in arrays.items()} == {name: t.shape for name, t in new.items()}
        assert places == {name: a.__array_interface__["data"][0] for name, a in arrays.items()}
        assert all(place % ALIGNMENT == 0 for place in places.values())
        assert arrays["y"].transpose(1, 2, 0).flags.c_contiguous
        ends = sorted((places[name], places[name] + a.nbytes) for name, a in arrays.items() if a.size)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(ends))
        assert all(not cuda.entries(arrays[name]).any() for name in "zw")


def test_small_ones_are_used_again_when_the_last_of_them_goes(cuda: Any) -> None:
    new = {"x": New((5,), "f32"), "y": New((7,), "f32")}
    with cuda.running(()):
        arrays, places = made(cuda, new)
        view = arrays.pop("y")[2:]
        arrays.clear()
        others, elsewhere = made(cuda, new)
        assert not {*places.values()} & {*elsewhere.values()}
        del view
        assert made(cuda, new)[1] == places
        assert {name: a.shape for name, a in others.items()} == {"x": (5,), "y": (7,)}


def test_large_ones_go_one_by_one(cuda: Any) -> None:
    new = {"x": New((SMALL,), "f32"), "y": New((SMALL,), "f32")}
    with cuda.running(()):
        arrays, places = made(cuda, new)
        del arrays["y"]
        assert made(cuda, {"y": new["y"]})[1]["y"] == places["y"]
