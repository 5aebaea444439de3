"""Tile kernels, compiled and run, against numpy in float64."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from attention_tiles import (
    CAUSAL,
    CAUSAL_VERDICT,
    SIZES,
    S,
    Setup,
    backward,
    forward,
    h,
    i,
    j,
    select_product,
    softmax,
    window,
)
from compiled import apart, call

from irc.codegen.expr import Load, number, op
from irc.codegen.kernel import Tensor
from irc.codegen.render import render
from irc.runtime import libraries

Logits = Callable[[np.ndarray], np.ndarray]


def _allowed(rows: int, columns: int, rule: Callable[[np.ndarray, np.ndarray], np.ndarray] | None) -> np.ndarray:
    if rule is None:
        return np.ones((rows, columns), bool)
    return np.asarray(rule(np.arange(rows)[:, None], np.arange(columns)[None, :]))


def _inputs(setup: Setup, shape: tuple[int, int, int, int], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    batch, heads, rows, columns = shape
    real = np.float64 if setup.arithmetic == "f64" else np.float32

    def made(*dims: int) -> np.ndarray:
        return rng.standard_normal(dims).astype(real)

    groups = heads // setup.group
    return {
        "q": made(batch, heads, rows, setup.width),
        "k": made(batch, groups, columns, setup.width),
        "v": made(batch, groups, columns, setup.value_width),
        "o": np.full((batch, heads, rows, setup.value_width), 7, real),
        "lse": np.full((batch, heads, rows), 7, real),
        "top": np.full((batch, heads, rows), 7, real),
    }


def _close(actual: np.ndarray, expected: np.ndarray, arithmetic: str, slack: float = 1.0) -> None:
    tolerance = slack * (1e-12 if arithmetic == "f64" else 3e-6)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def _check_forward(
    setup: Setup,
    shape: tuple[int, int, int, int],
    rule: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    logits: Logits | None = None,
    arrays: dict[str, np.ndarray] | None = None,
    extra: dict[str, np.ndarray] | None = None,
    init: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    arrays = {**(arrays or _inputs(setup, shape)), **(extra or {})}
    call(forward(setup), arrays, dict(zip(("B", "H", "Sq", "Sk"), shape, strict=True)))
    q, k, v = (arrays[n].astype(np.float64) for n in "qkv")
    k, v = np.repeat(k, setup.group, 1), np.repeat(v, setup.group, 1)
    support = _allowed(shape[2], shape[3], rule)
    with np.errstate(all="ignore"):
        scores = q @ k.swapaxes(-1, -2)
        weights, lse = softmax(logits(scores) if logits else scores * setup.width**-0.5, support, init)
        expected = select_product(weights, np.broadcast_to(support, weights.shape), v)
    _close(arrays["o"], expected, setup.arithmetic)
    _close(arrays["lse"], lse, setup.arithmetic)
    return arrays


SHAPES = [(1, 1, 1, 1), (2, 3, 50, 50), (1, 2, 130, 200), (1, 1, 97, 96), (1, 1, 200, 5), (0, 1, 3, 3), (1, 1, 0, 4)]


@pytest.mark.parametrize("shape", SHAPES)
def test_full_attention_at_any_size(shape: tuple[int, int, int, int]) -> None:
    _check_forward(Setup(), shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_causal_with_and_without_verdict(shape: tuple[int, int, int, int]) -> None:
    for verdict in (CAUSAL_VERDICT, None):
        _check_forward(Setup(support=CAUSAL, verdict=verdict), shape, lambda i, j: j <= i)


def test_no_keys_gives_zero_and_minus_infinity() -> None:
    arrays = _check_forward(Setup(), (1, 2, 5, 0))
    assert (arrays["o"] == 0).all() and np.isneginf(arrays["lse"]).all() and np.isneginf(arrays["top"]).all()


def test_rows_without_support_give_zero_and_minus_infinity() -> None:
    arrays = _check_forward(Setup(support=op("lt", j, i)), (1, 1, 60, 60), lambda i, j: j < i)
    assert (arrays["o"][..., 0, :] == 0).all() and np.isneginf(arrays["lse"][..., 0]).all()


@pytest.mark.parametrize("width,value_width", [(40, 72), (80, 96), (1, 5), (5, 1), (192, 128)])
@pytest.mark.parametrize("arithmetic", ["f32", "f64"])
def test_widths(width: int, value_width: int, arithmetic: str) -> None:
    setup = Setup(width, value_width, arithmetic, arithmetic, support=CAUSAL, verdict=CAUSAL_VERDICT)  # type: ignore[arg-type]
    _check_forward(setup, (1, 2, 101, 150), lambda i, j: j <= i)


@pytest.mark.parametrize("w", [1, 7, 40, 300])
def test_window(w: int) -> None:
    support, verdict = window(w)
    _check_forward(Setup(support=support, verdict=verdict), (1, 2, 333, 333), lambda i, j: (j <= i) & (i - w < j))


def test_grouped_heads() -> None:
    _check_forward(Setup(group=2), (2, 4, 70, 100))


def test_softcap() -> None:
    logit = op("mul", number(3.0), op("tanh", op("div", S, number(3.0))))
    _check_forward(Setup(logit=logit), (1, 1, 70, 100), logits=lambda s: 3 * np.tanh(s / 3))


def test_bias_of_both_sides() -> None:
    logit = op("add", op("mul", S, number(0.125)), Load("bias", (h, i, j)))
    bias = np.random.default_rng(1).standard_normal((2, 70, 100)).astype(np.float32)
    setup = Setup(logit=logit, tensors=(Tensor("bias", "f32", 3),))
    _check_forward(setup, (1, 2, 70, 100), logits=lambda s: s * 0.125 + bias, extra={"bias": bias})


def test_alibi() -> None:
    distance = op("float", op("sub", i, j))
    logit = op("sub", op("mul", S, number(0.125)), op("mul", distance, Load("slope", (h,))))
    slope = np.array([0.5, 0.25], np.float32)
    setup = Setup(logit=logit, tensors=(Tensor("slope", "f32", 1),), support=CAUSAL, verdict=CAUSAL_VERDICT)
    position = np.arange(100)
    bias = slope[:, None, None].astype(np.float64) * (position[:, None] - position)
    _check_forward(
        setup, (1, 2, 100, 100), lambda i, j: j <= i, logits=lambda s: s * 0.125 - bias, extra={"slope": slope}
    )


def test_blocked_nan_reaches_no_output() -> None:
    setup = Setup(support=CAUSAL, verdict=CAUSAL_VERDICT)
    arrays = _inputs(setup, (1, 2, 120, 120))
    arrays["k"][:, :, 100:] = np.nan
    arrays["v"][:, :, 100:] = np.inf
    call(forward(setup), arrays, {"B": 1, "H": 2, "Sq": 120, "Sk": 120})
    assert np.isfinite(arrays["o"][:, :, :100]).all()
    clean = _inputs(setup, (1, 2, 120, 120))
    call(forward(setup), clean, {"B": 1, "H": 2, "Sq": 120, "Sk": 120})
    np.testing.assert_allclose(arrays["o"][:, :, :100], clean["o"][:, :, :100], rtol=1e-5, atol=1e-6)


def test_sink_is_one_more_logit() -> None:
    setup = Setup(init=Load("sink", (h,)), tensors=(Tensor("sink", "f32", 1),), support=op("lt", j, i))
    sink = np.array([0.5, -np.inf], np.float32)
    _check_forward(setup, (1, 2, 60, 60), lambda i, j: j < i, extra={"sink": sink}, init=sink[:, None].astype(float))


def test_any_strides() -> None:
    setup = Setup()
    arrays = _inputs(setup, (1, 2, 100, 100))
    turned = {n: apart(a) for n, a in arrays.items()}
    _check_forward(setup, (1, 2, 100, 100), arrays=turned)


@pytest.mark.parametrize("storage", ["f32", "f64"])
@pytest.mark.parametrize("shape", [(1, 2, 130, 130), (1, 1, 7, 100), (2, 1, 100, 7), (1, 1, 0, 3), (1, 1, 3, 0)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("widths", [(64, 64), (40, 5)])
def test_backward(storage: str, shape: tuple[int, int, int, int], causal: bool, widths: tuple[int, int]) -> None:
    masks = {"support": CAUSAL, "verdict": CAUSAL_VERDICT} if causal else {}
    setup = Setup(*widths, storage, storage, **masks)  # type: ignore[arg-type]
    _check_backward(setup, shape, (lambda i, j: j <= i) if causal else None)


def _check_backward(
    setup: Setup, shape: tuple[int, int, int, int], rule: Callable[[np.ndarray, np.ndarray], np.ndarray] | None
) -> None:
    arrays = _inputs(setup, shape)
    real = arrays["q"].dtype
    rng = np.random.default_rng(5)
    q, k, v = (arrays[n].astype(np.float64) for n in "qkv")
    do = rng.standard_normal(arrays["o"].shape).astype(real)
    support = np.broadcast_to(_allowed(shape[2], shape[3], rule), (*shape[:2], *shape[2:]))
    scale = setup.width**-0.5
    weights, lse = softmax(q @ k.swapaxes(-1, -2) * scale, support)
    dp = do.astype(np.float64) @ v.swapaxes(-1, -2)
    delta = (weights * dp).sum(-1)
    ds = weights * (dp - delta[..., None])
    given = {
        **arrays,
        "do": do,
        "lse": lse.astype(real),
        "delta": delta.astype(real),
        **{f"d{n}": np.full_like(arrays[n], 7) for n in "qkv"},
    }
    call(backward(setup), given, dict(zip(("B", "H", "Sq", "Sk"), shape, strict=True)))
    _close(given["dq"], ds @ k * scale, setup.arithmetic, 4)
    _close(given["dk"], ds.swapaxes(-1, -2) @ q * scale, setup.arithmetic, 4)
    _close(given["dv"], weights.swapaxes(-1, -2) @ do, setup.arithmetic, 4)


def test_backward_ignores_blocked_nan() -> None:
    setup = Setup(support=CAUSAL, verdict=CAUSAL_VERDICT)
    sizes = {"B": 1, "H": 1, "Sq": 150, "Sk": 150}
    results = []
    for bad in (0.0, np.nan, np.inf):
        arrays = _inputs(setup, (1, 1, 150, 150))
        given = {
            **arrays,
            "do": arrays["q"][::1] * 0.5,
            "lse": np.full((1, 1, 150), 6, np.float32),
            "delta": np.full((1, 1, 150), 0.1, np.float32),
            **{f"d{n}": np.full_like(arrays[n], 7) for n in "qkv"},
        }
        for name in ("q", "do"):  # early rows meet early columns alone
            given[name][:, :, :20] = bad
        for name in "kv":
            given[name][:, :, 130:] = bad
        call(backward(setup), given, sizes)
        results.append((given["dq"][:, :, 20:130], given["dk"][:, :, 20:130], given["dv"][:, :, 20:130]))
    for other in results[1:]:
        for clean, planted in zip(results[0], other, strict=True):
            np.testing.assert_allclose(planted, clean, rtol=1e-4, atol=1e-4)


def test_bits_do_not_depend_on_threads() -> None:
    setup = Setup(support=CAUSAL, verdict=CAUSAL_VERDICT)
    sizes = {"B": 2, "H": 2, "Sq": 300, "Sk": 300}
    outputs = []
    for threads in (1, 2, 5):
        arrays = _inputs(setup, (2, 2, 300, 300))
        call(forward(setup), arrays, sizes, threads)
        outputs.append((arrays["o"].tobytes(), arrays["lse"].tobytes()))
    assert outputs[0] == outputs[1] == outputs[2]


@pytest.mark.parametrize("storage", ["bf16", "f16"])
def test_half_storage(storage: str) -> None:
    kind = ml_dtypes.bfloat16 if storage == "bf16" else np.float16
    setup = Setup(40, 24, storage, support=CAUSAL, verdict=CAUSAL_VERDICT)  # type: ignore[arg-type]
    arrays = _inputs(setup, (1, 2, 130, 130))
    half = {n: a if n in ("lse", "top") else a.astype(kind) for n, a in arrays.items()}
    call(forward(setup), half, {"B": 1, "H": 2, "Sq": 130, "Sk": 130})
    q, k, v = (half[n].astype(np.float64) for n in "qkv")
    support = np.broadcast_to(np.tri(130, dtype=bool), (1, 2, 130, 130))
    weights, lse = softmax(q @ k.swapaxes(-1, -2) * 40**-0.5, support)
    np.testing.assert_allclose(half["o"].astype(np.float64), weights @ v, rtol=1e-2, atol=1e-2)
    _close(half["lse"], lse, "f32")


@pytest.mark.parametrize("w", [None, 40, 600])
def test_where_results_go_is_fetched_however_few_the_blocks(w: int | None) -> None:
    """One row of results for each row, while products go on that a mask may leave few of."""
    support, verdict = window(w) if w else (None, None)
    setup = Setup(support=support, verdict=verdict)
    text = render((forward(setup),), "forward", "made by hand")
    head = "template <int WIDTH, bool WRITTEN, class E> IRC_INLINE void fetch(const E *row) {"
    assert text.count(head) == 1
    counter = f"rows_fetched_{w}"  # of this library, not of all
    made = f'extern "C" __attribute__((visibility("default"), used)) inline int64_t {counter} = 0;'
    text = text.replace(head, f"{made}\n{head}\n  {counter} += WRITTEN;")
    shape = (1, 2, 1024, 1024)
    call(forward(setup), _inputs(setup, shape), dict(zip(SIZES, shape, strict=True)), 1, text)
    fetched = ctypes.c_int64.in_dll(libraries.compiled(text).code, counter).value
    assert fetched == 2 * 1024
