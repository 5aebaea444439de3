"""A program called again and again: each call stands alone, whatever the calls before it were."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import irc
from irc.calls.program import PREPARED_KEPT

EXAMPLES = Path(__file__).parent.parent / "examples"
CAUSAL = EXAMPLES / "causal.attn"
WINDOW = EXAMPLES / "softcap_window.attn"
DOCUMENTS = EXAMPLES / "documents.attn"
Arrays = dict[str, np.ndarray]


def inputs(seed: int, shape: tuple[int, ...] = (1, 2, 20, 16)) -> Arrays:
    rng = np.random.default_rng(seed)
    return {n: rng.standard_normal(shape).astype(np.float32) for n in "qkv"}


def both(program: irc.Program, arrays: Arrays) -> list[np.ndarray]:
    run = program.forward(**arrays)
    return [*program(**arrays), *run.outputs.values(), *run.backward(o=np.ones_like(arrays["q"])).values()]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_calls_do_not_depend_on_those_before() -> None:
    """Values, shapes, strides and alignment change between calls; each agrees with a program that has seen no other."""
    used = irc.compile(CAUSAL)
    plain = inputs(0)
    turned = {n: np.asfortranarray(a) for n, a in plain.items()}
    heads = {n: np.ascontiguousarray(a.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3) for n, a in plain.items()}
    raw = {n: np.zeros(a.nbytes + 1, np.uint8) for n, a in plain.items()}
    askew = {n: raw[n][1:].view(np.float32).reshape(a.shape) for n, a in plain.items()}
    for name, array in plain.items():
        askew[name][...] = array
    empty = inputs(0, (1, 2, 0, 16))
    for arrays in (
        plain,
        inputs(1),
        turned,
        inputs(2, (2, 1, 37, 16)),
        heads,
        askew,
        empty,
        inputs(3, (1, 1, 5, 8)),
    ) * 2:
        assert same(both(used, arrays), both(irc.compile(CAUSAL), arrays))
    assert same(both(used, plain), both(used, askew)) and same(both(used, plain), both(used, turned))


def test_outputs_share_no_memory_with_later_ones() -> None:
    program, first = irc.compile(CAUSAL), inputs(0)
    kept = [both(program, first) for _ in range(3)]
    copies = [[a.copy() for a in results] for results in kept]
    both(program, inputs(1))
    assert all(same(a, b) for a, b in zip(kept, copies, strict=True))
    arrays = [a for results in kept for a in results] + list(first.values())
    assert not any(np.shares_memory(a, b) for n, a in enumerate(arrays) for b in arrays[:n])


@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_scalars_are_checked_and_used_at_every_call(target: str) -> None:
    program = irc.compile(WINDOW, target=target)
    dtype = np.float64 if target == "reference" else np.float32
    arrays = {n: a.astype(dtype) for n, a in inputs(0).items()}
    wide = program(**arrays, window=9, cap=5.0)[0]
    with pytest.raises(irc.InputError, match=r"assumes window >= 1, but window = 0"):
        program(**arrays, window=0, cap=5.0)
    assert not np.array_equal(program(**arrays, window=2, cap=5.0)[0], wide)
    assert np.array_equal(program(**arrays, window=9, cap=5.0)[0], wide)
    with pytest.raises(irc.InputError, match="window"):
        program(**arrays, window=2.5, cap=5.0)


TABLE = """attention looked_up {
  size B, H, S, D, N
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D], t[S]: int
  param bias[N]
  assume nondecreasing t[s] over s
  core o[b,h,i,d] {
    score q[b,h,i,c] * k[b,h,j,c]
    bias bias[t[j]]
    softmax j
    matmul v[b,h,j,d]
  }
  return o
}
"""


@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_tables_are_checked_at_every_call(target: str) -> None:
    program = irc.compile(TABLE, target=target)
    dtype = np.float64 if target == "reference" else np.float32
    arrays = {n: a.astype(dtype) for n, a in inputs(0).items()} | {"bias": np.zeros(4, dtype)}
    table = np.arange(20, dtype=np.int32) // 5
    program(**arrays, t=table)
    table[3] = -1
    with pytest.raises(irc.InputError, match="nondecreasing"):
        program(**arrays, t=table)
    table[:] = 4
    with pytest.raises(irc.InputError, match="bias: axis 0 has 4 entries, but the program may read 4 to 4"):
        program(**arrays, t=table)
    table[:] = 3
    program(**arrays, t=table.astype(np.int64))
    program(**arrays, t=table)


def test_mistakes_after_a_good_call_are_named() -> None:
    program, arrays = irc.compile(CAUSAL), inputs(0)
    program(**arrays)
    with pytest.raises(irc.InputError, match="k: expected f32, got f64"):
        program(**{**arrays, "k": arrays["k"].astype(np.float64)})
    with pytest.raises(irc.InputError, match="k axis 2"):
        program(**{**arrays, "k": arrays["k"][:, :, 1:]})
    with pytest.raises(irc.InputError, match="v: missing"):
        program(q=arrays["q"], k=arrays["k"])
    with pytest.raises(irc.InputError, match="w: unknown"):
        program(**arrays, w=arrays["q"])
    with pytest.raises(irc.InputError, match="w: unknown"):
        program(q=arrays["q"], k=arrays["k"], w=arrays["q"])
    with pytest.raises(irc.InputError, match="q: expected f32, got f64"):  # the first that is wrong, not the easier one
        program(**{"q": arrays["q"].astype(np.float64), "k": 1.0, "v": "no array"})


def test_cotangents_of_any_layout_and_none_give_the_same_bits() -> None:
    program, arrays = irc.compile(CAUSAL), inputs(0)
    o, lse = (np.random.default_rng(1).standard_normal(a.shape).astype(np.float32) for a in program(**arrays))
    for given, other in (
        ({"o": o, "lse": lse}, {"o": np.asfortranarray(o), "lse": lse[:, ::-1].copy()[:, ::-1]}),
        ({"o": o, "lse": np.zeros_like(lse)}, {"o": o}),
        ({"o": np.zeros_like(o), "lse": lse}, {"lse": lse}),
        ({"o": np.zeros_like(o), "lse": np.zeros_like(lse)}, {}),
    ) * 2:
        run = program.forward(**arrays)
        expected, got = list(run.backward(**given).values()), list(run.backward(**other).values())
        assert same(expected, got)
        assert all(a.flags.writeable for a in got)


def test_a_wrong_cotangent_is_named_and_uses_nothing_up() -> None:
    program, arrays = irc.compile(CAUSAL), inputs(0)
    expected = list(program.forward(**arrays).backward(o=arrays["q"]).values())
    run = program.forward(**arrays)
    for given, message in (
        ({"o": arrays["q"][:, :, 1:]}, r"cotangent of o: expected shape \[1, 2, 20, 16\], got \[1, 2, 19, 16\]"),
        ({"o": arrays["q"].astype(np.float64)}, "cotangent of o: expected f32, got f64"),
        ({"lse": 1.0, "o": arrays["q"][0]}, r"cotangent of o: expected shape \[1, 2, 20, 16\], got \[2, 20, 16\]"),
        ({"lse": "no array"}, "cotangent of lse: expected an array or a number, got str"),
        ({"q": arrays["q"]}, "q: no output of that name; the outputs are o, lse"),
    ):
        with pytest.raises(irc.InputError, match=message):
            run.backward(**given)
    assert same(list(run.backward(o=arrays["q"]).values()), expected)


def test_threads_may_change_between_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    program, arrays = irc.compile(CAUSAL), inputs(0, (1, 3, 150, 16))
    expected = both(program, arrays)
    monkeypatch.setenv("IRC_THREADS", "3")
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(both(program, arrays), expected, strict=True))
    monkeypatch.setenv("IRC_THREADS", "none")
    with pytest.raises(irc.InputError, match="IRC_THREADS"):
        program(**arrays)


def test_prepared_calls_are_bounded_and_the_latest_stay() -> None:
    program = irc.compile(CAUSAL)
    for tokens in range(1, PREPARED_KEPT + 9):
        program(**inputs(0, (1, 1, 1, 16)))
        program(**inputs(0, (1, 1, tokens, 16)))
    assert len(program._prepared) == PREPARED_KEPT
    assert any(call.sizes["S"] == 1 for call in program._prepared.values())


def test_memory_does_not_grow() -> None:
    program, arrays = irc.compile(CAUSAL), inputs(0, (1, 1, 8, 16))

    def grown(calls: int) -> int:
        """Bytes that Python and numpy hold more after so many calls."""
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(calls):
            program(**arrays)
            program.forward(**arrays).backward(o=arrays["q"])
        return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        grown(100)
        assert grown(400) < 4096
    finally:
        tracemalloc.stop()


def test_concurrent_calls_of_several_shapes_agree() -> None:
    program = irc.compile(CAUSAL)
    given = [inputs(n, (1, 1, 3 + n % 4, 16)) for n in range(32)]
    expected = [both(irc.compile(CAUSAL), arrays) for arrays in given]
    with ThreadPoolExecutor(6) as pool:
        assert all(same(a, b) for a, b in zip(pool.map(lambda a: both(program, a), given), expected, strict=True))
