"""Kernels on warpgroups, in the emulator: against the interpreter, watched, with what must not be multiplied, and in
layouts that bulk copies do not take."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import irc
from irc import stored
from irc.codegen import cuda, cuda_roles, cuda_warpgroups
from irc.codegen.kernel import TileKernel
from irc.runtime import emulator
from irc.runtime.arrays import Array
from tests.cases import text
from tests.cuda.test_emulated import assert_same_bits_under_every_schedule
from tests.cuda.test_fragments import (
    assert_infinities_arrive_where_the_reference_has_them,
    assert_what_no_pair_reads_changes_no_bit,
    cast,
)
from tests.infinite_scores import assert_agree
from tests.test_examples import FOLDER, arguments
from tests.test_kernels import Arrays, arrays, both

HOPPER, TARGET = "sm_90a", "emulator:sm_90a"
LENGTHS = {"B": 1, "H": 2, "G": 1, "Sq": 150, "Sk": 210, "D": 32, "V": 48}  # two tiles of rows, ragged ones


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the launches of tile kernels, as they run."""
    names: list[str] = []
    launch = emulator.Module.launch

    def noted(self: emulator.Module, kernel: str, *args: Any, **more: Any) -> None:
        names.append(kernel)
        launch(self, kernel, *args, **more)

    monkeypatch.setattr(emulator.Module, "launch", noted)
    return names


def on_warpgroups(names: list[str]) -> int:
    return sum(name.endswith("_warpgroups") for name in names)


@pytest.mark.parametrize("dtype, width, forms", [("bf16", 64, 3), ("bf16", 128, 3), ("bf16", 256, 2), ("f16", 64, 1)])
def test_causal(dtype: str, width: int, forms: int, launched: list[str]) -> None:
    rng = np.random.default_rng(width)
    path = FOLDER / "causal.attn"
    given = arguments(path, rng, {"B": 1, "H": 2, "S": 290, "D": width})
    both(str(path), {n: cast(a, dtype) for n, a in given.items()}, dtype, rng, target=TARGET)
    assert on_warpgroups(launched) == forms  # of f16, tiles of the backward kernel may have any size


@pytest.mark.parametrize("name", ["sink", "empty rows"])
def test_several_ragged_tiles(name: str, launched: list[str]) -> None:
    rng = np.random.default_rng(3)
    program = irc.compile(text(name), target="reference")
    both(text(name), arrays(program, LENGTHS, rng, "bf16"), "bf16", rng, target=TARGET)
    assert on_warpgroups(launched) == 3


@pytest.mark.parametrize("name", ["documents", "softcap_window", "grouped_heads"])
def test_examples(name: str, launched: list[str]) -> None:
    rng = np.random.default_rng(11)
    path = FOLDER / f"{name}.attn"
    given = arguments(path, rng, {"B": 1, "H": 2, "G": 1, "S": 200, "Sq": 200, "Sk": 200, "D": 32, "window": 90})
    both(str(path), {n: cast(a, "bf16") for n, a in given.items()}, "bf16", rng, target=TARGET)
    assert on_warpgroups(launched) == 3


@pytest.mark.parametrize("name", ["causal", "documents"])
def test_no_schedule_changes_a_bit_and_no_check_finds_anything(name: str) -> None:
    path = FOLDER / f"{name}.attn"
    given = arguments(path, np.random.default_rng(5), {"B": 1, "H": 3, "S": 136, "D": 16})
    given = {n: cast(a, "bf16") for n, a in given.items()}
    program = irc.compile(path, dtype="bf16", target=TARGET)
    program(**given)
    assert_same_bits_under_every_schedule(program, given, {"D": 16}, HOPPER)
    given["v"][:, :, -1] = np.inf  # tokens that are left out of products, and cleared
    assert_same_bits_under_every_schedule(program, given, {"D": 16}, HOPPER)


def test_dots_beside_products_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    path = FOLDER / "causal.attn"
    given = arguments(path, np.random.default_rng(2), {"B": 1, "H": 1, "S": 700, "D": 64})
    given = {n: cast(a, "bf16") for n, a in given.items()}
    found, files = {}, stored.fingerprint()
    for registers in (cuda_roles.BESIDE, 1000):
        monkeypatch.setattr(cuda_roles, "BESIDE", registers)
        monkeypatch.setattr(stored, "fingerprint", lambda registers=registers: f"{files} {registers}")
        cuda.launches.cache_clear()
        program = irc.compile(path, dtype="bf16", target=TARGET)
        found[registers] = program.forward(**given).outputs
        assert ("dots_full" in program.source) == (registers < 1000)
    cuda.launches.cache_clear()
    beside, apart = found.values()
    for name, output in apart.items():
        assert np.array_equal(beside[name], output), name


@pytest.mark.parametrize("name", ["causal", "variants/sigmoid"])
def test_weights_beside_the_other_dots_change_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the backward kernels, both of which read two dots."""
    path = FOLDER / f"{name}.attn"
    given = arguments(path, np.random.default_rng(4), {"B": 1, "H": 1, "S": 200, "D": 32})
    given = {n: cast(a, "bf16") for n, a in given.items()}
    found, files = [], stored.fingerprint()
    for name, split in (("beside", cuda_warpgroups.ahead), ("after", lambda kernel, early: None)):
        monkeypatch.setattr(cuda_warpgroups, "ahead", split)
        monkeypatch.setattr(stored, "fingerprint", lambda name=name: f"{files} {name}")
        cuda.launches.cache_clear()
        program = irc.compile(path, dtype="bf16", target=TARGET)
        run = program.forward(**given)
        found.append(run.backward(**{n: np.ones_like(o) for n, o in run.outputs.items()}))
        assert program.source.count("of_first = ") == (2 if name == "beside" else 0)
    cuda.launches.cache_clear()
    for n, gradient in found[0].items():
        assert np.array_equal(gradient, found[1][n]), n


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_what_no_pair_reads_changes_no_bit(poison: float) -> None:
    assert_what_no_pair_reads_changes_no_bit("bf16", poison, TARGET, 200)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_tiles_that_are_no_power_of_two_of_columns(poison: float) -> None:
    """Queries and cotangents that are not finite change no gradient of keys that they do not see."""
    rng = np.random.default_rng(8)
    path = FOLDER / "causal.attn"
    given = arguments(path, rng, {"B": 1, "H": 1, "S": 200, "D": 128})
    given = {n: cast(a, "bf16") for n, a in given.items()}
    program = irc.compile(path, dtype="bf16", target=TARGET)
    cotangent = rng.standard_normal(given["q"].shape).astype(ml_dtypes.bfloat16)
    gradients = program.forward(**given).backward(o=cotangent)
    assert "column_first += 48" in program.source
    for name in ("q", "o"):
        moved = {"q": given["q"].copy(), "o": cotangent.copy()}
        moved[name][:, :, 30:34] = poison
        found = program.forward(**given | {"q": moved["q"]}).backward(o=moved["o"])
        for n in ("k", "v"):
            assert np.array_equal(found[n][:, :, 34:], gradients[n][:, :, 34:]), (name, n)
            assert not np.isfinite(found["k"][:, :, :30].astype(float)).all(), name
    given["q"][:, :, 30:34] = poison
    assert_same_bits_under_every_schedule(program, given, {"D": 128}, HOPPER)


def test_infinities_arrive_where_the_reference_has_them() -> None:
    assert_infinities_arrive_where_the_reference_has_them("bf16", TARGET, 200)


@pytest.mark.parametrize("name, dtype", [("causal", "bf16"), ("causal", "f16"), ("sink", "bf16"), ("map", "bf16")])
def test_scores_of_infinity(name: str, dtype: str, launched: list[str]) -> None:
    assert_agree(name, 150, 210, dtype, TARGET)
    assert on_warpgroups(launched)


def moved(array: Array) -> Array:
    """A copy that begins 2 bytes after a multiple of 16."""
    memory = np.empty(array.size + 16, array.dtype)
    first = (18 - memory.ctypes.data) % 16 // 2
    copy = memory[first : first + array.size].reshape(array.shape)
    copy[...] = array
    return copy


def laid_out(array: Array, order: tuple[int, ...]) -> Array:
    return array.transpose(order).copy().transpose(np.argsort(order))


def test_layouts(launched: list[str]) -> None:
    """Heads beside features as projections leave them; and what no bulk copy takes: tokens that are no multiple of 16
    bytes apart, and tensors that begin between such."""
    path = FOLDER / "causal.attn"
    given: Arrays = {n: a.astype(ml_dtypes.bfloat16) for n, a in arguments(
        path, np.random.default_rng(1), {"B": 1, "H": 2, "S": 200, "D": 64}).items()}  # fmt: skip
    program = irc.compile(path, dtype="bf16", target=TARGET)
    program.forward(**given)
    expected = program.forward(**given).outputs["o"]
    cases: tuple[tuple[Arrays, bool], ...] = (
        ({n: laid_out(a, (0, 2, 1, 3)) for n, a in given.items()}, True),
        (given | {"k": np.pad(given["k"], ((0, 0), (0, 0), (0, 0), (0, 1)))[..., :-1]}, False),
        (given | {"v": moved(given["v"])}, False),
    )
    for other, on_them in cases:
        launched.clear()
        got = program.forward(**other).outputs["o"]
        assert on_warpgroups(launched) == on_them
        np.testing.assert_allclose(got.astype(float), expected.astype(float), atol=2e-2)
        if on_them:
            assert np.array_equal(got, expected)


def test_few_rows_and_features_of_odd_widths_stay_in_the_other_form(launched: list[str]) -> None:
    for length, width in ((40, 64), (200, 20)):
        path = FOLDER / "causal.attn"
        given = arguments(path, np.random.default_rng(1), {"B": 1, "H": 1, "S": length, "D": width})
        irc.compile(path, dtype="bf16", target=TARGET)(**{n: cast(a, "bf16") for n, a in given.items()})
    assert on_warpgroups(launched) == 0


@pytest.mark.parametrize("dtype, width, forms", [("bf16", 256, 2), ("bf16", 1024, 0), ("f32", 64, 0), ("f64", 64, 0)])
def test_which_kernels_have_the_form(dtype: str, width: int, forms: int) -> None:
    program = irc.compile(FOLDER / "causal.attn", dtype=dtype, sizes={"D": width})
    kernels = [kernel for kernel in program.kernels if isinstance(kernel, TileKernel)]
    assert on_warpgroups([launch.name for k in kernels for launch in cuda.launches(k, HOPPER)]) == forms
    assert on_warpgroups([launch.name for k in kernels for launch in cuda.launches(k)]) == 0


@pytest.mark.parametrize(
    "name, width, beside",
    [
        ("causal", 128, 1),
        ("causal", 256, 1),
        ("masks/dilated", 128, 1),
        ("masks/sliding_tiles_video", 128, 0),
        ("variants/retention", 64, 0),
        ("variants/relu", 64, 1),
    ],
)
def test_which_kernels_multiply_beside_what_they_evaluate(name: str, width: int, beside: int) -> None:
    """The forward one alone, where registers suffice, and no sum of its rows stands in the way."""
    program = irc.compile(FOLDER / f"{name}.attn", dtype="bf16", sizes={"D": width})
    texts = [launch.text for kernel in program.kernels for launch in cuda.launches(kernel, HOPPER)]
    assert sum("dots_full" in text for text in texts) == beside
