"""Kernels on tensor cores, in the emulator: against the interpreter, watched, and with what must not be multiplied."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import numpy as np
import pytest

import irc
from irc.codegen import cuda
from irc.codegen.cuda_launch import most_shared
from irc.codegen.kernel import TileKernel
from irc.runtime.emulated import Library
from tests.cases import text
from tests.cuda.test_emulated import assert_same_bits_under_every_schedule
from tests.test_examples import FOLDER, arguments
from tests.test_kernels import CAUSAL, DTYPE, TOLERANCE, Arrays, arrays, both, widened
from tests.test_variants import NAMES, compiled, relative, rounded
from tests.test_variants import arguments as arguments_of_variant

LENGTHS = {"B": 1, "H": 2, "G": 1, "Sq": 70, "Sk": 130, "D": 16, "V": 40}  # two tiles of rows, three of columns
FORMS = {"bf16": "Bf16", "f16": "F16", "f32": "Float"}


def forms(program: irc.Program) -> dict[str, str]:
    """By launch, how its operands are kept; empty for plain CUDA."""
    found = {}
    for kernel in program.kernels:
        if isinstance(kernel, TileKernel):
            for launch in cuda.launches(kernel):
                used = [form for form in FORMS.values() if f"using Form = irc::{form};" in launch.text]
                found[launch.name] = used[0] if used else ""
    return found


@pytest.mark.parametrize("dtype", FORMS)
@pytest.mark.parametrize("name", ["causal", "table", "sink", "empty rows"])
def test_several_ragged_tiles(name: str, dtype: str) -> None:
    rng = np.random.default_rng(3)
    program = irc.compile(text(name), target="reference")
    both(text(name), arrays(program, LENGTHS, rng, dtype), dtype, rng, target="emulator")


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
@pytest.mark.parametrize("name", ["documents", "softcap_window", "relative_bias", "grouped_heads", "neighbourhood"])
def test_examples_of_sixteen_bits(name: str, dtype: str) -> None:
    rng = np.random.default_rng(11)
    given = {n: cast(a, dtype) for n, a in arguments(FOLDER / f"{name}.attn", rng).items()}
    sizes = {"Y": 5, "X": 6} if name == "neighbourhood" else None
    both(str(FOLDER / f"{name}.attn"), given, dtype, rng, sizes, target="emulator")


def cast(array: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    return array.astype(DTYPE[dtype]) if array.dtype == np.float32 and array.ndim else array


VALUES_IN_TWO = """
attention program {
  size  S, D, U, V
  input q[S,D], k[S,D], v[S,U,V]
  core o[i,u,d] {
    score  q[i,c] * k[j,c]
    allow  j <= i
    softmax j
    matmul v[j,u,d]
  }
  return o
}
"""


@pytest.mark.parametrize("dtype", FORMS)
def test_a_row_may_have_two_indices(dtype: str) -> None:
    """It is copied where its numbers follow each other, else read one by one; of floats there are more than
    FEATURES_BESIDE."""
    rng = np.random.default_rng(7)
    program = irc.compile(VALUES_IN_TWO, dtype=dtype, target="emulator")
    given = arrays(program, {"S": 70, "D": 16, "U": 2, "V": 72}, rng, dtype)
    given["q"] = given["q"] * given["q"].dtype.type(3)
    both(VALUES_IN_TWO, given, dtype, rng, target="emulator")
    apart = np.zeros((70, 2, 80), given["v"].dtype)[..., :72]
    apart[:] = given["v"]
    assert np.array_equal(program(**given)[0], program(**{**given, "v": apart})[0])
    launch = next(launch for kernel in program.kernels for launch in cuda.launches(kernel))
    assert "v_s1 == 72 && v_s2 == 1 &&" in launch.text and "o_s1 == 72 && o_s2 == 1 &&" in launch.text
    assert ("rescale[0] != 1" in launch.text) == (dtype == "f32")


EMULATED = ("dropout", "sigmoid", "retention", "talking_heads", "topk_tiles", "gelu")
IN_F16 = ("dropout", "rotary", "scaled_rows_columns")


@pytest.mark.parametrize("name, dtype", [*product(EMULATED, ("bf16", "f32")), *((name, "f16") for name in IN_F16)])
def test_variants(name: str, dtype: str) -> None:
    assert name in NAMES
    values, sizes = arguments_of_variant(name)
    given = {n: np.asarray(a) for n, a in rounded(values, name, dtype).items()}
    run = compiled(name, sizes, dtype=dtype, target="emulator").forward(**given)
    expected = compiled(name, sizes, target="reference").forward(**widened(given))
    tolerance = TOLERANCE[dtype]
    rng = np.random.default_rng(8)
    cotangents = {}
    for which, output in expected.outputs.items():
        assert relative(run.outputs[which], output) < tolerance, which
        cotangents[which] = rng.standard_normal(output.shape).astype(run.outputs[which].dtype)
    gradients = run.backward(**cotangents)
    wanted = expected.backward(**{n: c.astype(np.float64) for n, c in cotangents.items()})
    largest = max(float(np.linalg.norm(g)) for g in wanted.values())
    for which, gradient in gradients.items():
        assert relative(gradient, wanted[which], 0.1 + 0.1 * largest) < 3 * tolerance, which


@pytest.mark.parametrize("dtype, name", [("bf16", "causal"), ("f16", "relative_bias"), ("f32", "documents")])
def test_no_schedule_changes_a_bit_and_no_check_finds_anything(dtype: str, name: str) -> None:
    path = FOLDER / f"{name}.attn"
    given = arguments(path, np.random.default_rng(5), {"B": 1, "H": 1, "S": 80, "D": 16, "R": 5})
    given = {n: cast(a, dtype) for n, a in given.items()}
    program = irc.compile(path, dtype=dtype, target="emulator")
    program(**given)
    assert_same_bits_under_every_schedule(program, given, {n: 16 for n in program.features})


DROPPED = """
attention program {
  size   B, H, S, T, D
  input  q[B,H,S,D], k[B,H,T,D], v[B,H,T,D]
  scalar p: float, seed: int
  assume 0 <= p, p < 1
  core o[b,h,i,d] {
    score  q[b,h,i,c] * k[b,h,j,c]
    align  first
    allow  j <= pos(i) + 40
    softmax j
    drop   p seed seed
    matmul v[b,h,j,d]
  }
  return o
}
"""


@pytest.mark.parametrize("dtype, of", [("bf16", ""), ("f32", ""), ("bf16", ":sm_90a"), ("f16", ":sm_90a")])
def test_lanes_share_out_counters_of_random_numbers(dtype: str, of: str) -> None:
    """Along the columns in kernels that finish rows, along the rows in the others; at ragged ends too."""
    rng = np.random.default_rng(3)
    given = arrays(irc.compile(DROPPED, target="reference"), {"B": 2, "H": 2, "S": 141, "T": 155, "D": 16}, rng, dtype)
    given |= {"p": np.float64(0.3), "seed": np.int64(-12345)}
    both(DROPPED, given, dtype, rng, target=f"emulator{of}")
    program = irc.compile(DROPPED, dtype=dtype, target=f"emulator{of}").built({"D": 16})
    made = (cuda.launches(kernel, of[1:] or cuda.LEAST) for kernel in program.kernels.values())
    texts = "".join(launch.text for launches in made for launch in launches)
    assert "draw_along_columns(" in texts and "draw_along_rows(" in texts and "irc::random" not in texts


def spoilt(given: Arrays, name: str, at: Any, value: float) -> Arrays:
    copy = given[name].copy()
    copy[at] = value
    return {**given, name: copy}


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", FORMS)
def test_what_no_pair_reads_changes_no_bit(dtype: str, poison: float) -> None:
    assert_what_no_pair_reads_changes_no_bit(dtype, poison, "emulator", 100)


def assert_what_no_pair_reads_changes_no_bit(dtype: str, poison: float, target: str, length: int) -> None:
    """Keys and values that are not finite, for queries that see none of them; queries and cotangents, for such keys."""
    program = irc.compile(CAUSAL, dtype=dtype, target=target)
    rng = np.random.default_rng(0)
    given = arrays(program, {"B": 1, "H": 1, "S": length, "D": 16}, rng, dtype)
    cotangent = rng.standard_normal(given["q"].shape).astype(DTYPE[dtype])
    run = program.forward(**given)
    outputs, gradients = run.outputs, run.backward(o=cotangent)
    last = length - 10
    late, early = np.s_[:, :, last:], np.s_[:, :, :10]
    for name in ("k", "v"):
        moved = program.forward(**spoilt(given, name, late, poison)).outputs
        assert np.array_equal(moved["o"][:, :, :last], outputs["o"][:, :, :last]), name
        assert not np.isfinite(moved["o"][late].astype(float)).any(), name
    i, j = np.indices(given["bias"].shape[1:])
    moved = program.forward(**spoilt(given, "bias", np.s_[:, j > i], poison)).backward(o=cotangent)
    for name, gradient in gradients.items():
        assert np.array_equal(moved[name], gradient), name
    for other, o in (
        (spoilt(given, "q", early, poison), cotangent),
        (given, spoilt({"o": cotangent}, "o", early, poison)["o"]),
    ):
        moved = program.forward(**other).backward(o=o)
        for name in ("k", "v"):
            assert np.array_equal(moved[name][:, :, 10:], gradients[name][:, :, 10:]), name


@pytest.mark.parametrize("dtype", FORMS)
def test_infinities_arrive_where_the_reference_has_them(dtype: str) -> None:
    assert_infinities_arrive_where_the_reference_has_them(dtype, "emulator", 100)


def assert_infinities_arrive_where_the_reference_has_them(dtype: str, target: str, length: int) -> None:
    """One element of a key or a value: with other finite ones it makes infinity, not NaN."""
    program, reference = irc.compile(CAUSAL, dtype=dtype, target=target), irc.compile(CAUSAL, target="reference")
    given = arrays(program, {"B": 1, "H": 1, "S": length, "D": 16}, np.random.default_rng(0), dtype)
    for name in ("k", "v"):
        other = spoilt(given, name, np.s_[:, :, length - 10, 3], np.inf)
        got, wanted = program(**other)[0].astype(float), reference(**widened(other))[0]
        for kind in (np.isnan, np.isposinf, np.isneginf):
            assert np.array_equal(kind(got), kind(wanted)), name


@pytest.mark.parametrize("dtype", FORMS)
@pytest.mark.parametrize("width", [8, 64, 1024])
def test_the_form_of_a_kernel(width: int, dtype: str) -> None:
    program = irc.compile(text("causal"), dtype=dtype, sizes={"D": width, "V": width})
    assert set(forms(program).values()) == {FORMS[dtype] if width < 1024 else ""}


def test_sums_in_double_stay_plain() -> None:
    program = irc.compile(text("causal"), dtype="f64", sizes={"D": 64, "V": 64})
    assert set(forms(program).values()) == {""}


def test_a_kernel_that_stores_a_maximum_stays_plain() -> None:
    """A gradient finds it again by its bits."""
    program = irc.compile(text("max"), sizes={"D": 64, "V": 64})
    forward = next(k.name for k in program.kernels if "m" in {t.name for t in k.tensors if t.written})
    assert forms(program)[f"{forward}_row"] == ""


MANY = """
attention many {
  size S, D
  input q[S,D], k[S,D], v[S,D], INPUTS
  core o[i,d] {
    score  q[i,c] * k[j,c]
    allow  PAIRS
    softmax j
    matmul v[j,d]
  }
  return o
}
"""


@pytest.mark.parametrize("architecture, width", [("sm_89", 144), ("sm_90a", 96)])
def test_what_is_kept_of_many_tables_fits_beside_panels(architecture: str, width: int) -> None:
    """A block of a consumer's card has 99 KiB; one on warpgroups fewer stages then."""
    spec = MANY.replace("INPUTS", ", ".join(f"a{n}[S]: int" for n in range(6)))
    spec = spec.replace("PAIRS", " and ".join(f"a{n}[i] <= a{n}[j] + {n}" for n in range(6)))
    program = irc.compile(spec, dtype="bf16", sizes={"D": width})
    kernels = [kernel for kernel in program.kernels if isinstance(kernel, TileKernel)]
    made = [launch for kernel in kernels for launch in cuda.launches(kernel, architecture)]
    assert made and all("using Form = irc::Bf16;" in launch.text for launch in made)
    assert max(launch.shared_bytes for launch in made) <= most_shared(architecture)


CUT = """
attention cut {
  size B, H, Sq, Sk, D
  input q[B,H,Sq,D], k[B,H,Sk,D], v[B,H,Sk,D], bias[B,H,Sq,Sk]
  core o[b,h,i,d] {
    align  last
    score  q[b,h,i,c] * k[b,h,j,c]
    scale  1 / sqrt(D)
    bias   bias[b,h,i,j]
    allow  j <= pos(i)
    softmax j
    matmul v[b,h,j,d]
  }
  return o
}
"""


@pytest.mark.parametrize("dtype, architecture", [("bf16", "sm_80"), ("f32", "sm_80"), ("f16", "sm_90a")])
def test_two_entries_of_a_table_are_one_word_where_they_may_be(dtype: str, architecture: str) -> None:
    """Whole tiles and those that a mask cuts; ragged ones, rows of odd length, and tables that begin within a word, are
    read one by one."""
    rng, target = np.random.default_rng(3), f"emulator:{architecture}"
    program = irc.compile(CUT, dtype=dtype, target=target, sizes={"D": 16})
    given = arrays(program, {"B": 1, "H": 1, "Sq": 70, "Sk": 162, "D": 16}, rng, dtype)
    both(CUT, given, dtype, rng, {"D": 16}, target=target)
    assert program.source.count("load_two(all_") >= 2  # of the forward run, and of dq
    assert program.source.count("(std::true_type{}, std::true_type{});") >= 2
    expected = program(**given)[0]
    program.measured_through({"D": 16}, Library(program.source, True, architecture=architecture))
    for length, first in ((164, 0), (164, 1), (163, 0)):
        table = np.zeros((1, 1, 70, length), given["bias"].dtype)[..., first : first + 162]
        table[:] = given["bias"]
        assert np.array_equal(program(**{**given, "bias": table})[0], expected)


@pytest.mark.parametrize("dtype", ["bf16", "f32"])
def test_tokens_are_copied_from_where_they_lie_and_constant_factors_wait_for_sums(dtype: str) -> None:
    """Full panels on whole words without a question, others 16 bytes or a number at a time."""
    rng = np.random.default_rng(8)
    program = irc.compile(FOLDER / "causal.attn", dtype=dtype, target="emulator", sizes={"D": 16})
    given = arrays(program, {"B": 2, "H": 2, "S": 130, "D": 16}, rng, dtype)
    run = program.forward(**given)
    program.measured_through({"D": 16}, Library(program.source, True))
    wanted = run.backward(o=given["q"])
    for pitch, first, step in ((24, 8, 1), (17, 0, 1), (24, 1, 1), (32, 0, 2)):
        others = {
            n: np.zeros((2, 2, 130, pitch), a.dtype)[..., first : first + 16 * step : step] for n, a in given.items()
        }
        for name, array in others.items():
            array[:] = given[name]
        again = program.forward(**others)
        assert np.array_equal(again.outputs["o"], run.outputs["o"])
        found = again.backward(o=given["q"])
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    assert "d_o_logit*T(0.25)" not in program.source and "T(0.25), exists)" in program.source


SEEN = """
attention seen {
  size S, T, D
  input q[S,D], k[T,D], v[T,D], seen[S,T]: bool
  core o[i,d] {
    score  q[i,c] * k[j,c]
    allow  seen[i,j]
    softmax j
    matmul v[j,d]
  }
  return o
}
"""


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
def test_two_truths_of_a_table_are_one_word_where_they_may_be(architecture: str) -> None:
    rng, target, sizes = np.random.default_rng(6), f"emulator:{architecture}", {"D": 16}
    program = irc.compile(SEEN, dtype="bf16", target=target, sizes=sizes)
    given = arrays(program, {"S": 70, "T": 162, "D": 16}, rng, "bf16") | {"seen": rng.random((70, 162)) < 0.6}
    both(SEEN, given, "bf16", rng, sizes, target=target)
    assert program.source.count("load_two(all_") >= 2
    expected = program(**given)[0]
    program.measured_through(sizes, Library(program.source, True, architecture=architecture))
    for length, first in ((164, 1), (163, 0)):
        table = np.zeros((70, length), bool)[:, first : first + 162]
        table[:] = given["seen"]
        assert np.array_equal(program(**given | {"seen": table})[0], expected)


TABLE = """
attention table {
  size B, H, S, D
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D], bias[H,S,S], doc[B,S]: int
  core o[b,h,i,d] {
    score  q[b,h,i,c] * k[b,h,j,c]
    scale  1 / sqrt(D)
    bias   bias[h,i,j]
    allow  doc[b,i] == doc[b,j]
    softmax j
    matmul v[b,h,j,d]
  }
  return o
}
"""


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_the_gradient_of_a_table_of_pairs_is_summed_in_registers(dtype: str) -> None:
    """Over the batch, before anything is added in memory."""
    rng, sizes = np.random.default_rng(4), {"D": 16}
    program = irc.compile(TABLE, dtype=dtype, target="emulator", sizes=sizes)
    given = arrays(program, {"B": 3, "H": 2, "S": 90, "D": 16}, rng, dtype)
    given["doc"] = np.sort(rng.integers(0, 3, (3, 90)).astype(np.int32), axis=1)
    both(TABLE, given, dtype, rng, sizes, target="emulator")
    (kernel,) = (k for k in program.kernels if isinstance(k, TileKernel) and k.order == "elements")
    (launch,) = cuda.launches(kernel)
    assert f"using Form = irc::{FORMS[dtype]};" in launch.text
    assert_same_bits_under_every_schedule(program, given, sizes)


CAPPED = """
attention capped {
  size S, D
  input q[S,D], k[S,D], v[S,D], cap
  core o[i,d] {
    score  q[i,c] * k[j,c]
    map    cap * tanh(score / cap)
    allow  j <= i
    softmax j
    matmul v[j,d]
  }
  return o
}
"""


def test_weights_are_made_again_of_the_logits_of_the_forward_run_where_products_are_fused_with_sums() -> None:
    """Sums of their adjoints cancel: the gradient of a cap is wrong by what a logit of hundreds loses."""
    rng = np.random.default_rng(1)
    given = arrays(irc.compile(CAPPED, target="reference"), {"S": 100, "D": 16}, rng)
    given["q"] = given["q"] * np.float32(25)
    given["cap"] = np.float32(50)
    expected = irc.compile(CAPPED, target="reference").forward(**widened(given))
    program = irc.compile(CAPPED, target="emulator", sizes={"D": 16})
    program.measured_through({"D": 16}, Library(program.source, contract=True))
    do = rng.standard_normal((100, 16)).astype(np.float32)
    want = expected.backward(o=do.astype(np.float64))["cap"]
    assert abs(program.forward(**given).backward(o=do)["cap"] / want - 1) < 4e-5


def test_an_entry_of_a_sum_inside_of_a_score_is_read_where_it_stands() -> None:
    spec = MANY.replace("INPUTS", "t[S,R,S]").replace("size S, D", "size S, D, R")
    spec = spec.replace("allow  PAIRS", "map    score + sum(r: t[i,r,j])")
    program = irc.compile(spec, dtype="bf16", sizes={"D": 16, "R": 4}, target="emulator")
    assert "using Form = irc::Bf16;" in program.source and "load_two(all_" not in program.source


def test_a_maximum_is_looked_for_among_values_of_the_same_roundings() -> None:
    """Which products a compiler fuses with sums depends on what else a kernel computes."""
    spec = CAPPED.replace("cap * tanh(score / cap)", "score * cap + cap * (j - i)").replace(
        "softmax", "stat m[i] = max\n    softmax"
    )
    program = irc.compile(spec.replace("return o", "return o, m"), target="emulator", sizes={"D": 16})
    made = re.findall(r"if \(wanted\) o_logit = (.*);", program.source)
    assert len(made) == 4
    assert all(re.fullmatch(r"irc::rounded_product\(.*\) \+ irc::rounded_product\(.*\)", value) for value in made)
