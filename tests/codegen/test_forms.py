"""The forms that a kernel takes on machines of less: every one agrees with the interpreter, forward and backward."""

from __future__ import annotations

import platform
import shutil
import subprocess

import numpy as np
import pytest

import irc
from irc.runtime import toolchain
from tests.test_kernels import arrays, both

SPEC = """
attention forms {
  size B, H, Sq, Sk, D, E
  input q[B,H,Sq,D], k[B,H,Sk,D], v[B,H,Sk,E]
  param slope[H], cap
  core o[b,h,i,d], lse[b,h,i] {
    align last
    score q[b,h,i,c] * k[b,h,j,c]
    scale 1 / sqrt(D)
    map cap * tanh(score / cap) + slope[h] * (j - pos(i))
    allow j <= pos(i)
    softmax j
    matmul v[b,h,j,d]
  }
  return o, lse
}
"""
SIZES = {"B": 1, "H": 2, "Sq": 203, "Sk": 307, "D": 40, "E": 33}
# With pairs of bf16, with 512 bits alone, with 256, with 128; elsewhere than on x86 there is one form.
WITHOUT = ["", "-mno-avx512bf16", "-mno-avx512f", "-mno-avx512f -mno-avx2"] if platform.machine() == "x86_64" else [""]
# Each with types of which it makes other code.
TYPES = ["f32 bf16 f64 f16", "bf16", "f32 bf16", "f32 f16"]
FORMS = [(without, dtype) for without, types in zip(WITHOUT, TYPES, strict=False) for dtype in types.split()]


def compile_without(without: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a machine of less, by flags of WITHOUT."""
    compiler = toolchain.find().command[0]
    assert shutil.which(compiler)
    monkeypatch.setenv("IRC_CXX", f"{compiler} {without}")


@pytest.mark.parametrize(("without", "dtype"), FORMS)
def test_each_form_agrees_with_the_interpreter(without: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_without(without, monkeypatch)
    rng = np.random.default_rng(7)
    inputs = arrays(irc.compile(SPEC, target="reference"), SIZES, rng, dtype)
    inputs["cap"] = np.asarray(20.0, inputs["cap"].dtype)
    inputs["slope"] = np.asarray([0.04, -0.2], inputs["slope"].dtype)  # a float logit of hundreds is known to 1e-5
    both(SPEC, inputs, dtype, rng)
    if dtype == "f32":  # whatever a NaN holds
        inputs["q"][0, 0, 5, 3] = np.array(0x7FC00001, np.uint32).view(np.float32)
        assert np.isnan(irc.compile(SPEC, dtype=dtype).forward(**inputs).outputs["o"][0, 0, 5]).all()


def test_batch_entries_shared_out_over_several_tasks_give_the_gradients_of_one() -> None:
    rng = np.random.default_rng(8)
    sizes = {**SIZES, "H": 1, "Sq": 500, "Sk": 700, "D": 8, "E": 8}
    program = irc.compile(SPEC)
    inputs = arrays(program, sizes, rng)
    gradients = []
    with pytest.MonkeyPatch.context() as patch:
        for threads in ("1", "3"):
            patch.setenv("IRC_THREADS", threads)
            run = program.forward(**inputs)
            gradients.append(run.backward(o=np.ones_like(run.outputs["o"])))
    for name, value in gradients[0].items():
        np.testing.assert_allclose(value, gradients[1][name], rtol=1e-4, atol=1e-4, err_msg=name)


def test_what_comes_next_is_fetched() -> None:
    """A compiler drops calls of functions that only fetch: it takes them for functions that do nothing."""
    compiler = toolchain.find()
    program = irc.compile(SPEC, dtype="f32", sizes={"D": 64, "E": 64})
    program.forward(**arrays(program, {**SIZES, "D": 64, "E": 64}, np.random.default_rng(9)))
    flags = [flag for flag in compiler.flags if flag not in toolchain.lacking_of(compiler.command, compiler.flags)]
    done = subprocess.run(
        [*compiler.command, *flags, "-S", "-o", "-", "-x", "c++", "-"],
        input=program.source, capture_output=True, text=True, check=True,
    )  # fmt: skip
    read, written = {"x86_64": ("prefetcht0", "prefetchw"), "aarch64": ("pldl1keep", "pstl1keep")}[platform.machine()]
    parts = done.stdout.split(".cfi_startproc")  # 4 lines of q, k and v, and 4 of o
    assert any(part.count(read) >= 3 * 4 and part.count(written) >= 4 for part in parts)
