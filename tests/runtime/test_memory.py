"""New tensors: where they lie, and in which order their elements follow each other."""

from __future__ import annotations

import numpy as np
import pytest

from irc.runtime import memory
from irc.runtime.memory import ALIGNMENT, KEPT, LARGE, SMALL, New, allocator


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


def made(count: int, zero: bool = False) -> tuple[np.ndarray, int]:
    arrays: dict[str, np.ndarray] = {}
    places: dict[str, int] = {}
    allocator({"x": New((count,), "i32", zero)})(arrays, places)
    return arrays["x"], places["x"]


@pytest.mark.parametrize("zero", [False, True])
def test_a_large_tensor_is_used_again_when_its_last_view_has_gone(zero: bool) -> None:
    first, place = made(LARGE)
    first[...] = 7
    view = first[5:]
    del first
    second, other = made(LARGE)
    assert other != place and (view == 7).all()
    second[...] = 8
    del view, second
    again, its_place = made(LARGE, zero)
    assert its_place in (place, other)
    assert not again.any() if zero else again.all()


def test_what_is_kept_is_little_and_adds_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is in use it is no more than was in use before."""
    monkeypatch.setattr(memory, "_released", [])
    monkeypatch.setattr(memory, "_in_use", {})
    monkeypatch.setattr(memory, "_most", 0)

    def kept() -> list[int]:
        return [count for count, _ in memory._released]

    size = KEPT // 4 // 4
    tensors = [made(size)[0] for _ in range(5)]
    tensors.clear()
    assert kept() == [4 * size] * 4
    larger, _ = made(size + 1)  # 16 of its bytes would be one too many beside four
    assert kept() == [4 * size] * 3
    second, _ = made(size)
    assert kept() == [4 * size] * 2
    third, _ = made(2 * size)
    assert kept() == []
    del larger, second, third
    too_large, _ = made(KEPT)
    del too_large
    assert sum(kept()) <= KEPT


def test_sizes_that_take_turns_find_their_pages() -> None:
    made(LARGE), made(2 * LARGE)
    both, other = made(LARGE), made(2 * LARGE)
    places = {id(pages) for _, pages in memory._released} | set(memory._in_use)
    del both, other
    for _ in range(3):
        first, _ = made(LARGE)
        second, _ = made(2 * LARGE)
        assert {id(pages) for _, pages in memory._released} | set(memory._in_use) == places
        del first, second


def test_a_kernel_without_large_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.mmap, "MADV_HUGEPAGE", 4321)  # which no kernel knows
    arrays: dict[str, np.ndarray] = {}
    allocator({"x": New((LARGE + 4096,), "f32")})(arrays, {})
    assert not arrays["x"].any()
