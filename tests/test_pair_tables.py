"""Tables with an entry for every pair, read by lines of memory whichever side lies in the lanes; their gradients."""

from __future__ import annotations

import numpy as np
import pytest

import irc
from irc.runtime.plan import Allocate
from tests.codegen.test_forms import FORMS, compile_without
from tests.test_kernels import DTYPE, Arrays, both

SPEC = """
attention pairs {
  size B, H, Sq, Sk, M, D
  input q[B,H,Sq,D], k[B,H,Sk,D], v[B,H,Sk,D], near[B,H,Sq,Sk], turned[Sk,Sq]
  input kind[B,Sq,Sk]: int
  param T[H,Sq,Sk], E[H,M]
  assume 0 <= kind[b,i,j] < M
  core o[b,h,i,d], lse[b,h,i] {
    align first
    score q[b,h,i,c] * k[b,h,j,c]
    bias  T[h,i,j] - 0.5 * near[b,h,i,j] * turned[j,i] + E[h, kind[b,i,j]]
    MASK
    softmax j
    matmul v[b,h,j,d]
  }
  return o, lse
}
"""
SIZES = [(70, 90), (203, 307), (33, 17), (1, 40), (64, 64)]


def arrays(rows: int, columns: int, dtype: str, rng: np.random.Generator) -> Arrays:
    """Rows of tables lie far from each other, or in reverse."""
    b, h, m, d = 2, 2, 5, 8

    def normal(*shape: int) -> np.ndarray:
        wide = rng.standard_normal((*shape[:-1], shape[-1] + 3)).astype(DTYPE[dtype])
        return wide[..., : shape[-1]]

    made = {name: normal(b, h, n, d) for name, n in (("q", rows), ("k", columns), ("v", columns))}
    made |= {"near": normal(b, h, rows, columns)[:, :, ::-1], "turned": normal(columns, 2 * rows)[:, :rows]}
    made |= {"T": normal(h, rows, columns), "E": normal(h, m)}
    return made | {"kind": rng.integers(0, m, (b, rows, columns)).astype(np.int32)}


def blocked(inputs: Arrays, rows: int, columns: int) -> None:
    """Let pairs that a causal mask blocks hold anything."""
    late = np.arange(columns) > np.arange(rows)[:, None]
    for name, value in (("near", np.nan), ("T", np.inf), ("kind", -(2**31))):
        inputs[name] = np.where(late, inputs[name].dtype.type(value), inputs[name])


@pytest.mark.optimise("-O0")
@pytest.mark.parametrize(("without", "dtype"), FORMS)
def test_each_form_agrees_with_the_interpreter(without: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_without(without, monkeypatch)
    rng = np.random.default_rng(1)
    for rows, columns in SIZES:
        both(SPEC.replace("MASK", ""), arrays(rows, columns, dtype, rng), dtype, rng)


@pytest.mark.optimise("-O0")
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("mask", ["allow j <= pos(i)", "allow abs(pos(i) - j) < 20 or j == 0"])
def test_under_a_mask(mask: str, dtype: str) -> None:
    rng = np.random.default_rng(2)
    for rows, columns in SIZES:
        both(SPEC.replace("MASK", mask), arrays(rows, columns, dtype, rng), dtype, rng)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_blocked_pairs_may_hold_anything(dtype: str) -> None:
    rng = np.random.default_rng(3)
    spec = SPEC.replace("MASK", "allow j <= pos(i)").replace("  assume 0 <= kind[b,i,j] < M\n", "")
    program = irc.compile(spec.replace("kind[b,i,j]]", "clamp(kind[b,i,j], 0, M - 1)]"), dtype=dtype)
    for rows, columns in SIZES[:3]:
        inputs = arrays(rows, columns, dtype, rng)
        others = dict(inputs)
        blocked(others, rows, columns)
        cotangent = rng.standard_normal((2, 2, rows, 8)).astype(DTYPE[dtype])
        found = []
        for given in (inputs, others):
            run = program.forward(**given)
            found.append({**run.outputs, **run.backward(o=cotangent)})
        for name, value in found[0].items():
            assert np.isfinite(value.astype(np.float64)).all() and (value == found[1][name]).all(), name


def test_no_bit_depends_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    program, inputs = irc.compile(SPEC.replace("MASK", "")), arrays(400, 300, "f32", rng)
    found = []
    for threads in ("1", "3"):
        monkeypatch.setenv("IRC_THREADS", threads)
        found.append({**program.forward(**inputs).outputs})
    for name, value in found[0].items():
        assert (value == found[1][name]).all(), name


LATE = """
attention late {
  size B, S, D
  input q[B,S,D], k[B,S,D], v[B,S,D], gate[B,S,S]
  core o[b,i,d] {
    score q[b,i,c] * k[b,j,c]
    allow j <= i
    softmax j
    map   weight * gate[b,i,j]
    matmul v[b,j,d]
  }
  return o
}
"""


@pytest.mark.optimise("-O0")
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_after_the_softmax(dtype: str) -> None:
    """Weights are there when the last columns are read."""
    rng = np.random.default_rng(5)
    for tokens in (40, 333):
        inputs = {n: rng.standard_normal((2, tokens, 8)).astype(DTYPE[dtype]) for n in "qkv"}
        inputs["gate"] = rng.standard_normal((2, tokens, tokens)).astype(DTYPE[dtype])
        both(LATE, inputs, dtype, rng)


def test_lines_are_read_and_turned_only_where_rows_lie_in_the_lanes() -> None:
    program = irc.compile(SPEC.replace("MASK", ""), sizes={"D": 8})
    kernels = program.source.split('extern "C" void ')
    forward = next(k for k in kernels if k.startswith("pairs_lse_o("))
    assert forward.count(".read_rows(") == 3 and forward.count(".read_columns(") == 1
    assert "irc::gather_elements<ivec>" not in forward


ONCE = """
attention once {
  size B, H, S, D
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D], bias[B,H,S,S]
  core o[b,h,i,d] {
    score q[b,h,i,c] * k[b,h,j,c]
    bias  bias[b,h,i,j]
    MASK
    softmax j
    matmul v[b,h,j,d]
  }
  return o
}
"""


@pytest.mark.optimise("-O0")
@pytest.mark.parametrize(("mask", "zeroed"), [("", False), ("allow j <= i", True)])
def test_a_gradient_of_which_nothing_is_summed_is_stored_in_its_own_type(mask: str, zeroed: bool) -> None:
    """No matrix in float beside it, and none is cleared that is written everywhere."""
    rng = np.random.default_rng(6)
    program = irc.compile(ONCE.replace("MASK", mask), dtype="bf16")
    for tokens in (33, 130):
        inputs = {n: rng.standard_normal((2, 2, tokens, 8)).astype(DTYPE["bf16"]) for n in "qkv"}
        inputs["bias"] = rng.standard_normal((2, 2, tokens, tokens)).astype(DTYPE["bf16"])
        both(ONCE.replace("MASK", mask), inputs, "bf16", rng)
    backward = program.built({"D": 8}).compiled.backward
    assert backward is not None
    made = {step.tensor: step.zero for step in backward.plan.steps if isinstance(step, Allocate)}
    assert "d.bias.sum" not in made and made["d.bias"] == zeroed


def test_a_gradient_is_zero_where_there_is_nothing_to_sum() -> None:
    program = irc.compile(SPEC.replace("MASK", ""))
    inputs = {
        n: a[:0] if a.shape[0] == 2 and n in "qkv near kind" else a
        for n, a in arrays(40, 50, "f32", np.random.default_rng(7)).items()
    }
    for _ in range(3):
        run = program.forward(**inputs)
        gradients = run.backward(o=np.ones_like(run.outputs["o"]))
        assert gradients["T"].shape == (2, 40, 50) and not gradients["T"].any() and not gradients["turned"].any()
        gradients["T"][...] = np.nan  # what the next call may find in its place
