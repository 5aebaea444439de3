"""Products in AMX's matrix registers, as machine code: where the processor has none, its instructions are emulated."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import irc
from irc.runtime import machine, toolchain
from irc.runtime.arrays import DTYPE
from irc.runtime.peak import Peak
from irc.runtime.products import multiplier
from tests.codegen.test_forms import SIZES, SPEC
from tests.codegen.test_guard import no_bit_changes
from tests.runtime.test_matrices import matrices
from tests.test_kernels import arrays, both

EMULATOR = Path(__file__).parent / "amx" / "emulator.cpp"
TABLE = """
attention table {
  size B, H, S, D, R
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]
  param keys[R,D]
  core o[b,h,i,d], lse[b,h,i] {
    score q[b,h,i,c] * k[b,h,j,c] + q[b,h,i,c] * keys[clamp(i - j, 0, R - 1),c]
    allow j <= i
    softmax j
    matmul v[b,h,j,d]
  }
  return o, lse
}
"""
# Kernels take dot products of AVX512-BF16 too, as all processors with AMX have; others compile a form of their own.
HAS_PAIRS = "avx512_bf16" in machine._text(machine.PROCESSOR)
FLAGS = "-mamx-tile -mamx-bf16 -DIRC_AMX" if HAS_PAIRS else ""


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL | None:
    if machine.has_matrices() or not HAS_PAIRS:
        return None
    library = tmp_path_factory.mktemp("amx") / "emulator.so"
    command = [*toolchain.find().command, "-std=c++17", "-O2", "-shared", "-fPIC", "-o", str(library), str(EMULATOR)]
    subprocess.run(command, check=True)
    code = ctypes.CDLL(str(library))
    code.amx_products.restype = ctypes.c_int64
    return code


@pytest.fixture(autouse=True)
def products(emulator: ctypes.CDLL | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """How many products of matrices were emulated so far; 1 where none need be."""
    monkeypatch.setenv("IRC_CXX", f"{toolchain.find().command[0]} {FLAGS}")
    if emulator is None:
        yield lambda: 1
        return
    assert emulator.amx_begin() == 0
    yield emulator.amx_products
    assert emulator.amx_end() == 0


# Features of whole matrices, of some and a rest, of none.
@pytest.mark.parametrize(("d", "e"), [(64, 96), (40, 33), (16, 8)])
def test_agrees_with_the_interpreter(d: int, e: int, products: Callable[[], int]) -> None:
    rng = np.random.default_rng(d)
    inputs = arrays(irc.compile(SPEC, target="reference"), {**SIZES, "D": d, "E": e}, rng, "bf16")
    inputs["cap"] = np.asarray(20.0, inputs["cap"].dtype)
    inputs["slope"] = np.asarray([0.04, -0.2], inputs["slope"].dtype)
    both(SPEC, inputs, "bf16", rng)
    assert products() > 0


def test_gradients_of_tables() -> None:
    rng = np.random.default_rng(1)
    sizes = {"B": 1, "H": 2, "S": 141, "D": 48, "R": 9}
    both(TABLE, arrays(irc.compile(TABLE, target="reference"), sizes, rng, "bf16"), "bf16", rng, sizes={"D": 48})


@pytest.mark.parametrize("poison", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["tail", "scattered"])
def test_tokens_that_do_not_exist_change_no_bit(kind: str, poison: float) -> None:
    no_bit_changes(kind, poison, "bf16", 64, 48)


def test_few_columns_and_rows() -> None:
    """Tiles that a matrix is wider than."""
    for rows, columns in ((17, 1), (33, 19), (65, 47)):
        rng = np.random.default_rng(rows)
        inputs = arrays(
            irc.compile(SPEC, target="reference"), {**SIZES, "Sq": rows, "Sk": columns, "D": 64, "E": 32}, rng, "bf16"
        )
        inputs["cap"] = np.asarray(20.0, inputs["cap"].dtype)
        both(SPEC, inputs, "bf16", rng, sizes={"D": 64, "E": 32})


@pytest.mark.parametrize("turned", [(False, False), (True, True)])
def test_products_between_kernels(turned: tuple[bool, bool], products: Callable[[], int]) -> None:
    rng = np.random.default_rng(4)
    for m, n, k in ((210, 70, 301), (9, 33, 2100)):
        x = rng.standard_normal((k, m) if turned[0] else (m, k)).astype(DTYPE["bf16"])
        y = rng.standard_normal((n, k) if turned[1] else (k, n)).astype(DTYPE["bf16"])
        before = products()
        got = multiplier(matrices(turned, True), {"I": m, "J": n, "C": k}, "f32")(x, y)
        left, right = (x.T if turned[0] else x), (y.T if turned[1] else y)
        exact = left.astype(np.float64) @ right.astype(np.float64)
        assert float(np.abs(got - exact).max()) < 1e-4
        assert products() > before or products() == 1


def test_the_processor_and_linux_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has = "amx_bf16" in machine._text(machine.PROCESSOR)
    for name, told in (("with", "flags : avx512f amx_bf16 amx_tile\n"), ("without", "flags : avx512f\n")):
        (tmp_path / name).write_text(told)
        monkeypatch.setattr(machine, "PROCESSOR", tmp_path / name)
        machine.has_matrices.cache_clear()
        assert machine.has_matrices() == (has and name == "with")  # Linux lends what there is
        assert ("-DIRC_AMX" in toolchain._flags("g++")) == machine.has_matrices()
    machine.has_matrices.cache_clear()


def test_the_peak_is_that_of_matrices(products: Callable[[], int]) -> None:
    before = products()
    assert Peak(True, "f32")._operations == (4 * 2 * 16 * 16 * 32 if HAS_PAIRS else Peak(False, "f32")._operations)
    assert products() >= before
