"""CUDA kernels in the emulator against the interpreter, forward and backward; and watched, under drawn schedules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import irc
from irc import pipeline
from irc.codegen import cuda
from irc.codegen.kernel import TileKernel
from irc.runtime.emulated import Library
from irc.runtime.emulator import EmulatorError
from irc.runtime.launches import rendered
from tests.cases import text
from tests.test_examples import EXAMPLES, FOLDER, arguments, fixed
from tests.test_kernels import SIZES, arrays, both


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_every_example_agrees_with_the_interpreter(path: Path) -> None:
    rng = np.random.default_rng(11)
    both(str(path), arguments(path, rng), "f32", rng, fixed(path), target="emulator")


@pytest.mark.parametrize("dtype", ["f64", "bf16", "f16"])
@pytest.mark.parametrize("name", ["causal", "table", "sink"])
def test_element_types(name: str, dtype: str) -> None:
    rng = np.random.default_rng(3)
    sizes = {**SIZES[1], "Sq": 40, "Sk": 67}
    program = irc.compile(text(name), target="reference")
    both(text(name), arrays(program, sizes, rng, dtype), dtype, rng, target="emulator")


@pytest.mark.parametrize("number", (2, 3, 4))
@pytest.mark.parametrize("name", ["causal", "table"])
def test_sides_of_one_position_and_of_none(name: str, number: int) -> None:
    rng = np.random.default_rng(number)
    program = irc.compile(text(name), target="reference")
    both(text(name), arrays(program, SIZES[number], rng), "f32", rng, target="emulator")


ENTRIES = """
attention entries {
  size S, D, R
  input q[S,D], k[S,D], v[S,D], a[S]: int
  param t[R]
  core o[i,d] {
    score q[i,c] * k[j,c]
    bias t[PLACE]
    allow PAIRS
    softmax j
    matmul v[j,d]
  }
  return o
}
"""


@pytest.mark.parametrize(
    ("place", "pairs", "most"),
    [
        ("j % R", "a[i] * a[j] >= 2000000000", 10**5),
        ("clamp(a[i] - a[j], 0, R - 1)", "(a[i] + a[j]) // 2 >= 0", 2**31),
        ("(a[i] * a[j]) % R", "max(a[i] + a[j], 5) > 5", 2**31),
        ("(a[i] * j) % R", "(a[i] * a[j]) % 7 != 0", 2**31),
        ("(j * a[i]) % R", "abs(a[i] - a[j]) * 100000 < 2000000000", 10**6),
    ],
)
def test_what_is_made_of_two_entries_may_need_more_than_32_bits(place: str, pairs: str, most: int) -> None:
    spec, rng = ENTRIES.replace("PLACE", place).replace("PAIRS", pairs), np.random.default_rng(8)
    given = arrays(irc.compile(spec, target="reference"), {"S": 20, "D": 8, "R": 7}, rng)
    given["a"] = rng.integers(0 if most < 2**31 else -most, most, 20).astype(np.int32)
    both(spec, given, "f32", rng, target="emulator")


FEATURES = """
attention features {
  size S, D, R, V
  input q[S,D], k[S,D], v[S,V], qr[S,R], kr[S,R], b[S]
  core o[i,d], lse[i] {
    score q[i,c] * k[j,c] + qr[i,r] * kr[j,r]
    bias b[j]
    softmax j
    matmul v[j,d]
  }
  return o, lse
}
"""


@pytest.mark.parametrize("target", ["cpu", "emulator"])
@pytest.mark.parametrize("none", ["R", "D", "V"])
def test_without_features(none: str, target: str) -> None:
    """A sum over nothing is 0."""
    rng = np.random.default_rng(9)
    sizes = {"S": 20, "D": 8, "R": 8, "V": 8, none: 0}
    both(FEATURES, arrays(irc.compile(FEATURES, target="reference"), sizes, rng), "f32", rng, target=target)


@pytest.mark.parametrize("name", ["causal", "documents", "relative_bias"])
def test_no_schedule_changes_a_bit_and_no_check_finds_anything(name: str) -> None:
    """Races, accesses outside, memory read before it is written: the emulator would raise EmulatorError."""
    path = FOLDER / f"{name}.attn"
    given = arguments(path, np.random.default_rng(5), {"B": 1, "H": 2, "S": 37, "Sq": 37, "Sk": 37, "D": 8, "R": 5})
    program = irc.compile(path, target="emulator")
    program.forward(**given)
    assert_same_bits_under_every_schedule(program, given, {n: 8 for n in program.features})


def assert_same_bits_under_every_schedule(
    program: irc.Program, given: dict[str, Any], sizes: dict[str, int], architecture: str = cuda.LEAST
) -> None:
    """In a checked build, forward and backward, with kernels for these sizes."""
    found = []
    for seed in range(11):
        program.measured_through(sizes, Library(program.source, True, seed, architecture))
        run = program.forward(**given)
        cotangents = {n: np.ones_like(o) for n, o in run.outputs.items()}
        found.append([a.tobytes() for a in (*run.outputs.values(), *run.backward(**cotangents).values())])
    assert all(bits == found[0] for bits in found)


PICKED = """
attention picked {
  size   B, H, S, T, N, D
  input  q[B,H,S,D], k[B,H,T,D], v[B,H,T,D], top[B,S,N]: int
  assume 0 <= top[b,i,n] < T
  core o[b,h,i,d] {
    score  q[b,h,i,c] * k[b,h,top[b,i,n],c]
    softmax n
    matmul v[b,h,top[b,i,n],d]
  }
  return o
}
"""


def test_owners_add_up_what_queries_picked() -> None:
    """Two tiles of elements, and points of two steps; nothing depends on who comes first."""
    rng = np.random.default_rng(4)
    program = irc.compile(PICKED, sizes={"D": 4}, target="emulator")
    sizes = {"B": 1, "H": 2, "S": 30, "T": 40, "N": 18, "D": 4}
    given = arrays(program, sizes, rng, "f32") | {"top": rng.integers(0, 40, (1, 30, 18)).astype(np.int32)}
    both(PICKED, given, "f32", rng, {"D": 4}, target="emulator")
    assert program.source.count("point_of_found[at] =") == 2
    assert_same_bits_under_every_schedule(program, given, {})


FACTORS = """
attention factors {
  size  B, H, S, D
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D], g[B,H,S,D]
  param w[H,D]
  core o[b,h,i,d] {
    score  q[b,h,i,c] * g[b,h,i,c] * w[h,c] * k[b,h,j,c]
    allow  j <= i and j != 1 and i != 3
    softmax j
    matmul v[b,h,j,d]
  }
  return o
}
"""


def test_factors_of_a_query_are_left_out_of_its_sums() -> None:
    """Their gradients are one matrix product for all of them; a row without keys has none, whatever the factors."""
    rng = np.random.default_rng(1)
    program = irc.compile(FACTORS, sizes={"D": 8}, target="emulator")
    given = arrays(program, {"B": 1, "H": 2, "S": 21, "D": 8}, rng, "f32")
    both(FACTORS, given, "f32", rng, {"D": 8}, target="emulator")
    kernels = [kernel for kernel in program.kernels if isinstance(kernel, TileKernel)]
    assert all(kernel.order != "elements" for kernel in kernels)
    given["g"][:, :, 3] = np.inf
    run = program.forward(**given)
    assert all(np.isfinite(run.backward(o=np.ones_like(run.outputs["o"]))[n]).all() for n in "kvw")


@pytest.mark.parametrize("width, sides", [(1024, {"column"}), (2048, {"row", "column"})])
def test_panels_that_do_not_fit_are_read_where_they_lie(width: int, sides: set[str]) -> None:
    rng = np.random.default_rng(width)
    program = irc.compile(FOLDER / "causal.attn", dtype="f64", target="emulator")
    given = arrays(program, {"B": 1, "H": 1, "S": 35, "D": width}, rng, "f64")
    both(str(FOLDER / "causal.attn"), given, "f64", rng, target="emulator")
    kernels = program.built({"D": width}).kernels.values()
    text = "".join(launch.text for kernel in kernels for launch in cuda.launches(kernel))
    assert {side for side in ("row", "column") if f"int64_t {side}_at, int feature_at" in text} == sides


def test_no_cpp_is_made_for_a_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nor does what is kept for one target stand in for another's."""
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path))
    made: list[object] = []
    honest = pipeline.render_runs
    monkeypatch.setattr(pipeline, "render_runs", lambda *given: made.append(given) or honest(*given))
    sources = []
    for target, count in (("emulator", 0), ("cpu", 1), ("emulator", 1), ("cpu", 1)):
        sources.append(irc.compile(FOLDER / "causal.attn", sizes={"D": 8}, target=target).source)
        assert len(made) == count
    assert sources[:2] == sources[2:] and sources[0] != sources[1]


@pytest.mark.parametrize("target", ("emulator", "emulator:sm_90a"))
def test_what_is_stored_is_not_rendered_again(target: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path))
    given = {"sizes": {"D": 64}, "dtype": "bf16", "target": target}
    first = irc.compile(FOLDER / "causal.attn", **given)
    made = {k.name: cuda.made(k, target.partition(":")[2] or cuda.LEAST) for k in first.kernels}
    monkeypatch.setattr(cuda, "launches", None)
    monkeypatch.setattr(cuda, "render", None)
    again = irc.compile(FOLDER / "causal.attn", **given)
    assert again.source == first.source
    library = again.built({}).library
    assert isinstance(library, Library)
    for kernel in again.kernels:
        assert rendered(kernel, library.architecture, library.known) == made[kernel.name]


def test_a_barrier_that_is_missing_is_found() -> None:
    given = arguments(FOLDER / "causal.attn", np.random.default_rng(5))
    program = irc.compile(FOLDER / "causal.attn", target="emulator")
    program(**given)
    broken = program.source.replace("__syncthreads();", "")
    program.measured_through({n: 8 for n in program.features}, Library(broken, check=True))
    with pytest.raises(EmulatorError, match="causal"):
        program(**given)


def test_what_a_blocked_pair_holds_reaches_nothing() -> None:
    """NaN and infinity in keys and values that the mask hides from every row but the last."""
    rng = np.random.default_rng(6)
    q, k, v = (rng.standard_normal((1, 2, 37, 8)).astype(np.float32) for _ in range(3))
    program = irc.compile(FOLDER / "causal.attn", target="emulator")
    clean = program.forward(q=q, k=k, v=v).outputs["o"]
    k[:, :, -1], v[:, :, -1] = np.nan, np.inf
    spoilt = program.forward(q=q, k=k, v=v).outputs["o"]
    assert np.array_equal(spoilt[:, :, :-1], clean[:, :, :-1])
    assert np.isnan(spoilt[:, :, -1]).all()


def test_panels_that_leave_room_for_fewer_rows() -> None:
    """Heads that are mixed, 384 features a token: with 16 rows a block takes more than an sm_80 has."""
    path = FOLDER / "variants" / "talking_heads.attn"
    rng = np.random.default_rng(8)
    given = arguments(path, rng, {"B": 1, "H": 3, "S": 21, "D": 128})
    both(str(path), given, "f32", rng, target="emulator")


@pytest.mark.parametrize("length", [1, 32, 33, 300])
def test_documents_are_found_wherever_they_begin(length: int) -> None:
    """Documents of one token, of a few, and one alone, in 32-ary searches of one round and of two."""
    path, rng = FOLDER / "documents.attn", np.random.default_rng(length)
    given = arguments(path, rng, {"B": 3, "H": 1, "S": length, "D": 8})
    at = np.arange(length)
    given["doc"] = np.stack([at - 7, np.sort(rng.integers(0, 40, length)), 0 * at]).astype(np.int32)
    both(str(path), given, "f32", rng, target="emulator")


def test_forward_mode() -> None:
    rng = np.random.default_rng(7)
    given = {n: rng.standard_normal((1, 2, 21, 8)).astype(np.float32) for n in "qkv"}
    along = {"q": rng.standard_normal((1, 2, 21, 8)).astype(np.float32)}
    got, cpu = (irc.compile(FOLDER / "causal.attn", target=t).jvp(given, along)[1] for t in ("emulator", "cpu"))
    for name, moved in cpu.items():
        np.testing.assert_allclose(got[name], moved, rtol=2e-5, atol=2e-6)
