"""Tile kernels for few rows, in the emulator: columns in parts that are merged, against the interpreter, watched."""

from __future__ import annotations

import numpy as np
import pytest

import irc
from irc.codegen import cuda, cuda_split
from irc.codegen.kernel import TileKernel
from irc.runtime.launches import blocks
from tests.cases import text
from tests.cuda.test_emulated import assert_same_bits_under_every_schedule
from tests.cuda.test_fragments import cast
from tests.test_examples import FOLDER, arguments
from tests.test_few_rows import MASKED, MASKS
from tests.test_kernels import Arrays, arrays, both, relative, widened

LONG = 3 * cuda_split.PART + 37  # keys of three parts, which end inside a tile


def sizes(rows: int, keys: int = LONG, batch: int = 1, heads: int = 4, groups: int = 2) -> dict[str, int]:
    return {"B": batch, "H": heads, "G": groups, "Sq": rows, "Sk": keys, "D": 16, "V": 24}


def ran(program: irc.Program, of: dict[str, int]) -> set[str]:
    """Launches of a program that has been called which have blocks for these sizes."""
    tiles = [kernel for kernel in program.kernels if isinstance(kernel, TileKernel)]
    return {each.name for kernel in tiles for each in cuda.launches(kernel) if blocks(each, of)}


@pytest.mark.parametrize(
    "name, dtype, rows",
    [("causal", "bf16", 1), ("sink", "f32", 3), ("empty rows", "f16", 5), ("entropy", "bf16", 2), ("sink", "f64", 2)],
)
def test_few_rows_agree_with_the_interpreter(name: str, dtype: str, rows: int) -> None:
    rng = np.random.default_rng(rows)
    program = irc.compile(text(name), target="reference")
    both(text(name), arrays(program, sizes(rows), rng, dtype), dtype, rng, target="emulator")


@pytest.mark.parametrize("dtype", ["bf16", "f32"])
def test_a_cache_in_pages_and_lengths(dtype: str) -> None:
    rng = np.random.default_rng(10)
    path = FOLDER / "paged_cache.attn"
    given = {n: cast(a, dtype) for n, a in arguments(path, rng, {"B": 2, "H": 4, "G": 2, "Sq": 2, "P": 40}).items()}
    given["len"] = np.array([5, 600], np.int32)
    both(str(path), given, dtype, rng, target="emulator")


def test_a_window_that_fewer_tiles_hold_than_there_are_parts() -> None:
    rng = np.random.default_rng(2)
    path = FOLDER / "softcap_window.attn"
    given = arguments(path, rng, {"B": 1, "H": 4, "G": 1, "Sq": 3, "Sk": LONG, "D": 16})
    both(str(path), given, "f32", rng, target="emulator")


DOCUMENTS = """
attention documents {
  size  B, H, G, Sq, Sk, D
  input q[B,H,Sq,D], k[B,G,Sk,D], v[B,G,Sk,D], of_row[B,Sq]: int, doc[B,Sk]: int
  assume nondecreasing doc[b,s] over s, H % G == 0

  core o[b,h,i,d], lse[b,h,i] {
    score  q[b,h,i,c] * k[b, h // (H // G), j, c]
    scale  1 / sqrt(D)
    allow  of_row[b,i] == doc[b,j]
    softmax j
    matmul v[b, h // (H // G), j, d]
  }
  return o, lse
}
"""


@pytest.mark.parametrize("dtype, rows", [("bf16", 2), ("f64", 2), ("f32", 40)])
def test_documents_in_order(dtype: str, rows: int) -> None:
    """Found by a search, some of them without a key, for few rows and for many."""
    rng = np.random.default_rng(rows)
    program = irc.compile(DOCUMENTS, target="reference")
    given: Arrays = arrays(program, sizes(rows, batch=2), rng, dtype)
    given["of_row"] = rng.integers(0, 8, (2, rows)).astype(np.int32)
    given["doc"] = np.sort(rng.integers(0, 6, (2, LONG)), axis=-1).astype(np.int32)
    both(DOCUMENTS, given, dtype, rng, target="emulator")


def masked(rng: np.random.Generator, dtype: str) -> tuple[irc.Program, str, Arrays]:
    """A table of pairs, in which a row has no key, and no row sees key 5; and the place of the largest score."""
    spec = MASKED.replace("MASK", MASKS["table"])
    program = irc.compile(spec, dtype=dtype, target="emulator")
    inputs: Arrays = arrays(program, sizes(3), rng, dtype)
    inputs["seen"] = rng.random((1, 3, LONG)) < 0.3
    inputs["seen"][0, 1] = inputs["seen"][..., 5] = False
    return program, spec, inputs


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_rows_without_keys_and_values_that_are_not_finite(dtype: str) -> None:
    program, spec, given = masked(np.random.default_rng(5), dtype)
    got = program.forward(**given).outputs
    wide = {n: a if a.dtype == bool else widened({n: a})[n] for n, a in given.items()}
    for name, expected in irc.compile(spec, target="reference").forward(**wide).outputs.items():
        assert relative(got[name], expected) < {"f32": 5e-6, "bf16": 1e-2}[dtype], name
    assert not got["o"][:, :, 1].any() and (got["best"][:, :, 1] == -1).all()
    poisoned = {n: a.copy() for n, a in given.items()}
    poisoned["k"][:, :, 5] = poisoned["v"][:, :, 5] = np.nan
    poisoned["t"][5] = np.inf
    for name, array in program.forward(**poisoned).outputs.items():
        assert array.tobytes() == got[name].tobytes(), name
    given["t"][:] = -np.inf  # scores of -inf are keys
    endless = program.forward(**given).outputs["o"]
    assert np.isnan(endless[:, :, [0, 2]]).all() and not endless[:, :, 1].any()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("name, dtype", [("causal", "bf16"), ("sink", "f32")])
def test_what_is_not_finite_arrives_where_the_reference_has_it(name: str, dtype: str, value: float) -> None:
    program, reference = (
        irc.compile(text(name), dtype=dtype, target="emulator"),
        irc.compile(text(name), target="reference"),
    )
    given = arrays(program, sizes(3), np.random.default_rng(0), dtype)
    for operand in ("k", "v"):
        other = {**given, operand: given[operand].copy()}
        other[operand][:, :, cuda_split.PART + 1, 3] = value  # in the second part
        with np.errstate(invalid="ignore"):
            got, wanted = program(**other)[0].astype(float), reference(**widened(other))[0]
        for kind in (np.isnan, np.isposinf, np.isneginf):
            assert np.array_equal(kind(got), kind(wanted)), operand


@pytest.mark.parametrize("dtype", ["bf16", "f64"])
def test_no_schedule_changes_a_bit_and_no_check_finds_anything(dtype: str) -> None:
    program = irc.compile(text("sink"), dtype=dtype, target="emulator")
    of = sizes(1, 2 * cuda_split.PART, heads=2, groups=1) | {"D": 8, "V": 8}
    given = arrays(program, of, np.random.default_rng(3), dtype)
    program(**given)
    assert_same_bits_under_every_schedule(program, given, {"D": 8, "V": 8})


def test_no_bit_depends_on_other_batch_entries() -> None:
    program = irc.compile(text("sink"), dtype="bf16", target="emulator")
    given = arrays(program, sizes(2, batch=3), np.random.default_rng(4), "bf16")
    together = program.forward(**given).outputs
    alone = program.forward(**{n: a[1:2] if a.ndim == 4 else a for n, a in given.items()}).outputs
    assert all(together[n][1:2].tobytes() == alone[n].tobytes() for n in together)


def test_which_calls_are_split() -> None:
    program = irc.compile(text("causal"), sizes={"D": 16, "V": 24}, target="emulator")
    rows = {name.removesuffix("_part") for name in ran(program, sizes(1)) if name.endswith("_row_part")}
    assert len(rows) == 2  # forward, and of the gradients that of queries
    for of in (sizes(1), sizes(16), sizes(2, 2 * cuda_split.PART, heads=64, groups=1)):
        assert not rows & ran(program, of)
        assert {f"{name}{which}" for name in rows for which in ("_part", "_part_merged")} <= ran(program, of)
    for of in (sizes(17), sizes(1, 2 * cuda_split.PART - 1), sizes(0)):
        assert not any(name.endswith(("_row_part", "_merged")) for name in ran(program, of))


def test_which_kernels_are_split() -> None:
    known = {"D": 16, "V": 24}
    square = text("causal").replace("Sq, Sk", "S").replace("Sq", "S").replace("Sk", "S")
    longest = irc.compile(text("max"), sizes=known, target="emulator")  # a gradient looks for its bits
    for program in (irc.compile(square, sizes=known, target="emulator"), longest):
        assert not any(name.endswith("_merged") for name in ran(program, sizes(1) | {"S": LONG}))


def test_heads_of_a_group_are_rows_of_one_block() -> None:
    program = irc.compile(text("full"), sizes={"D": 16, "V": 24}, target="emulator")
    launches = [each for kernel in program.kernels for each in cuda.launches(kernel)]
    for heads, groups, expected in ((4, 2, 2 * 3), (4, 4, 4 * 3), (64, 1, 1 * 3), (192, 2, 2 * 2 * 3)):
        of = sizes(1, heads=heads, groups=groups)
        found = {blocks(each, of) for each in launches if each.name.endswith("_row_part")}
        assert found == {expected}, (heads, groups)
