"""An exported library through its C functions: the same results as the program's, and errors instead of crashes."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import irc
from irc.codegen.expr import Axis, Size, integer
from irc.codegen.kernel import LoopKernel, Tensor
from irc.codegen.library import Copy, Invoke, Place
from irc.compiled import Fused
from irc.export.entries import _Entry
from irc.export.export import export
from irc.runtime.arrays import DTYPE
from irc.runtime.plan import Call, Operand, Plan, PlanTensor, View
from tests.test_examples import SMALL, arguments
from tests.test_kernels import TOLERANCE, relative

EXAMPLES = Path(__file__).parent.parent / "examples"
THREADS = 2
Arrays = dict[str, np.ndarray]


class Exported:
    """A library with its manifest, called by ctypes as a C program would call it."""

    def __init__(self, program: irc.Program, folder: Path, types: dict[str, str] | None = None) -> None:
        export(program, folder, types)
        self.program = program
        self.name = program.graph.name
        self.manifest = json.loads((folder / "manifest.json").read_text())
        self.library = ctypes.CDLL(str(folder / f"lib{self.name}.so"))
        self.sizes = [n for n, definition in program.graph.sizes if definition is None and n not in program.fixed]

    def function(self, what: str, answer: Any = ctypes.c_int) -> Any:
        function = getattr(self.library, f"{self.name}_{what}")
        function.restype = answer
        return function

    def error(self, code: int) -> str:
        return self.function("error", ctypes.c_char_p)(code).decode()

    def given(self, sizes: dict[str, int]) -> Any:
        return (ctypes.c_int64 * max(1, len(self.sizes)))(*[sizes[n] for n in self.sizes])

    def bytes(self, what: str, sizes: dict[str, int], *threads: int) -> int:
        return self.function(what, ctypes.c_int64)(self.given(sizes), *threads)

    def run(self, what: str, sizes: dict[str, int], arrays: Arrays, saved: np.ndarray, threads: int = THREADS) -> int:
        """Call the entry on C-contiguous copies; what it writes goes into `arrays`. The workspace is filled with junk
        and its end is guarded."""
        needed = self.bytes(f"{what}_workspace", sizes, threads)
        workspace = np.full(max(needed, 0) + 64, 0xFF, np.uint8)
        (entry,) = (e for e in self.manifest["entries"] if e["name"] == f"{self.name}_{what}")
        passed: list[Any] = [self.given(sizes)]
        for argument in entry["arguments"]:
            array = arrays[argument["name"]]
            assert array.dtype == DTYPE[argument["storage"]], argument["name"]
            if argument["use"] == "value":
                kind = {"i32": ctypes.c_int32, "f32": ctypes.c_float, "f64": ctypes.c_double}[argument["storage"]]
                passed.append(kind(array.item()))
            else:
                assert array.flags.c_contiguous
                passed.append(ctypes.c_void_p(array.ctypes.data))
        memory = (ctypes.c_void_p(m.ctypes.data) for m in (saved, workspace))
        code = self.function(what)(*passed, *memory, threads)
        assert (workspace[max(needed, 0) :] == 0xFF).all()
        return code


def passed(exported: Exported, inputs: Arrays) -> Arrays:
    """The inputs in the element types of the library."""
    storages = {a["name"]: a["storage"] for a in exported.manifest["entries"][0]["arguments"]}
    return {n: np.array(np.asarray(a), DTYPE[storages[n]], order="C") for n, a in inputs.items()}


def sizes_of(program: irc.Program, inputs: Arrays) -> dict[str, int]:
    from irc.runtime.sizes import infer

    shapes = {n: np.shape(a) for n, a in inputs.items()}
    return infer([(n.name, n.shape) for n in program.graph.inputs], shapes, program.graph.sizes, program.fixed)


def junk(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return (
        np.full((max(1, int(np.prod(shape))) * np.dtype(dtype).itemsize,), 0xFF, np.uint8)
        .view(dtype)[: int(np.prod(shape))]
        .reshape(shape)
    )


def agree(exported: Exported, inputs: Arrays, threads: int = THREADS) -> Arrays:
    """Assert that the C functions give the program's outputs and gradients; answers all that was passed."""
    program = exported.program
    dtype, rng = program.precision.storage, np.random.default_rng(5)
    sizes = sizes_of(program, inputs)
    run = program.forward(**inputs)
    arrays = passed(exported, inputs)
    arrays |= {n: junk(o.shape, o.dtype) for n, o in run.outputs.items()}
    saved = np.full(exported.bytes("saved_bytes", sizes) + 64, 0xFF, np.uint8)
    assert exported.run("forward", sizes, arrays, saved, threads) == 0
    assert (saved[-64:] == 0xFF).all()
    for name, output in run.outputs.items():
        assert relative(arrays[name], output) < TOLERANCE[dtype], name
    cotangents = {n: rng.standard_normal(o.shape).astype(o.dtype) for n, o in run.outputs.items()}
    gradients = run.backward(**cotangents)
    arrays |= {f"d_{n}": c for n, c in cotangents.items()}
    arrays |= {f"d_{n}": junk(g.shape, g.dtype) for n, g in gradients.items()}
    assert exported.run("backward", sizes, arrays, saved, threads) == 0
    for name, gradient in gradients.items():
        assert relative(arrays[f"d_{name}"], gradient) < TOLERANCE[dtype], name
    return arrays


def example_inputs(name: str, dtype: Any = "f32", **sizes: int) -> Arrays:
    """Arguments of an example, floating ones in the given element type."""
    path = EXAMPLES / f"{name}.attn"
    inputs = arguments(path, np.random.default_rng(3), {**SMALL, **sizes})
    return {n: a.astype(DTYPE[dtype]) if a.dtype.kind == "f" and a.shape else a for n, a in inputs.items()}


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """An example as a library for small sizes; each is made once."""

    @cache
    def export_example(name: str, dtype: Any = "f32") -> Exported:
        path = EXAMPLES / f"{name}.attn"
        open_program = irc.compile(path, dtype=dtype)
        sizes = sizes_of(open_program, example_inputs(name, dtype))
        program = irc.compile(path, dtype=dtype, sizes={n: sizes[n] for n in open_program.features})
        return Exported(program, tmp_path_factory.mktemp(path.stem))

    return export_example


# Among them: products, views and saved tensors; integers; a table whose gradient is summed in chunks; one of distances;
# keys that a table picks.
@pytest.mark.parametrize(
    "name",
    ["causal", "gpt2", "grouped_heads", "documents", "relative_bias", "variants/transformer_xl", "masks/topk_blocks"],
)
def test_c_functions_give_the_program_s_results(name: str, example: Callable[..., Exported]) -> None:
    agree(example(name), example_inputs(name))


def test_products_of_16_bit_tensors(example: Callable[..., Exported]) -> None:
    agree(example("gpt2", "bf16"), example_inputs("gpt2", "bf16"))


def test_products_of_several_blocks_each_way(example: Callable[..., Exported]) -> None:
    agree(example("gpt2"), example_inputs("gpt2", S=131))


@pytest.mark.parametrize("name", ["causal", "gpt2", "relative_bias"])
@pytest.mark.parametrize("sizes", [{"B": 0}, {"S": 1}])
def test_empty_and_small_sizes(name: str, sizes: dict[str, int], example: Callable[..., Exported]) -> None:
    agree(example(name), example_inputs(name, **sizes))


def test_bits_do_not_depend_on_threads(example: Callable[..., Exported]) -> None:
    inputs = example_inputs("gpt2")
    one, three = (agree(example("gpt2"), inputs, threads) for threads in (1, 3))
    for name in one:
        assert one[name].tobytes() == three[name].tobytes(), name


# errors


def refused(exported: Exported, inputs: Arrays, sizes: dict[str, int] | None = None) -> str:
    """What the forward entry says, having written nothing."""
    program = exported.program
    known = sizes_of(program, inputs)
    output = junk((10**6,), np.uint8)
    arrays = passed(exported, inputs) | {n: output.view(DTYPE["f32"]) for n, _ in program.graph.outputs}
    code = exported.run("forward", {**known, **(sizes or {})}, arrays, np.zeros(10**6, np.uint8))
    assert code > 0 and (output == 0xFF).all()
    return exported.error(code)


@pytest.mark.parametrize(
    ("name", "sizes", "message"),
    [
        ("causal", {"B": -1}, "size B is not between 0 and 2147483647"),
        ("causal", {"S": 2**40}, "size S is not between 0 and 2147483647"),
        ("causal", {"B": 2**20, "S": 2**20}, "q: 2^40 elements or more"),
        ("grouped_heads", {"H": 3}, "the program assumes H % G == 0"),
        ("grouped_heads", {"G": 0}, "the program assumes H % G == 0"),
        ("relative_bias", {"S": 0}, "T axis 1: ((2 * S) - 1) is negative"),
    ],
)
def test_sizes_that_do_not_fit(
    name: str, sizes: dict[str, int], message: str, example: Callable[..., Exported]
) -> None:
    exported = example(name)
    assert message in refused(exported, example_inputs(name), sizes)
    for needed in ("saved_bytes", "forward_workspace", "backward_workspace"):
        known = {**sizes_of(exported.program, example_inputs(name)), **sizes}
        assert message in exported.error(-exported.bytes(needed, known, *([1] if needed != "saved_bytes" else [])))


def test_an_assumption_about_a_table(example: Callable[..., Exported]) -> None:
    inputs = example_inputs("documents")
    inputs["doc"][0] = inputs["doc"][0][::-1].copy() + np.arange(37, 0, -1, dtype=np.int32)
    assert refused(example("documents"), inputs) == "the program assumes nondecreasing doc[b,s] over s"


def test_a_pointer_that_is_null(example: Callable[..., Exported]) -> None:
    exported = example("causal")
    sizes = sizes_of(exported.program, example_inputs("causal"))
    nothing = [ctypes.c_void_p(None)] * 7
    assert exported.error(exported.function("forward")(exported.given(sizes), *nothing, 1)) == "q is NULL"
    assert exported.error(0) == "no error"
    assert exported.error(12345) == "no error of this program"


NAMES = """
attention names {
  size B = 2, S = 3
  input x[B,S], d_y[B,S], restrict[B,S], saved[S,S], size_B[B]
  merge {
    y[b,s] = d_y[b,s] * restrict[b,s] + size_B[b]
    z[b,t] = x[b,s] * saved[s,t]
  }
  return y, z, x
}
"""


def test_names_that_c_has_a_meaning_for_and_an_input_returned(tmp_path: Path) -> None:
    program = irc.compile(NAMES)
    exported = Exported(program, tmp_path)
    rng = np.random.default_rng(0)
    inputs: Arrays = {n: rng.standard_normal((2, 3)).astype(np.float32) for n in ("x", "d_y", "restrict")}
    inputs |= {"saved": np.eye(3, dtype=np.float32), "size_B": np.ones(2, np.float32)}
    outputs = {n: junk((2, 3), np.float32) for n in ("y", "z", "x_")}
    assert exported.run("forward", {}, inputs | outputs, np.zeros(64, np.uint8)) == 0
    for got, expected in zip(outputs.values(), program(**inputs), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    declared = (tmp_path / "names.h").read_text()
    for name in ("*d_y,", "*restrict_,", "*saved_,", "*size_B_,", "*d_y_,", "*x_,"):
        assert name in declared


def test_an_argument_that_a_kernel_writes_is_copied_first() -> None:
    axis = Axis("s", Size("S"))
    given = Tensor("seen", "f32", 1, written=True)
    kernel = LoopKernel("fill", (given,), ("S",), (), "seen", "f32")
    tensors = (PlanTensor("x", "input", "f32", (Size("S"),)), PlanTensor("seen", "temporary", "f32", (Size("S"),)))
    steps = (View("seen", (axis,), Operand("x", ((axis,),))), Call("fill"))
    place = Place("x", "f32", integer(0), (integer(1),))
    entry = _Entry("backward", Fused(Plan(tensors, steps, ()), (kernel,)), {"x": place}, ("x",))
    entry.run()
    copy, invoke = entry.statements
    assert isinstance(copy, Copy) and copy.source == place
    assert isinstance(invoke, Invoke) and invoke.tensors == (copy.target,) and copy.target.tensor != "x"


GATHER = """
attention gather {
  size B, S, N
  input q[B,S,8], k[B,S,8], v[B,S,8]
  param T[N]
  input dist[B,S,S]: int
  scalar shift: int
  assume shift >= -2
  core o[b,i,d] {
    score  q[b,i,c] * k[b,j,c]
    bias   T[min(2 * dist[b,i,j] + shift, N - 1)]
    softmax j
    matmul v[b,j,d]
  }
  return o
}
"""


def test_a_table_access_is_checked_as_on_arrays(tmp_path: Path) -> None:
    program = irc.compile(GATHER)
    assert program.graph.accesses
    exported = Exported(program, tmp_path)
    rng = np.random.default_rng(0)
    inputs: Arrays = {n: rng.standard_normal((2, 9, 8)).astype(np.float32) for n in "qkv"}
    inputs |= {"T": rng.standard_normal(7).astype(np.float32), "shift": np.array(-2, np.int32)}
    inputs["dist"] = rng.integers(1, 9, (2, 9, 9)).astype(np.int32)
    agree(exported, inputs)
    assert refused(exported, inputs | {"shift": np.array(-3, np.int32)}) == "the program assumes shift >= -2"
    inputs["dist"][1, 3, 4] = 0
    with pytest.raises(irc.InputError):
        program(**inputs)
    assert refused(exported, inputs) == "T: an index may leave its axis"


@pytest.mark.parametrize("stop", [irc.ToolchainError("refused"), KeyboardInterrupt()], ids=["refused", "stopped"])
def test_a_library_stays_whole_when_the_next_one_fails(
    stop: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its header and manifest tell sizes that its kernels hold."""
    files = {name: name for name in ("libcausal.so", "causal.h", "causal.cpp", "manifest.json")}
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    def compile(source: str, output: Path) -> None:
        output.with_suffix(".cpp").write_text(source)
        raise stop

    monkeypatch.setattr("irc.export.export.toolchain.compile", compile)
    with pytest.raises(type(stop)):
        export(irc.compile(EXAMPLES / "causal.attn", sizes={"D": 16}), tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


def test_a_folder_in_the_place_of_a_file_changes_none(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    (tmp_path / "causal.h").write_text("mine", encoding="utf-8")
    with pytest.raises(irc.InputError, match=r"manifest\.json: expected a file, .* it is a folder"):
        export(irc.compile(EXAMPLES / "causal.attn", sizes={"D": 8}), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["causal.h", "manifest.json"]
    assert (tmp_path / "causal.h").read_text(encoding="utf-8") == "mine"
