"""JAX on the CPU, under jit: jax.nn.dot_product_attention, or its formula where that has no such score; and gradients.

XLA's thread pool is as wide as the processors that the process may run on when JAX is first used, so that the number of
threads is set by the process's affinity.
"""

from __future__ import annotations

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.cases import Problem
from benchmarks.peers import Array, Ready, Unsupported
from benchmarks.variants import WINDOW


class Attention:
    def __init__(self, threads: int) -> None:
        pass

    def prepare(self, problem: Problem) -> Ready:
        if problem.case.work == "backward":
            raise Unsupported("measured as forward+backward")
        operands = {n: jnp.asarray(a.transpose(0, 2, 1, 3)) for n, a in problem.operands.items()}  # [B,S,H,D]
        tables = {n: jnp.asarray(a) for n, a in problem.tables.items()}
        learned = problem.variant.learned
        leaves = [operands[n] for n in "qkv"] + [tables[n] for n in learned]
        forward = _function(problem, tables)
        if problem.case.work != "forward+backward":
            compiled = jax.jit(forward)
            return Ready(lambda: _finished(compiled(*leaves)), lambda o: {"o": _heads_first(o)})

        def step(cotangent: jax.Array, *leaves: jax.Array) -> Any:
            o, back = jax.vjp(forward, *leaves)
            return o, back(cotangent)

        trained = jax.jit(step)

        def results(both: Any) -> Mapping[str, Array]:
            gradients = dict(zip(("q", "k", "v", *learned), both[1], strict=True))
            return {"o": _heads_first(both[0])} | {
                n: _heads_first(g) if n in "qkv" else np.asarray(g) for n, g in gradients.items()
            }

        return Ready(lambda: _finished(trained(operands["g"], *leaves)), results)


def _function(problem: Problem, tables: Mapping[str, Any]) -> Callable[..., Any]:
    variant, shape = problem.variant, problem.case.shape
    at: Any = jnp.ogrid[: shape.batch, : shape.heads, : shape.tokens, : shape.tokens]
    attend = jax.nn.dot_product_attention
    match variant.name:
        case "full":
            return lambda q, k, v: attend(q, k, v)
        case "causal":
            return lambda q, k, v: attend(q, k, v, is_causal=True)
        case "window":
            return lambda q, k, v: attend(q, k, v, is_causal=True, local_window_size=(WINDOW - 1, 0))
    assert variant.allowed is not None
    allowed, score = variant.allowed, variant.score

    def formula(q: Any, k: Any, v: Any, *learned: Any) -> Any:
        known = {**tables, **dict(zip(variant.learned, learned, strict=True))}
        mask = allowed(at, known)
        if score is None:
            return attend(q, k, v, mask=jnp.broadcast_to(mask, (shape.batch, 1, shape.tokens, shape.tokens)))
        if variant.additive:
            bias = score(jnp.zeros((), q.dtype), at, known, jnp)
            return attend(q, k, v, bias=bias, mask=jnp.broadcast_to(mask, bias.shape))
        s = jnp.einsum("bihd,bjhd->bhij", q, k, preferred_element_type=jnp.float32) * problem.scale
        s = jnp.where(mask, score(s, at, known, jnp), -jnp.inf)
        return jnp.einsum("bhij,bjhd->bihd", jax.nn.softmax(s, -1).astype(v.dtype), v)

    return formula


def _finished(values: Any) -> Any:
    return jax.block_until_ready(values)  # type: ignore[no-untyped-call]


def _heads_first(array: Any) -> Array:
    return np.asarray(array).transpose(0, 2, 1, 3)
