"""Programs on a CUDA device through pycuda, unmodified: the machine's own, or the emulated driver."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import irc
from irc.runtime.arrays import DTYPE, Array
from irc.runtime.cuda import tensor_map
from tests.cases import text
from tests.test_examples import FOLDER, arguments, fixed
from tests.test_kernels import SIZES, arrays, both, relative

KINDS = (
    "causal",
    "documents",
    "relative_bias",
    "paged_cache",
    "rotary",
    "variants/dropout",
    "differential",
    "softcap_window",
    "gpt2",
    "minilm/minilm",
)

pytestmark = pytest.mark.usefixtures("device")


@pytest.mark.parametrize("name", KINDS)
def test_programs_agree_with_the_interpreter(name: str) -> None:
    path = FOLDER / f"{name}.attn"
    rng = np.random.default_rng(11)
    given = arguments(path, rng)
    if name == "variants/dropout":
        given["p"] = np.float32(0.3)
    both(str(path), given, "f32", rng, fixed(path), target="cuda")


@pytest.mark.parametrize("dtype", ["f64", "bf16", "f16"])
@pytest.mark.parametrize("name", ["causal", "table"])
def test_element_types(name: str, dtype: str) -> None:
    rng = np.random.default_rng(3)
    sizes = {**SIZES[1], "Sq": 40, "Sk": 67}
    program = irc.compile(text(name), target="reference")
    both(text(name), arrays(program, sizes, rng, dtype), dtype, rng, target="cuda")


def test_tiles_of_the_devices_architecture() -> None:
    rng = np.random.default_rng(3)
    given = {n: rng.standard_normal((1, 2, 200, 64)).astype(ml_dtypes.bfloat16) for n in "qkv"}
    both(str(FOLDER / "causal.attn"), given, "bf16", rng, target="cuda")


def test_layouts_that_the_driver_has_no_map_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The form for all layouts runs."""
    monkeypatch.setattr(tensor_map, "SWIZZLES", {128: 9})
    tensor_map.encoded.cache_clear()
    test_tiles_of_the_devices_architecture()
    tensor_map.encoded.cache_clear()


@pytest.mark.parametrize("number", (2, 3, 4))
def test_sides_of_one_position_and_of_none(number: int) -> None:
    rng = np.random.default_rng(number)
    program = irc.compile(text("table"), target="reference")
    both(text("table"), arrays(program, SIZES[number], rng), "f32", rng, target="cuda")


@pytest.mark.parametrize("dtype", ["bf16", "f64"])
def test_few_rows_whose_columns_are_split(dtype: str) -> None:
    rng = np.random.default_rng(4)
    sizes = {"B": 2, "H": 4, "G": 2, "Sq": 2, "Sk": 600, "D": 16, "V": 24}
    program = irc.compile(text("sink"), target="reference")
    both(text("sink"), arrays(program, sizes, rng, dtype), dtype, rng, target="cuda")


class Elsewhere:
    """An array on the device, of a library that nobody knows."""

    def __init__(self, values: Array, strides: tuple[int, ...] | None = None, device: int = 0) -> None:
        import pycuda.driver as driver

        from irc.runtime.cuda.device import find

        with find(device).running(()):
            self.memory = driver.mem_alloc(values.nbytes)
            driver.memcpy_htod(self.memory, np.ascontiguousarray(values).reshape(-1).view(np.uint8))
        self.__cuda_array_interface__ = {
            "data": (int(self.memory), False),
            "shape": values.shape,
            "strides": strides,
            "typestr": values.dtype.str,
            "version": 3,
        }


def on_host(value: Any) -> Array:
    import pycuda.driver as driver

    from irc.runtime.cuda import device

    given = value.__cuda_array_interface__
    made = np.empty(given["shape"], value.dtype)
    assert given["strides"] == made.strides
    with device.find().running(()):
        driver.memcpy_dtoh(made.reshape(-1).view(np.uint8), given["data"][0])
    return made


def drawn(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_arrays_on_the_device_are_used_in_place_and_results_stay_there() -> None:
    program = irc.compile(FOLDER / "causal.attn", target="cuda")
    given = {n: drawn(1, 2, 37, 8) for n in "qkv"}
    expected = program.forward(**given)
    wanted = expected.backward(o=given["q"])
    run = program.forward(**{n: Elsewhere(a) for n, a in given.items()})
    assert on_host(run.outputs["o"]).tobytes() == expected.outputs["o"].tobytes()
    gradients = run.backward(o=Elsewhere(given["q"]))
    for name, gradient in wanted.items():
        assert on_host(gradients[name]).tobytes() == gradient.tobytes(), name


def test_arrays_of_other_layouts_and_integers_of_other_widths() -> None:
    rng = np.random.default_rng(1)
    path = FOLDER / "documents.attn"
    given = arguments(path, rng)
    program = irc.compile(path, target="cuda")
    expected = program(**given)
    q = given["q"]
    apart = np.repeat(q, 2, axis=-1)  # every second number of each row
    steps = tuple(np.array(apart.strides) * np.array((*[1] * (q.ndim - 1), 2)))
    moved = Elsewhere(apart)
    moved.__cuda_array_interface__ |= {"shape": q.shape, "strides": steps}
    wide = {n: a.astype(np.int64) for n, a in given.items() if a.dtype == np.int32}
    got = program(**{n: Elsewhere(a) for n, a in (given | wide).items() if n != "q"}, q=moved)
    assert on_host(got).tobytes() == expected.tobytes()


def test_bf16_and_booleans_on_the_device() -> None:
    source = """
attention seen {
  size B, H, S, D
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D], seen[B,S]: bool
  core o[b,h,i,d] {
    score q[b,h,i,c] * k[b,h,j,c]
    allow seen[b,j]
    softmax j
    matmul v[b,h,j,d]
  }
  return o
}
"""
    program = irc.compile(source, dtype="bf16", target="cuda")
    given: dict[str, Array] = {n: drawn(1, 2, 21, 16).astype(ml_dtypes.bfloat16) for n in "qkv"}
    given["seen"] = np.arange(21)[None] % 3 != 0
    expected = program(**given)
    got = program(**{n: Elsewhere(a) for n, a in given.items()})
    assert got.dtype == DTYPE["bf16"]
    assert on_host(got).tobytes() == expected.tobytes()


def test_forward_mode_and_second_derivatives() -> None:
    rng = np.random.default_rng(0)  # numbers that differ: with q for k, what is left of these sums is rounding
    q, k, v, moves = rng.standard_normal((4, 1, 2, 21, 8)).astype(np.float32)
    given, along, found = {"q": q, "k": k, "v": v}, {"q": moves}, []
    for target in ("cuda", "cpu"):
        program = irc.compile(FOLDER / "causal.attn", target=target)
        moved = program.jvp(given, along)[1]
        found.append((moved, program.hvp(given, along, {"o": given["v"]})))
    for got, wanted in zip(*found, strict=True):
        for name, value in wanted.items():
            assert relative(got[name], value) < 5e-6, name


def test_the_same_program_on_several_threads() -> None:
    from concurrent.futures import ThreadPoolExecutor

    program = irc.compile(FOLDER / "causal.attn", target="cuda")
    given = [{n: drawn(1, 1, 10 + s, 8) for n in "qkv"} for s in range(4)]
    expected = [program(**g)[0] for g in given]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda g: program(**g)[0], given * 3))
    for n, output in enumerate(got):
        assert output.tobytes() == expected[n % 4].tobytes()


def test_an_assumption_on_a_table_of_the_device_is_checked() -> None:
    path = FOLDER / "documents.attn"
    given = arguments(path, np.random.default_rng(1))
    table = next(n for n, a in given.items() if a.dtype == np.int32)
    given[table] = np.arange(given[table].size, 0, -1, dtype=np.int32).reshape(given[table].shape)
    program = irc.compile(path, target="cuda")
    with pytest.raises(irc.InputError, match="assumes"):
        program(**{n: Elsewhere(a) for n, a in given.items()})
