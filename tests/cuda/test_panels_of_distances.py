"""Vectors that pairs choose by their distance, on CUDA: panels of distances, on tensor cores and in plain CUDA, give
what the interpreter does, under every schedule, and what no pair reads changes no bit."""

from __future__ import annotations

import re

import numpy as np
import pytest

import irc
from irc.codegen import cuda
from irc.codegen.kernel import Dot, RowProduct, TileKernel
from irc.codegen.panels import of_distances
from tests.cuda.test_emulated import assert_same_bits_under_every_schedule
from tests.cuda.test_fragments import FORMS, forms
from tests.test_distances import CLIPPED, MASKED, MASKS, assert_poison_changes_no_bit, given, spec
from tests.test_examples import FOLDER
from tests.test_kernels import Arrays, arrays, both

FOUR = spec().replace("+ u[h,c] * l", "+ (q[b,h,i,c] + u[h,c]) * l")  # no sum is of a distance alone
SIZES = {"B": 1, "H": 2, "Sq": 70, "Sk": 130, "D": 16, "E": 24}  # two tiles of rows, three and more of columns


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("dtype", FORMS)
def test_kernels_agree_with_the_interpreter(dtype: str, mask: str) -> None:
    rng = np.random.default_rng(1)
    both(spec(mask), given(SIZES, rng, dtype), dtype, rng, target="emulator")


@pytest.mark.parametrize("sizes", [{"Sq": 1, "Sk": 1}, {"Sq": 64, "Sk": 64}, {"Sq": 5, "Sk": 600}, {"Sq": 90, "Sk": 3}])
def test_sides_of_other_lengths(sizes: dict[str, int]) -> None:
    rng = np.random.default_rng(2)
    both(spec(), given(SIZES | sizes, rng), "f32", rng, target="emulator")


@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_plain_cuda(dtype: str) -> None:
    """Sums in double, and panels too wide for tensor cores, some for shared memory: these are read where they lie."""
    rng, width = np.random.default_rng(3), 16 if dtype == "f64" else 200
    sizes = SIZES | {"H": 1, "Sk": 75, "D": width, "E": width}
    both(FOUR, given(sizes, rng, dtype), dtype, rng, target="emulator")
    program = irc.compile(FOUR, dtype=dtype, sizes={"D": width, "E": width}, target="emulator")
    assert "" in forms(program).values()
    texts = [launch.text for kernel in program.kernels for launch in cuda.launches(kernel)]
    assert any("int64_t row__distance, int feature_at" in text for text in texts) == (dtype == "f32")


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_every_kernel_has_panels_of_distances_on_tensor_cores(dtype: str) -> None:
    """Of heads of 64. Gradients of four vectors are too many for one launch; each is once."""
    program = irc.compile(FOUR, dtype=dtype, sizes={"D": 64, "E": 64}, target="emulator")
    kernels = [kernel for kernel in program.kernels if isinstance(kernel, TileKernel)]
    for kernel in kernels:
        apart = of_distances(kernel)
        assert kernel.order != "elements"
        assert any(isinstance(s, Dot) and {s.row, s.column} & apart for s in kernel.body)
    assert "" not in {form for name, form in forms(program).items() if not name.endswith("_merged")}
    assert any(isinstance(s, RowProduct) and s.panel in of_distances(kernels[0]) for s in kernels[0].body)
    results = sum(isinstance(s, RowProduct) for s in kernels[-1].body)
    launched = [launch for launch in cuda.launches(kernels[-1]) if "_part" not in launch.name]
    assert results == 4 and len(launched) > 1
    assert not any("distances" in name and "_part" in name for name in forms(program))  # there are more than keys
    assert sum(len(re.findall(r"float row_result_\d+\[8\]", launch.text)) for launch in launched) == results


@pytest.mark.parametrize("dtype", ["bf16", "f32"])
def test_panels_for_one_tile_that_products_read(dtype: str) -> None:
    """Heads so wide that there is no room for the next tile's."""
    rng, width = np.random.default_rng(8), 128 if dtype == "bf16" else 64
    path = FOLDER / "variants" / "relative_values.attn"
    program = irc.compile(path, dtype=dtype, sizes={"D": width}, target="emulator")
    sizes = {"B": 1, "H": 1, "S": 75, "D": width, "R": 40}
    both(str(path), arrays(program, sizes, rng, dtype), dtype, rng, target="emulator")
    again = "__syncthreads();\n      if (ahead < walk_end) fill_again(ahead);\n      ptx::cp_async_commit();\n"
    (forward,) = cuda.launches(program.kernels[0])
    assert forward.text.index("irc::to_band") < forward.text.index(again)


@pytest.mark.parametrize("length", [1, 2, 90])
def test_distances_that_meet_at_the_ends_of_tables_or_lie_beyond(length: int) -> None:
    rng = np.random.default_rng(4)
    inputs = {n: rng.standard_normal((2, length, 16)).astype(np.float32) for n in "qkv"}
    inputs |= {
        n: rng.standard_normal((m, 16)).astype(np.float32) for n, m in (("far", 9), ("near", 4), ("step", length))
    }
    inputs["bucket"] = rng.integers(0, 4, length).astype(np.int32)
    both(CLIPPED, inputs, "f32", rng, target="emulator")


def short(dtype: str, length: int = 80) -> Arrays:
    return given({"B": 1, "H": 1, "Sq": length, "Sk": length, "D": 16, "E": 16}, np.random.default_rng(5), dtype)


@pytest.mark.parametrize("dtype", [*FORMS, "f64"])
def test_no_schedule_changes_a_bit_and_no_check_finds_anything(dtype: str) -> None:
    program = irc.compile(spec(), dtype=dtype, target="emulator")
    inputs = short(dtype, 40 if dtype == "f64" else 80)
    program(**inputs)
    assert_same_bits_under_every_schedule(program, inputs, {n: 16 for n in program.features})


@pytest.mark.parametrize("poison", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", [*FORMS, "f64"])
def test_what_only_blocked_pairs_read_changes_no_bit(poison: float, dtype: str) -> None:
    program = irc.compile(spec(MASKED), dtype=dtype, target="emulator")
    assert_poison_changes_no_bit(program, short(dtype, 100), 100, poison)


@pytest.mark.parametrize("dtype", FORMS)
def test_what_is_not_finite_reaches_the_pairs_that_read_it(dtype: str) -> None:
    """Also without a mask, where the tiles are whole."""
    program = irc.compile(spec(""), dtype=dtype, target="emulator")
    inputs = short(dtype, 96)
    inputs["late"][96 + 7, 3] = np.inf
    out = program(**inputs)[0].astype(np.float64)
    i, d = np.indices(out.shape[2:])
    assert np.array_equal(np.isposinf(out[0, 0]), (i >= 7) & (d == 3))
    inputs["late"][96 + 7, 3], inputs["left"][0, 96 + 50, 2] = 0, np.nan
    out = program(**inputs)[0].astype(np.float64)
    assert np.isnan(out[0, 0, 50:]).all() and np.isfinite(out[0, 0, :50]).all()
