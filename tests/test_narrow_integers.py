"""Integers of 8 and 16 bits: read where they lie, by kernels of their own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import irc
from irc.calls.program import Program
from irc.export.export import export
from irc.runtime.arrays import address
from tests.test_export import Exported, agree, sizes_of
from tests.test_kernels import DTYPE, TOLERANCE, relative
from tests.test_random_kernels import cast
from tests.variants import FOLDER

Arrays = dict[str, np.ndarray[Any, Any]]
TYPES = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64)
CACHE = FOLDER / "quantised_cache.attn"
CHOSEN = """
attention chosen {
  size  B, S, N, D
  input q[B,S,D], k[B,S,D], v[B,S,D], value[N]
  input group[B,S]: int, entry[B,S]: int
  assume 0 <= entry[b,s] < N, group[b,s] + entry[b,s] >= 0
  core o[b,i,d] {
    score q[b,i,c] * k[b,j,c]
    bias  value[entry[b,j]] * (group[b,i] - group[b,j])
    allow group[b,i] == group[b,j] or entry[b,j] == 3
    softmax j
    matmul v[b,j,d]
  }
  return o
}
"""


def cache(rng: np.random.Generator, rows: int, keys: int, dtype: str, whole: tuple[type, type]) -> Arrays:
    """Arguments, the keys' memory in another order."""
    b, h, g, d = 2, 4, 2, 20
    k, v = (rng.integers(max(-120, np.iinfo(t).min), 120, (b, keys, g, d)).astype(t) for t in whole)
    floats = {"q": (b, h, rows, d), "kscale": (b, g, d), "vscale": (b, g, keys)}
    drawn = {
        n: (rng.standard_normal(shape) / (1 if n == "q" else 64)).astype(DTYPE[dtype]) for n, shape in floats.items()
    }
    return drawn | {"k": k.transpose(0, 2, 1, 3), "v": np.ascontiguousarray(v.transpose(0, 2, 1, 3))}


def compare(program: Program, inputs: Arrays, dtype: str, rng: np.random.Generator) -> None:
    """With the interpreter, forward and backward."""
    reference = irc.compile(program.text.text, target="reference")
    expected = reference.forward(**{n: cast(a, np.float64) for n, a in inputs.items()})
    run = program.forward(**inputs)
    assert relative(run.outputs["o"], expected.outputs["o"]) < TOLERANCE[dtype]
    cotangent = rng.standard_normal(expected.outputs["o"].shape).astype(DTYPE[dtype])
    wanted = expected.backward(o=cotangent.astype(np.float64))
    for name, gradient in run.backward(o=cotangent).items():
        assert relative(gradient, wanted[name]) < 3 * TOLERANCE[dtype], name


@pytest.mark.parametrize("dtype", ("f32", "bf16", "f64"))
def test_a_cache_of_any_integers_means_the_same(dtype: str) -> None:
    """Few rows and many, features that fill no vector, and layouts that are not row-major."""
    rng, program = np.random.default_rng(1), irc.compile(CACHE, dtype=dtype, sizes={"D": 20})
    for n, keys in enumerate(TYPES):
        for rows in (1, 37):
            compare(program, cache(rng, rows, 53, dtype, (keys, TYPES[n - 1])), dtype, rng)


def test_a_device_reads_them_too() -> None:
    rng, program = np.random.default_rng(2), irc.compile(CACHE, target="emulator", sizes={"D": 20})
    compare(program, cache(rng, 3, 21, "f32", (np.int8, np.uint8)), "f32", rng)
    compare(program, cache(rng, 3, 21, "f32", (np.uint16, np.int16)), "f32", rng)


def test_they_are_read_where_they_lie() -> None:
    rng, program = np.random.default_rng(3), irc.compile(CACHE, sizes={"D": 20})
    inputs = cache(rng, 1, 40, "f32", (np.int8, np.int8))
    run = program.forward(**inputs)
    assert run._tensors.places["k"] == address(inputs["k"]) and "int8_t" in program.source
    before = run.outputs["o"].copy()
    inputs["v"][:] = 0
    assert before.any() and not program(**inputs).any()


@pytest.mark.parametrize("whole", TYPES)
def test_tables_of_masks_and_biases(whole: type) -> None:
    rng, program = np.random.default_rng(4), irc.compile(CHOSEN)
    floats = {n: rng.standard_normal((2, 45, 8)).astype(np.float32) for n in "qkv"}
    inputs = floats | {"value": rng.standard_normal(300).astype(np.float32)}
    inputs |= {n: rng.integers(0, 6, (2, 45)).astype(whole) for n in ("group", "entry")}
    compare(program, inputs, "f32", rng)


def test_what_a_program_assumes_of_them_is_computed_in_whole() -> None:
    """100 + 100 is no int8, and 300 entries are more than a uint8 tells."""
    program, x = irc.compile(CHOSEN), np.zeros((1, 4, 8), np.float32)
    inputs = {"q": x, "k": x, "v": x, "value": np.zeros(300, np.float32)}
    hundred = np.full((1, 4), 100, np.int8)
    assert not program(**inputs, group=hundred, entry=hundred).any()
    with pytest.raises(irc.InputError, match="group"):
        program(**inputs, group=-hundred, entry=hundred // 2)
    with pytest.raises(irc.InputError, match="entry"):
        program(**inputs, group=hundred, entry=-hundred)


def test_forward_mode() -> None:
    rng, program = np.random.default_rng(5), irc.compile(CACHE, sizes={"D": 20})
    inputs = cache(rng, 5, 30, "f32", (np.int8, np.uint8))
    along = {"q": rng.standard_normal(inputs["q"].shape).astype(np.float32)}
    _, moved = program.jvp(inputs, along)
    wide = inputs | {n: inputs[n].astype(np.int32) for n in "kv"}
    assert np.allclose(moved["o"], program.jvp(wide, along)[1]["o"], rtol=1e-5, atol=1e-6)


def test_a_library_for_c_takes_the_types_that_it_is_made_for(tmp_path: Path) -> None:
    rng, program = np.random.default_rng(6), irc.compile(CHOSEN, sizes={"D": 8})
    inputs = {n: rng.standard_normal((2, 45, 8)).astype(np.float32) for n in "qkv"}
    inputs |= {"value": rng.standard_normal(300).astype(np.float32)}
    inputs |= {
        "group": rng.integers(0, 6, (2, 45)).astype(np.int8),
        "entry": rng.integers(0, 250, (2, 45)).astype(np.uint8),
    }
    exported = Exported(program, tmp_path, {"group": "i8", "entry": "u8"})
    arrays = agree(exported, inputs)
    arrays["group"][1, 3], arrays["entry"][1, 3] = -100, 50
    assert "group" in exported.error(
        exported.run("forward", sizes_of(program, inputs), arrays, np.zeros(10**6, np.uint8))
    )
    for name, type_, message in (
        ("q", "i8", "type of q: chosen has no tensor of integers of that name; those are group, entry"),
        ("group", "int8", "type of group: expected i8, u8, i16, u16 or i32, got int8"),
    ):
        with pytest.raises(irc.InputError, match=message):
            export(program, tmp_path, {name: type_})


FOUR_BITS = """
attention four_bits {
  size  B, H, G, Sq, T, C
  input q[B,H,Sq,2,C], k[B,G,T,C]: int, v[B,G,T,C]: int, kscale[B,G,T], vscale[B,G,T]
  assume H % G == 0
  core o[b,h,i,n,d] over j: T, n: 2 {
    let g = h // (H // G)
    align last
    score (q[b,h,i,0,c] * (k[b,g,j,c] % 16 - 8) + q[b,h,i,1,c] * (k[b,g,j,c] // 16 - 8)) * kscale[b,g,j]
    scale 1 / sqrt(2 * C)
    allow j <= pos(i)
    softmax j
    matmul (where(n == 0, v[b,g,j,d] % 16, v[b,g,j,d] // 16) - 8) * vscale[b,g,j]
  }
  return o
}
"""


@pytest.mark.parametrize("target", ("cpu", "emulator"))
@pytest.mark.parametrize("whole", (np.uint8, np.int8, np.int32))
def test_two_numbers_of_4_bits_in_one_of_8(target: str, whole: type) -> None:
    """Divided in 32 bits, where these hold the quotients of all entries; the halves of a value in a loop each."""
    rng, program = np.random.default_rng(7), irc.compile(FOUR_BITS, target=target, sizes={"C": 8})
    for rows in (1, 18):
        floats = {"q": (1, 4, rows, 2, 8), "kscale": (1, 2, 21), "vscale": (1, 2, 21)}
        inputs = {n: rng.standard_normal(shape).astype(np.float32) / 8 for n, shape in floats.items()}
        least = -128 if np.iinfo(whole).min else 0
        inputs |= {n: rng.integers(least, least + 256, (1, 2, 21, 8)).astype(whole) for n in "kv"}
        compare(program, inputs, "f32", rng)
    if target == "cpu":
        quotients = re.findall(r"floordiv\((int32_t|irc::load<int64_t>)\(", program.source)
        assert set(quotients) == {"int32_t"}
