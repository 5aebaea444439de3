"""Cores that have no query index, or whose queries share no keys: the rows that kernels give them, and gradients of
keys that are added up where tables say."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest

import irc
from irc.codegen.expr import Kind, Size, integer
from irc.codegen.kernel import CHUNKS, TileKernel
from irc.codegen.positions import chunks_of
from irc.graph.interpret import size_value
from irc.runtime.sizes import evaluate
from tests.test_kernels import DTYPE, Arrays, both
from tests.test_kernels import arrays as given

pytestmark = pytest.mark.optimise("-O0")

B, H, G, S, N, M, D = 2, 6, 2, 40, 5, 8, 16
SIZES = {"B": B, "H": H, "G": G, "S": S, "N": N, "M": M, "D": D}


def spec(
    declared: str, key: str, header: str = "o[b,h,i,d], lse[b,h,i] over r: K", q: str = "q[b,h,i,c]", more: str = "",
    columns: str = "r", of_keys: str = "b, h // (H // G)",
) -> str:  # fmt: skip
    """A program of keys k[of_keys, key, c], of sizes that are fixed but for B."""
    return f"""
attention some {{
  size   B, K, H = {H}, G = {G}, S = {S}, N = {N}, M = {M}, D = {D}
  {declared}
  core {header} {{
    align  first
    let    key = {key}
    score  {q} * k[{of_keys}, key, c]
    scale  1 / sqrt(D)
    {more}
    softmax {columns}
    matmul v[{of_keys}, key, d]
  }}
  return o, lse
}}"""


def of_no_table(*args: str, **more: str) -> str:
    return spec(*args, **more).replace("B, K, H", "B, H")


KEYS = "input q[B,H,S,D], k[B,G,S,D], v[B,G,S,D]"
OWN = "input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]"
ONE = "input q[B,H,D], k[B,G,K,D], v[B,G,K,D], len[B]: int\n  assume 0 <= len[b]"
BLOCKS = "o[b,h,i,d], lse[b,h,i] over r: K, m: M"
SPECS = {
    # a group's heads
    "blocks_of_a_token": spec(
        f"{KEYS}, top[B,G,S,K]: int\n  assume 0 <= top[b,g,i,r], top[b,g,i,r] < N",
        "top[b, h // (H // G), i, r] * M + m", BLOCKS, more="allow key <= i", columns="(r m)",
    ),
    "biases": spec(
        f"{KEYS}, top[B,G,S,K]: int, gate[B,G,S,K], count[B,S]: int\n  param slope[H], T[H,K]\n"
        "  assume 0 <= top[b,g,i,r], top[b,g,i,r] < N",
        "top[b, h // (H // G), i, r] * M + m", BLOCKS, columns="(r m)",
        more="bias 0.1 * slope[h] * (key - i) + gate[b, h // (H // G), i, r] + T[h,r]\n    allow r < count[b,i]",
    ),
    "dropped": spec(
        f"{KEYS}, top[B,G,S,K]: int\n  scalar seed: int\n  assume 0 <= top[b,g,i,r], top[b,g,i,r] < S",
        "top[b, h // (H // G), i, r]",
    ).replace("softmax r", "softmax r\n    drop 0.25 seed seed"),
    # all heads
    "tokens": spec(
        "input q[B,H,S,D], k[B,S,D], v[B,S,D], top[B,S,K]: int\n  assume 0 <= top[b,i,r], top[b,i,r] < S",
        "top[b,i,r]", more="allow key <= i", of_keys="b",
    ),
    # a block's queries, alone and with a group's heads
    "blocks": spec(
        f"{OWN}, top[B,H,N,K]: int\n  assume 0 <= top[b,h,n,r], top[b,h,n,r] < N",
        "top[b,h,i // M,r] * M + m", BLOCKS, columns="(r m)", of_keys="b, h",
    ),
    "blocks_of_groups": spec(
        f"{KEYS}, top[B,G,N,K]: int\n  assume 0 <= top[b,g,n,r], top[b,g,n,r] < N",
        "top[b, h // (H // G), i // M, r] * M + m", BLOCKS, more="allow key <= i", columns="(r m)",
    ),
    # nothing: one row
    "tokens_of_a_head": spec(
        f"{OWN}, top[B,H,S,K]: int\n  assume 0 <= top[b,h,i,r], top[b,h,i,r] < S", "top[b,h,i,r]",
        more="allow key <= i", of_keys="b, h",
    ),
    "starts": of_no_table(
        f"{OWN}, near[B,S]: int\n  assume 0 <= near[b,i], near[b,i] < S", "min(near[b,i] + r, S - 1)",
        "o[b,h,i,d], lse[b,h,i] over r: 3", more="allow near[b,i] + r < S", of_keys="b, h",
    ),
    "steps": of_no_table(
        OWN, "max(i - 2 * r, 0)", "o[b,h,i,d], lse[b,h,i] over r: 3", more="allow 2 * r <= i", of_keys="b, h",
    ),
    # no query index
    "decoding": spec(ONE, "j", "o[b,h,d], lse[b,h] over j: K", "q[b,h,c]", "allow j < len[b]", "j"),
    "decoding_of_a_head": spec(
        "input q[B,H,D], k[B,H,K,D], v[B,H,K,D]\n  param T[H,K]", "j", "o[b,h,d], lse[b,h] over j: K", "q[b,h,c]",
        "bias T[h,j]", "j", "b, h",
    ),
    "decoding_of_pages": spec(
        "input q[B,H,D], k[N,M,G,D], v[N,M,G,D], page[B,K]: int, len[B]: int\n"
        "  assume 0 <= page[b,p], page[b,p] < N, 0 <= len[b]",
        "j", "o[b,h,d], lse[b,h] over j: K * M", "q[b,h,c]", "allow j < len[b]", "j",
    ).replace("b, h // (H // G), key", "page[b, j // M], j % M, h // (H // G)").replace("    let    key = j\n", ""),
}  # fmt: skip
LIMITS = {"seed": 9, "top": N, "page": N, "count": 4, "len": 2 * M, "near": S}
DEVICES = ["blocks_of_a_token", "blocks", "tokens_of_a_head", "decoding", "decoding_of_pages"]


def arrays(name: str, rng: np.random.Generator, dtype: str = "f32") -> Arrays:
    sizes = SIZES | {"K": 7 if "decoding" in name else 3}
    tokens = name.startswith(("tokens", "dropped"))
    made: Arrays = {}
    for argument in irc.compile(SPECS[name], target="reference").graph.inputs:
        dims = tuple(size_value(s, sizes) for s in argument.shape)
        if argument.kind is Kind.FLOAT:
            made[argument.name] = rng.standard_normal(dims).astype(DTYPE[dtype])
        else:
            made[argument.name] = rng.integers(0, S if tokens else LIMITS[argument.name], dims).astype(np.int32)
    return made


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("name", SPECS)
def test_outputs_and_gradients(name: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    both(SPECS[name], arrays(name, rng, dtype), dtype, rng)


@pytest.mark.parametrize("dtype", ["f64", "f16"])
def test_other_element_types(dtype: str) -> None:
    rng = np.random.default_rng(1)
    both(SPECS["biases"], arrays("biases", rng, dtype), dtype, rng)


@pytest.mark.parametrize("threads", ["1", "3", "50"])
@pytest.mark.parametrize("name", ["blocks_of_a_token", "tokens", "blocks"])
def test_threads_share_out_what_is_added_up(name: str, threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRC_THREADS", threads)
    rng = np.random.default_rng(2)
    both(SPECS[name], arrays(name, rng), "f32", rng)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("name", DEVICES)
def test_on_a_device(name: str, dtype: str) -> None:
    rng = np.random.default_rng(3)
    both(SPECS[name], arrays(name, rng, dtype), dtype, rng, target="emulator")


@pytest.mark.parametrize("name", SPECS)
def test_pairs_live_in_one_kernel_of_tiles_each_way(name: str) -> None:
    sizes = SIZES | {"K": 1000, CHUNKS.name: 1}
    program = irc.compile(SPECS[name])
    compiled = program.built({}).compiled
    most = max(prod(evaluate(s, sizes) for s in given.shape) for given in compiled.forward_graph.inputs)
    for run in compiled.runs:
        kernels = [k for k in run.kernels if isinstance(k, TileKernel)]
        assert len(kernels) == (2 if name == "dropped" else 1) or name == "biases", [k.name for k in kernels]
        for tensor in run.plan.tensors:
            assert prod(evaluate(s, sizes) for s in tensor.shape) <= 4 * most, tensor.name


def test_keys_that_are_shared_keep_their_rows() -> None:
    """Vectors of distances and tables of pairs beside keys that all queries read, or alone beside such values."""
    text = """
attention near {
  size B, H, S, D, M
  input q[B,H,S,16], k[B,H,S,16], v[B,H,S,16], kind[S,S]: int
  param E[M,16], F[2 * S, 16]
  assume 0 <= kind[i,j], kind[i,j] < M
  core o[b,h,i,d] {
    align first
    score q[b,h,i,c] * TERM
    softmax j
    matmul v[b,h,j,d]
  }
  return o
}"""
    for term in ("(k[b,h,j,c] + E[kind[i,j],c])", "E[kind[i,j],c]", "F[i - j + S,c]"):
        program = irc.compile(text.replace("TERM", term), sizes={"M": 4, "D": 16})
        for run in program.built({}).compiled.runs:
            tiled = [k for k in run.kernels if isinstance(k, TileKernel)]
            assert tiled and all([a.name for a in k.rows] == ["i"] for k in tiled), term


def test_groups_that_are_not_known_to_be_whole() -> None:
    """Heads that share keys where nothing says that their number divides: a row alone, and rows of the form for few."""
    text = """
attention decoding {
  size B, H, G, S, D
  input q[B,H,D], k[B,G,S,D], v[B,G,S,D]
  assume H == 4 * G
  core o[b,h,d] {
    score q[b,h,c] * k[b, h // 4, j, c]
    softmax j
    matmul v[b, h // 4, j, d]
  }
  return o
}"""
    rng = np.random.default_rng(6)
    both(
        text, given(irc.compile(text, target="reference"), {"B": 2, "H": 8, "G": 2, "S": 70, "D": 16}, rng), "f32", rng
    )


def test_a_head_of_keys_that_a_table_picks() -> None:
    """Each token's head names the head whose keys it reads: their gradients are no tensor of pairs either."""
    text = """
attention picks {
  size B, H, S, G, D
  input q[B,S,H,D], k[B,S,G,D], v[B,S,G,D], of[B,S,H]: int
  assume 0 <= of[b,i,h], of[b,i,h] < G
  core o[b,i,h,d] {
    align first
    score q[b,i,h,c] * k[b, j, of[b,i,h], c]
    allow j <= i
    softmax j
    matmul v[b, j, of[b,i,h], d]
  }
  return o
}"""
    rng, sizes = np.random.default_rng(7), {"B": 2, "H": 3, "S": 41, "G": 2, "D": 16, CHUNKS.name: 1}
    inputs = {n: rng.standard_normal((2, 41, h, 16)).astype(np.float32) for n, h in (("q", 3), ("k", 2), ("v", 2))}
    both(text, inputs | {"of": rng.integers(0, 2, (2, 41, 3)).astype(np.int32)}, "f32", rng)
    for run in irc.compile(text, sizes={"D": 16}).built({}).compiled.runs:
        for tensor in run.plan.tensors:
            assert prod(evaluate(s, sizes) for s in tensor.shape) <= inputs["q"].size, tensor.name


FRAMES = """
attention video {
  size B, H, F, S, D
  input q[B,F,S,H,D], k[B,F,S,KEYS], v[B,F,S,KEYS]
  param u[H,F,S]
  core o[b,f,s,h,d], lse[b,f,s,h] over g: F, t: S {
    score q[b,f,s,h,c] * k[b,g,t,OF_KEYS,c]
    bias  u[h,g,t]
    allow g <= f
    softmax (g t)
    matmul v[b,g,t,OF_KEYS,d]
  }
  return o, lse
}"""


@pytest.mark.parametrize("heads", [True, False])
def test_pixels_that_no_mask_compares_are_rows_beside_their_frames(heads: bool) -> None:
    """Heads that share all keys are not."""
    rng, sizes = np.random.default_rng(5), {"B": 2, "H": 3, "F": 3, "S": 21, "D": 8}
    text = FRAMES.replace("OF_KEYS,", "h," if heads else "").replace("KEYS", "H,D" if heads else "D")
    for dtype, target in (("f32", "cpu"), ("bf16", "cpu"), ("f32", "emulator")):
        both(text, given(irc.compile(text, target="reference"), sizes, rng, dtype), dtype, rng, target=target)
    for run in irc.compile(text, sizes={"D": 8}).built({}).compiled.runs:
        rows = [[a.name for a in k.rows] for k in run.kernels if isinstance(k, TileKernel)]
        assert rows and all(names == ["f", "s"] for names in rows)


def test_keys_that_add_what_others_share_are_left() -> None:
    """Where each query adds vectors of its own to keys that all read, a row alone would make all of them again."""
    text = """
attention edges {
  size B, H, S, D
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D], e[B,S,S,D]
  core o[b,h,i,d] {
    score q[b,h,i,c] * (k[b,h,j,c] + e[b,i,j,c])
    softmax j
    matmul v[b,h,j,d] + e[b,i,j,d]
  }
  return o
}"""
    runs = irc.compile(text, sizes={"D": 16}).built({}).compiled.runs
    assert not any(isinstance(k, TileKernel) and k.rows[0].name != "i" for run in runs for k in run.kernels)


@pytest.mark.optimise("-O3")
def test_what_nobody_picks_may_hold_anything() -> None:
    """Keys and values that no query picks, or that the mask blocks, change no bit of outputs and other gradients."""
    rng = np.random.default_rng(4)
    inputs = arrays("blocks_of_a_token", rng)
    inputs["top"] = inputs["top"] % (N - 1)  # never the last block
    program = irc.compile(SPECS["blocks_of_a_token"])

    def made() -> Arrays:
        run = program.forward(**inputs)
        return {**run.outputs, **run.backward(o=np.ones_like(run.outputs["o"]))}

    clean = made()
    for name, value in (("k", np.nan), ("v", np.inf)):
        inputs[name] = inputs[name].copy()
        inputs[name][:, :, (N - 1) * M :] = value
    for name, array in made().items():
        assert np.array_equal(array, clean[name]), name


@pytest.mark.parametrize(
    ("threads", "owners", "chunks"), [(1, 1, 1), (2, 1, 2), (2, 3, 2), (2, 8, 1), (64, 32, 8), (64, 1, 64), (4, 0, 4)]
)
def test_chunks_are_as_many_as_threads_want(threads: int, owners: int, chunks: int) -> None:
    assert evaluate(chunks_of(integer(owners)), {CHUNKS.name: threads}) == chunks
    assert evaluate(chunks_of(Size("B")), {CHUNKS.name: threads, "B": owners}) == chunks


GROUPED_SCALES = """
attention scaled {
  size B, H, G, S, U, D
  input q[B,H,U,D], k[B,S,G,U,D], scale[B,S,G,U], v[B,S,G,D]
  param w[U]
  assume H % G == 0
  core o[b,h,d] {
    score SCORE
    softmax j
    matmul v[b,j,h // (H // G),d]
  }
  return o
}
"""


@pytest.mark.parametrize("target", ["cpu", "emulator"])
@pytest.mark.parametrize(
    "score",
    [
        "q[b,h,u,c] * k[b,j,h // (H // G),u,c] * scale[b,j,h // (H // G),u]",
        "sum(u: w[u] * max(sum(c: q[b,h,u,c] * k[b,j,h // (H // G),u,c]), 0))",
    ],
)
def test_sums_over_groups_of_features_of_one_query(score: str, target: str) -> None:
    """As of a cache whose keys have a scale for each group; and of what is no longer product."""
    rng = np.random.default_rng(12)
    shapes = {"q": (2, 4, 3, 8), "k": (2, 37, 2, 3, 8), "scale": (2, 37, 2, 3), "v": (2, 37, 2, 8), "w": (3,)}
    given = {name: rng.standard_normal(shape).astype(np.float64) for name, shape in shapes.items()}
    both(GROUPED_SCALES.replace("SCORE", score), given, "f64", rng, target=target)


SHARED = """
attention shared {{
  size B, S, T, G, M, D
  input {inputs}
  core o[{index},d] {{
    score q[{query},c] * k[{key},c]
    {stage}
    softmax t
    matmul v[{value},d]
  }}
  return o
}}
"""


@pytest.mark.parametrize("target", ["cpu", "emulator"])
@pytest.mark.parametrize(
    ("shapes", "indices", "stage", "rows"),
    [
        (("B,S,M,D", "B,T,D", "B,T,D"), ("b,s,m", "b,s,m", "b,t", "b,t"), "", {"s", "m"}),
        (("B,M,S,D", "B,T,D", "B,T,D"), ("b,m,s", "b,m,s", "b,t", "b,t"), "", {"s", "m"}),
        (("B,S,M,D", "T,D", "T,D"), ("b,s,m", "b,s,m", "t", "t"), "", {"b", "s", "m"}),
        (("B,S,G,M,D", "B,T,G,D", "B,T,G,D"), ("b,s,g,m", "b,s,g,m", "b,t,g", "b,t,g"), "", {"s", "m"}),
        (("B,S,G,M,D", "B,T,G,D", "B,T,G,D"), ("b,s,g,m", "b,s,g,m", "b,t,g", "b,t,g"), "bias -abs(s - t)", {"s", "m"}),
        (("B,S,G,M,D", "B,T,G,M,D", "B,T,G,D"), ("b,s,g,m", "b,s,g,m", "b,t,g,m", "b,t,g"), "", {"s"}),
        (("B,S,G,D", "B,S,D", "B,S,D"), ("b,s,g", "b,s,g", "b,t", "b,t"), "allow t <= s", {"s"}),
        (("B,S,G,D", "B,S,D", "B,S,D"), ("b,s,g", "b,s,g", "b,t", "b,t"), "bias (g + 1) * t - (g + 1) * s", {"s"}),
        (("B,S,G,D", "B,S,D", "B,S,D"), ("b,s,g", "b,s,g", "b,t", "b,t"), "bias -abs(s - t)", {"s"}),
    ],
)
def test_queries_of_heads_that_share_keys(
    shapes: tuple[str, ...], indices: tuple[str, ...], stage: str, rows: set[str], target: str
) -> None:
    """Whichever index comes last, and whether or not a mask or a bias tells which one is the queries'."""
    inputs = ", ".join(f"{name}[{shape}]" for name, shape in zip("qkv", shapes, strict=True))
    index, query, key, value = indices
    spec = SHARED.format(inputs=inputs, index=index, query=query, key=key, value=value, stage=stage)
    for size in "TGM":
        spec = spec if size in "".join(shapes) else spec.replace(f", {size},", ",", 1)
    rng = np.random.default_rng(4)
    sizes = {"B": 2, "S": 19, "T": 23, "G": 2, "M": 3, "D": 8}
    both(spec, given(irc.compile(spec, target="reference"), sizes, rng), "f32", rng, target=target)
    for run in irc.compile(spec, target=target).built({"D": 8}).compiled.runs:
        for kernel in run.kernels:
            assert not isinstance(kernel, TileKernel) or {axis.name for axis in kernel.rows} == rows


@pytest.mark.parametrize("target", ["cpu", "emulator"])
def test_keys_that_are_another_core_s_queries(target: str) -> None:
    """What it sums over the queries of the first is no value of pairs, and its features are no rows."""
    spec = """
attention both_ways {
  size  B, S, T, D
  input q[B,S,D], k[B,T,D], v[B,T,D], w[B,S,D]
  core o[b,i,d] {
    score  q[b,i,c] * k[b,j,c]
    softmax j
    matmul v[b,j,d]
  }
  core r[b,j,d], lse[b,j] {
    score  q[b,i,c] * k[b,j,c]
    softmax i
    matmul w[b,i,d]
  }
  return o, r, lse
}"""
    rng = np.random.default_rng(4)
    sizes = {"B": 2, "S": 19, "T": 23, "D": 8}
    both(spec, given(irc.compile(spec, target="reference"), sizes, rng), "f32", rng, target=target)
