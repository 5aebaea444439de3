"""Loop nests compute outside of their inner loops what these do not change, and mean the same."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from compiled import call

from irc.codegen.expr import Axis, Expr, Load, Size, integer, number, op
from irc.codegen.kernel import Loop, LoopKernel, Target, Tensor
from irc.codegen.render import MODEL, render_kernel

s, f = Axis("s", Size("S")), Axis("f", Size("F"))
t, u = Axis("t", integer(2)), Axis("u", integer(2))
BASE = Load("base", ())
POWER = op("pow", BASE, op("div", op("neg", op("float", f.index)), op("float", f.size)))
ANGLE = op("mul", op("float", s.index), POWER)


def kernel(loop: Loop, ranks: dict[str, int], storage: str = "f32") -> LoopKernel:
    tensors = tuple(Tensor(name, storage, rank, name == "y") for name, rank in ranks.items())  # type: ignore[arg-type]
    arithmetic = "f64" if storage == "f64" else "f32"
    return LoopKernel("nest", tensors, ("S", "F"), (loop,), None, arithmetic)  # type: ignore[arg-type]


def pointwise(axes: tuple[Axis, ...], body: Expr, where: Expr | None = None) -> Loop:
    target = Target("y", tuple(axis.index for axis in axes))
    return Loop(axes, (), "", body, where, None, target, False, tuple(axis.name for axis in axes))


def turns(storage: str = "f32") -> LoopKernel:
    """A 2 x 2 matrix for each position and feature: a rotation by an angle."""
    off = op("where", op("lt", t.index, u.index), op("neg", op("sin", ANGLE)), op("sin", ANGLE))
    body = op("where", op("eq", t.index, u.index), op("cos", ANGLE), off)
    return kernel(pointwise((s, f, t, u), body), {"base": 0, "y": 4}, storage)


def run(k: LoopKernel, y: np.ndarray, sizes: dict[str, int], threads: int = 2, **arrays: np.ndarray) -> np.ndarray:
    call(k, {"y": y, **arrays}, sizes, threads)
    return y


def test_calls_are_made_where_their_arguments_are_known() -> None:
    lines = [line.strip() for line in "".join(render_kernel(turns(), MODEL)).splitlines()]
    seen = [n for n, line in enumerate(lines) for name in ("pow", "cos", "sin") if f"irc::{name}(" in line]
    loops = {name: n for n, line in enumerate(lines) for name in "sftu" if line.startswith(f"for (int64_t {name} ")}
    assert len(seen) == 3
    assert loops["f"] < seen[0] < loops["s"] < seen[1] < seen[2] < loops["t"] < loops["u"]


@pytest.mark.parametrize("storage", ["f32", "f64"])
@pytest.mark.parametrize("positions", [0, 1, 255, 600])
def test_rotations(positions: int, storage: str) -> None:
    dtype = np.dtype({"f32": "float32", "f64": "float64"}[storage])
    angle = np.arange(positions)[:, None] * 1e4 ** (-np.arange(5) / 5)
    expected = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).transpose(2, 3, 0, 1)
    base = np.array(1e4, dtype)
    results = [
        run(turns(storage), np.empty((positions, 5, 2, 2), dtype), {"S": positions, "F": 5}, n, base=base)
        for n in (1, 2, 3)
    ]
    np.testing.assert_allclose(results[0], expected, rtol=0, atol=6e-8 if storage == "f32" else 1e-13)
    assert len({r.tobytes() for r in results}) == 1


def exactly(function: Callable[[float], float], x: np.ndarray) -> np.ndarray:
    """By the C library one by one: numpy has vectors of its own."""
    return np.array([function(v) if math.isfinite(v) else math.nan for v in x.flat]).reshape(x.shape)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("base", [3e8, 1e30, np.inf, np.nan, -2.0])
def test_far_angles_and_those_that_are_none(base: float) -> None:
    value = np.array(base, np.float32)
    angle = op("mul", op("float", s.index), op("pow", BASE, op("float", f.index)))
    body = op("where", op("eq", t.index, integer(0)), op("sin", angle), op("cos", angle))
    k = kernel(pointwise((s, f, t), body), {"base": 0, "y": 3})
    got = run(k, np.empty((40, 3, 2), np.float32), {"S": 40, "F": 3}, base=value)
    exact = np.arange(40)[:, None] * np.array([math.pow(float(value), n) for n in range(3)])
    expected = np.stack([exactly(math.sin, exact), exactly(math.cos, exact)], -1)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)


def test_what_reads_a_tensor_stays_behind_its_guard() -> None:
    far = op("exp", Load("x", (op("mul", op("add", s.index, integer(1)), integer(1 << 40)),)))
    guard = op("lt", f.index, integer(0))
    body = op("where", guard, far, number(1.0))
    got = run(kernel(pointwise((s, f), body), {"x": 1, "y": 2}), np.empty((7, 9), np.float32), {"S": 7, "F": 9},
              x=np.zeros(7, np.float32))  # fmt: skip
    np.testing.assert_array_equal(got, np.ones((7, 9)))


def test_sines_of_elements() -> None:
    x = np.random.default_rng(0).standard_normal((20, 33)).astype(np.float32) * 1e5
    body = op("sin", op("mul", Load("x", (s.index, f.index)), op("exp", op("float", s.index))))
    got = run(kernel(pointwise((s, f), body), {"x": 2, "y": 2}), np.empty_like(x), {"S": 20, "F": 33}, x=x)
    exact = np.sin(x.astype(np.float64) * np.exp(np.arange(20.0))[:, None])
    np.testing.assert_allclose(got, exact, rtol=0, atol=1e-3)


@pytest.mark.parametrize("reduce", ["sum", "max", "argmax", "logsumexp"])
def test_short_reductions_inside_of_the_last_axis(reduce: str) -> None:
    body = op("mul", Load("x", (u.index, f.index)), Load("turn", (s.index, f.index, t.index, u.index)))
    axes = (s, t, f)
    target = Target("y", tuple(axis.index for axis in axes))
    loop = Loop(axes, (u,), reduce, body, None, None, target, False, ("s", "t", "f"))  # type: ignore[arg-type]
    k = kernel(loop, {"x": 2, "turn": 4, "y": 3})
    assert "collapse(2)" in "".join(render_kernel(k, MODEL))
    random = np.random.default_rng(0)
    x, turn = (random.standard_normal(shape).astype(np.float32) for shape in ((2, 70), (11, 70, 2, 2)))
    terms = (x.T[None, :, None, :] * turn).transpose(0, 2, 1, 3)
    expected = {
        "sum": terms.sum(-1),
        "max": terms.max(-1),
        "argmax": terms.argmax(-1),
        "logsumexp": np.log(np.exp(terms).sum(-1)),
    }[reduce]
    got = run(k, np.empty((11, 2, 70), np.float32), {"S": 11, "F": 70}, x=x, turn=turn)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
