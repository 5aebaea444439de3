"""Tangents and second derivatives, in float64, against central differences at two step sizes, adjoint dot tests and
the symmetry of the Hessian; and their kernels against the interpreter."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import irc
from irc import pipeline
from irc.codegen.expr import Kind
from irc.compiled import Precision
from irc.fusion.tile import NotFusible
from irc.graph.interpret import size_value
from irc.graph.ir import is_tile
from irc.passes.differentiate import differentiable
from irc.pipeline import tangents
from tests.cases import CASES, CORE, text
from tests.random_programs import RandomProgram, programs
from tests.test_kernels import DTYPE, TOLERANCE, relative, widened

FOLDER = Path(__file__).parent.parent / "examples"
EXAMPLES = [p for part in (".", "variants", "charlm", "minilm") for p in sorted((FOLDER / part).glob("*.attn"))]
Arrays = dict[str, np.ndarray]
SIZES = {"B": 2, "H": 4, "G": 2, "Sq": 3, "Sk": 5, "S": 4, "D": 3, "V": 2, "E": 5, "N": 3, "M": 7}

WEIGHTS = """
attention weights {{
  size B, H, Sq, Sk, D, V
  input q[B,H,Sq,D], k[B,H,Sk,D], v[B,H,Sk,V]
  param slope[H], gain[H]
  scalar seed: int
  core o[b,h,i,d] {{
    align last
    score q[b,h,i,c] * k[b,h,j,c]
    scale 1 / sqrt(D)
    bias slope[h] * (j - pos(i))
    allow j <= pos(i) and i != 1
    {stages}
    matmul v[b,h,j,d]
  }}
  return o
}}
"""
BLOCK = """
attention block {
  size B, S, E, H, D
  input x[B,S,E]
  param W[E, (3 H D)], g[E], mix[H], Wo[(H D), E]
  project {
    y[b,s,e] = x[b,s,e] * g[e]
    qkv[t,b,h,s,d] = y[b,s,e] * W[e, (t h d)]
    q[b,h,s,d] = qkv[0,b,h,s,d]
    k[b,h,s,d] = qkv[1,b,h,s,d]
    v[b,h,s,d] = qkv[2,b,h,s,d]
  }
  core near[b,h,i,d], lse[b,h,i] {
    score q[b,h,i,c] * k[b,h,j,c]
    scale 1 / (E * sqrt(D))
    allow i - 2 < j and j <= i
    softmax j
    matmul v[b,h,j,d]
  }
  core far[b,h,i,d] {
    score near[b,h,i,c] * k[b,h,j,c]
    scale 1 / (E * sqrt(D))
    allow j < i
    softmax j
    matmul v[b,h,j,d]
    stat m[b,h,i] = max
    stat ent[b,h,i] = entropy
  }
  merge {
    both[b,h,s,d] = near[b,h,s,d] - tanh(mix[h]) * far[b,h,s,d]
    z[b,s,e] = both[b,h,s,d] * Wo[(h d), e]
  }
  return z, lse, m, ent
}
"""
PAIRS = """
attention pairs {
  size B, H, N, M = 7, D
  input q[B,H,(N M),D], k[B,H,(N M),D], distance[B,M,M]
  param strength[H], near[3,D]
  core o[b,h,n,i,d] {
    score q[b,h,(n i),c] * k[b,h,(n j),c] + q[b,h,(n i),c] * near[clamp(j - i, -1, 1) + 1, c]
    scale 1 / D
    bias strength[h] * distance[b,i,j]
    softmax j
    matmul k[b,h,(n j),d]
  }
  return o
}
"""
PROGRAMS = {
    **{name: text(name) for name in CASES},
    "sigmoid": WEIGHTS.format(stages="sigmoid j\n map weight * gain[h] + weight ^ 2"),
    "relu": WEIGHTS.format(stages="relu j\n map weight * weight"),
    "normalize": WEIGHTS.format(stages="normalize j\n drop 0.25 seed seed"),
    "softmax dropped": WEIGHTS.format(stages="softmax j with gain[h]\n drop 0.25 seed seed"),
    "block": BLOCK,
    "pairs": PAIRS,
    "many": CORE.format(
        declare="param s[H], cap, t[H, (Sq + Sk)]", sink="with s[h]", returned=", m",
        stage="map cap * tanh(score / cap)\n bias t[h, i - j + Sk]\n allow j <= pos(i) and i != 1",
        stat="stat m[b,h,i] = max",
    ),
}  # fmt: skip


@cache
def reference(source: str) -> irc.Program:
    return irc.compile(source, target="reference")


def inputs(program: irc.Program, sizes: dict[str, int], rng: np.random.Generator) -> Arrays:
    shapes = {n.name: tuple(size_value(s, sizes) for s in n.shape) for n in program.graph.inputs}
    kinds = {n.name: n.kind for n in program.graph.inputs}
    return {n: 0.5 + rng.standard_normal(s) if kinds[n] is Kind.FLOAT else np.array(7) for n, s in shapes.items()}


def direction(program: irc.Program, values: Arrays, rng: np.random.Generator) -> Arrays:
    """A tangent for every input that takes one."""
    return {n: rng.standard_normal(values[n].shape) for n in differentiable(program.graph)}


def cotangents(program: irc.Program, values: Arrays, rng: np.random.Generator) -> Arrays:
    return {n: rng.standard_normal(a.shape) for n, a in program.forward(**values).outputs.items()}


def moved(values: Arrays, along: Arrays, step: float) -> Arrays:
    return {n: a + step * along[n] if n in along else a for n, a in values.items()}


def dot(a: Arrays, b: Arrays) -> tuple[float, float]:
    """The inner product, and the sum of its terms' sizes (1 at least)."""
    terms = [a[n] * b[n] for n in b]
    return sum(float(t.sum()) for t in terms), max(1.0, sum(float(np.abs(t).sum()) for t in terms))


@pytest.mark.parametrize("name", PROGRAMS)
def test_tangents_agree_with_central_differences(name: str) -> None:
    program, rng = reference(PROGRAMS[name]), np.random.default_rng(11)
    values = inputs(program, SIZES, rng)
    along = direction(program, values, rng)
    outputs, found = program.jvp(values, along)
    for output, value in program.forward(**values).outputs.items():
        np.testing.assert_array_equal(outputs[output], value)
    for step in (1e-5, 3e-6):
        above, below = (program.forward(**moved(values, along, s)).outputs for s in (step, -step))
        for output, tangent in found.items():
            with np.errstate(invalid="ignore"):
                expected = np.where(np.isfinite(above[output]), (above[output] - below[output]) / (2 * step), 0.0)
            assert relative(tangent, expected) < 1e-7, output


@pytest.mark.parametrize("name", PROGRAMS)
def test_forward_and_reverse_mode_are_adjoint(name: str) -> None:
    """<J v, u> = <v, J^T u>."""
    program, rng = reference(PROGRAMS[name]), np.random.default_rng(12)
    values = inputs(program, SIZES, rng)
    along, u = direction(program, values, rng), cotangents(program, values, rng)
    ahead, scale = dot(program.jvp(values, along)[1], u)
    back, _ = dot(program.forward(**values).backward(**u), along)
    assert ahead == pytest.approx(back, abs=1e-10 * scale)


@pytest.mark.parametrize("name", PROGRAMS)
def test_hessians_are_symmetric_and_agree_with_central_differences(name: str) -> None:
    """<u, H v> = <v, H u>; H v is how the gradients change along v."""
    program, rng = reference(PROGRAMS[name]), np.random.default_rng(13)
    values = inputs(program, SIZES, rng)
    v, u = direction(program, values, rng), direction(program, values, rng)
    weights = cotangents(program, values, rng)
    along_v, along_u = program.hvp(values, v, weights), program.hvp(values, u, weights)
    one, scale = dot(along_v, u)
    assert one == pytest.approx(dot(along_u, v)[0], abs=1e-10 * scale)
    for step in (1e-5, 3e-6):
        above, below = (program.forward(**moved(values, v, s)).backward(**weights) for s in (step, -step))
        for n, product in along_v.items():
            assert relative(product, (above[n] - below[n]) / (2 * step)) < 1e-6, n


@settings(
    max_examples=60, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(programs(), st.integers(0, 10**6))
def test_dot_tests_of_random_programs(random: RandomProgram, seed: int) -> None:
    """Both modes are adjoint and the Hessian is symmetric; every program's derivatives fuse."""
    program, rng = irc.compile(random.text, sizes=random.sizes, target="reference"), np.random.default_rng(seed)
    values = random.make_inputs(rng, random.sizes)
    v, u = direction(program, values, rng), direction(program, values, rng)
    weights = cotangents(program, values, rng)
    ahead, scale = dot(program.jvp(values, v)[1], weights)
    assert ahead == pytest.approx(dot(program.forward(**values).backward(**weights), v)[0], abs=1e-10 * scale)
    one, scale = dot(program.hvp(values, v, weights), u)
    assert one == pytest.approx(dot(program.hvp(values, u, weights), v)[0], abs=1e-10 * scale)
    for second_order in (False, True):
        within_the_law(program, random.sizes, second_order)


def within_the_law(program: irc.Program, sizes: dict[str, int], second_order: bool) -> None:
    """Assert that the derivatives fuse, and that what lies in memory has no query and key index of its own."""
    names, f32 = differentiable(program.graph), Precision("f32", "f32")
    derived = tangents(program.graph, sizes, f32, names, second_order)
    assert derived.fused is not None
    returned = {name for _, name in derived.graph.outputs}
    for tensor in derived.fused.plan.tensors:
        node = derived.graph.by_name.get(tensor.name)
        assert node is None or not is_tile(node) or tensor.name in returned, tensor.name


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_derivatives_of_every_example_fuse(path: Path) -> None:
    program = irc.compile(path, target="reference")
    for second_order in (False, True):
        within_the_law(program, dict.fromkeys(program.features, 4), second_order)


# kernels

LARGE = {"B": 2, "H": 4, "G": 2, "Sq": 130, "Sk": 107, "S": 70, "D": 16, "V": 24, "E": 20, "N": 9, "M": 7}


def compare(source: str, dtype: str, sizes: dict[str, int], seed: int = 14) -> None:
    """Assert that kernels and interpreter agree on tangents and on Hessians times vectors."""
    program, expected, rng = irc.compile(source, dtype=dtype), reference(source), np.random.default_rng(seed)
    made = inputs(program, sizes, rng)
    values = {n: a if a.dtype.kind == "i" else a.astype(DTYPE[dtype]) for n, a in made.items()}
    along = {n: a.astype(DTYPE[dtype]) for n, a in direction(program, values, rng).items()}
    outputs, found = program.jvp(values, along)
    _, wanted = expected.jvp(widened(values), widened(along))
    for name, tangent in found.items():
        assert tangent.dtype == outputs[name].dtype
        assert relative(tangent, wanted[name]) < TOLERANCE[dtype], name
    weights = {n: rng.standard_normal(a.shape).astype(a.dtype) for n, a in outputs.items()}
    products = program.hvp(values, along, weights)
    wanted = expected.hvp(widened(values), widened(along), widened(weights))
    largest = max(float(np.linalg.norm(a)) for a in wanted.values())
    for name, product in products.items():
        assert product.dtype == values[name].dtype
        assert relative(product, wanted[name], 0.1 + 0.1 * largest) < 3 * TOLERANCE[dtype], name


@pytest.mark.optimise("-O0")
@pytest.mark.parametrize("name", ["entropy", "sigmoid", "normalize", "pairs"])
def test_kernels_agree_with_the_interpreter(name: str) -> None:
    compare(PROGRAMS[name], "f64", LARGE)


@pytest.mark.optimise("-O0")
@pytest.mark.parametrize("name, dtype", [("sink", "f32"), ("sink", "bf16")])
def test_element_types(name: str, dtype: str) -> None:
    compare(PROGRAMS[name], dtype, LARGE)


def test_blocked_values_that_are_not_finite_change_no_bit() -> None:
    program, rng = irc.compile(PROGRAMS["causal"]), np.random.default_rng(15)
    sizes = {**LARGE, "Sk": 140}  # the first query sees 11 keys
    values = {n: a.astype(np.float32) for n, a in inputs(program, sizes, rng).items()}
    along = {n: a.astype(np.float32) for n, a in direction(program, values, rng).items()}
    outputs, first = program.jvp(values, along)
    weights = {n: rng.standard_normal(a.shape).astype(a.dtype) for n, a in outputs.items()}
    for u in weights.values():
        u[:, :, 100:] = 0
    clean = program.hvp(values, along, weights)
    for poison in (np.nan, np.inf):
        for spoiled in (values, along):
            whole = {n: a.copy() for n, a in spoiled.items()}
            for name in ("k", "v"):
                whole[name][:, :, 111:] = poison  # queries before the hundredth do not see these
            given = (whole, along) if spoiled is values else (values, whole)
            for name, tangent in program.jvp(*given)[1].items():
                assert np.array_equal(tangent[:, :, :100], first[name][:, :, :100]), name
            assert np.array_equal(program.hvp(*given, weights)["q"][:, :, :100], clean["q"][:, :, :100])


# calls


def test_a_missing_tangent_is_zero() -> None:
    program, rng = reference(PROGRAMS["many"]), np.random.default_rng(16)
    values = inputs(program, SIZES, rng)
    along, weights = direction(program, values, rng), cotangents(program, values, rng)
    some = {n: a for n, a in along.items() if n in ("k", "cap")}
    zeros = {n: some.get(n, np.zeros_like(a)) for n, a in along.items()}
    for a, b in ((program.jvp(values, some)[1], program.jvp(values, zeros)[1]),
                 (program.hvp(values, some, weights), program.hvp(values, zeros, weights))):  # fmt: skip
        for name in b:
            np.testing.assert_allclose(a[name], b[name], rtol=1e-12, atol=1e-12, err_msg=name)
    for none in ({}, {"k": None}):
        assert all(not np.any(t) for t in program.jvp(values, none)[1].values())
    assert all(not np.any(p) for p in program.hvp(values, along, {}).values())


def test_arguments_that_do_not_fit_are_named() -> None:
    program, rng = reference(PROGRAMS["sigmoid"]), np.random.default_rng(17)
    values = inputs(program, SIZES, rng)
    with pytest.raises(irc.InputError, match="tangent of seed: no floating input or param; those are q, k, v"):
        program.jvp(values, {"seed": np.array(0.0)})
    with pytest.raises(irc.InputError, match=r"tangent of slope: expected shape \[4\], got \[3\]"):
        program.jvp(values, {"slope": np.zeros(3)})
    with pytest.raises(irc.InputError, match="vector of q: expected f64, got f32"):
        program.hvp(values, {"q": values["q"].astype(np.float32)}, {})
    with pytest.raises(irc.InputError, match="lse: no output of that name; the outputs are o"):
        program.hvp(values, {}, {"lse": np.zeros(3)})
    with pytest.raises(irc.InputError, match="cotangent of o: expected shape"):
        program.hvp(values, {}, {"o": np.zeros(3)})


def test_derivatives_are_compiled_when_asked_for_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[object] = []
    honest = pipeline.tangents
    monkeypatch.setattr(pipeline, "tangents", lambda *given: asked.append(given[3:5]) or honest(*given))
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path))
    rng = np.random.default_rng(18)
    for wanted in ([(("q",), False), (("k",), False)], []):  # of the second program the kernels are found on disk
        asked.clear()
        program = irc.compile(PROGRAMS["sigmoid"], dtype="f64")
        values = inputs(program, LARGE, rng)
        assert not asked
        for along in ({"q": values["q"]}, {"q": values["q"]}, {"k": values["k"]}):
            program.jvp(values, along)
        assert asked == wanted


def test_outputs_that_are_no_floats_have_no_tangent_and_names_do_not_meet() -> None:
    """A core `d` has a tile `d.weight`, which is not the gradient of `weight`."""
    program = reference("""
attention names {
  size B, S, D
  input q[B,S,D], k[B,S,D]
  param weight[S]
  core d[b,i,c] {
    score q[b,i,e] * k[b,j,e]
    bias weight[j]
    softmax j
    matmul k[b,j,c]
  }
  merge { positive[s] = where(weight[s] > 0, 1, 0) }
  return d, positive
}
""")
    rng = np.random.default_rng(19)
    values = inputs(program, SIZES, rng)
    along, u = direction(program, values, rng), {"d": rng.standard_normal(values["q"].shape)}
    outputs, found = program.jvp(values, along)
    assert (set(outputs), set(found)) == ({"d", "positive"}, {"d"})
    back, scale = dot(program.forward(**values).backward(**u), along)
    assert dot(found, u)[0] == pytest.approx(back, abs=1e-10 * scale)
    assert program.hvp(values, along, u)["weight"].shape == values["weight"].shape


def test_what_does_not_fuse_is_an_error_that_names_the_reference(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*given: object) -> None:
        raise NotFusible("x is no sum over features")

    monkeypatch.setattr(pipeline, "fuse", refuse)
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path))
    rng = np.random.default_rng(20)
    program = irc.compile(PROGRAMS["sigmoid"], dtype="f64")
    values = inputs(program, SIZES, rng)
    with pytest.raises(irc.Error, match=r'its tangents do not fuse \(x is .*\); target="reference" computes them'):
        program.jvp(values, {"q": values["q"]})
    with pytest.raises(irc.Error, match="its second derivatives do not fuse"):
        program.hvp(values, {"q": values["q"]}, {})
    by_reference = irc.compile(PROGRAMS["sigmoid"], target="reference")
    assert by_reference.jvp(values, {"q": values["q"]})[1]["o"].any()
