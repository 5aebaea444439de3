"""New tensors: where they lie, and in which order their elements follow each other."""

from __future__ import annotations

import numpy as np
import pytest

from irc.runtime.memory import ALIGNMENT, LARGE, SMALL, New, allocator


@pytest.mark.parametrize("count", [0, 1, 5, SMALL // 4, LARGE // 4])
def test_tensors_made_at_once_share_no_bytes(count: int) -> None:
    new = {
        "x": New((count,), "f32"),
        "y": New((2, count, 3), "bf16", order=(1, 2, 0)),
        "none": New((0, 3), "f64"),
        "z": New((), "i32", zero=True),
    }
    arrays: dict[str, np.ndarray] = {}
    places: dict[str, int] = {}
    allocator(new)(arrays, places)
    assert {name: (a.shape, a.flags.writeable) for name, a in arrays.items()} == {
        n: (t.shape, True) for n, t in new.items()
    }
    assert places == {name: a.__array_interface__["data"][0] for name, a in arrays.items()}
    assert all(place % ALIGNMENT == 0 for place in places.values())
    assert arrays["z"] == 0
    assert arrays["y"].transpose(1, 2, 0).flags.c_contiguous
    for number, (name, array) in enumerate(arrays.items()):
        array[...] = number
        assert not any(np.shares_memory(array, other) for n, other in arrays.items() if n != name)
    assert all(np.all(array == number) for number, array in enumerate(arrays.values()))


def test_each_time_they_are_new() -> None:
    make = allocator({"x": New((4,), "f32"), "y": New((4,), "f32")})
    first: dict[str, np.ndarray] = {}
    second: dict[str, np.ndarray] = {}
    make(first, {})
    make(second, {})
    assert not any(np.shares_memory(a, b) for a in first.values() for b in second.values())
