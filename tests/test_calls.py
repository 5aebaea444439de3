"""Calls: layouts, arguments that do not fit, threads, batches."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import irc

EXAMPLES = Path(__file__).parent.parent / "examples"
WINDOW = EXAMPLES / "softcap_window.attn"
CAUSAL = EXAMPLES / "causal.attn"
Arrays = dict[str, np.ndarray]


def windowed(rng: np.random.Generator) -> dict[str, object]:
    shapes = {"q": (2, 4, 20, 8), "k": (2, 2, 33, 8), "v": (2, 2, 33, 8)}
    tensors = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    return {**tensors, "window": 7, "cap": 5.0}


def test_a_broken_assumption_names_itself_and_the_values() -> None:
    arguments = windowed(np.random.default_rng(0))
    program = irc.compile(WINDOW)
    with pytest.raises(irc.InputError, match=r"assumes window >= 1, but window = 0"):
        program(**{**arguments, "window": 0})
    with pytest.raises(irc.InputError, match="Sq <= Sk"):
        program(**{**arguments, "q": np.zeros((2, 4, 40, 8), np.float32)})


def test_scalars_of_the_wrong_kind_are_named() -> None:
    arguments = windowed(np.random.default_rng(0))
    program = irc.compile(WINDOW)
    with pytest.raises(irc.InputError, match="window"):
        program(**{**arguments, "window": 2.5})
    with pytest.raises(irc.InputError, match="cap"):
        program(**{**arguments, "cap": "wide"})


@pytest.mark.parametrize("layout", ["transposed heads", "last axis", "reversed", "read only", "every other"])
def test_any_layout_gives_the_same_bits(layout: str) -> None:
    rng = np.random.default_rng(1)
    program = irc.compile(CAUSAL)
    plain: Arrays = {n: rng.standard_normal((2, 3, 29, 16)).astype(np.float32) for n in "qkv"}

    def laid_out(array: np.ndarray) -> np.ndarray:
        match layout:
            case "transposed heads":
                return np.ascontiguousarray(array.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
            case "last axis":
                return np.asfortranarray(array)
            case "reversed":
                return np.ascontiguousarray(array[:, :, ::-1])[:, :, ::-1]
            case "every other":
                return np.repeat(array, 2, axis=2)[:, :, ::2]
            case _:
                array = array.copy()
                array.flags.writeable = False
                return array

    run, other = program.forward(**plain), program.forward(**{n: laid_out(a) for n, a in plain.items()})
    cotangent = rng.standard_normal(plain["q"].shape).astype(np.float32)
    assert np.array_equal(run.outputs["o"], other.outputs["o"])
    expected, got = run.backward(o=cotangent), other.backward(o=laid_out(cotangent))
    assert all(np.array_equal(expected[n], got[n]) for n in expected)


def test_a_batch_entry_does_not_depend_on_the_others() -> None:
    rng = np.random.default_rng(2)
    program = irc.compile(CAUSAL)
    arrays: Arrays = {n: rng.standard_normal((3, 2, 70, 16)).astype(np.float32) for n in "qkv"}
    together = program.forward(**arrays).outputs["o"]
    for b in range(3):
        alone = program.forward(**{n: a[b : b + 1] for n, a in arrays.items()}).outputs["o"]
        assert np.array_equal(alone[0], together[b])


def test_calls_from_several_threads_agree() -> None:
    rng = np.random.default_rng(3)
    program = irc.compile(CAUSAL)
    arrays: Arrays = {n: rng.standard_normal((1, 2, 90, 16)).astype(np.float32) for n in "qkv"}

    def call(_: int) -> np.ndarray:
        return program.forward(**arrays).backward(o=arrays["v"])["k"]

    with ThreadPoolExecutor(4) as pool:
        first, *rest = pool.map(call, range(16))
    assert all(np.array_equal(first, other) for other in rest)


def test_a_cotangent_that_does_not_fit_is_named() -> None:
    arrays: Arrays = {n: np.ones((1, 1, 4, 8), np.float32) for n in "qkv"}
    run = irc.compile(CAUSAL).forward(**arrays)
    with pytest.raises(irc.InputError, match="cotangent of o: expected shape"):
        run.backward(o=np.ones((1, 1, 3, 8), np.float32))
    with pytest.raises(irc.InputError, match="x: no output of that name"):
        run.backward(x=arrays["q"])


def test_sizes_and_targets_that_do_not_exist_are_named() -> None:
    with pytest.raises(irc.InputError, match="no size Z"):
        irc.compile(CAUSAL, sizes={"Z": 3})
    with pytest.raises(irc.InputError, match="cuda"):
        irc.compile(CAUSAL, target="gpu")
    with pytest.raises(irc.Error, match="nowhere"):
        irc.compile("nowhere.attn")


def test_an_assumption_that_cannot_be_evaluated_is_named() -> None:
    grouped = irc.compile(EXAMPLES / "grouped_heads.attn", target="reference")
    heads = {"q": np.zeros((1, 4, 3, 8)), "k": np.zeros((1, 0, 3, 8)), "v": np.zeros((1, 0, 3, 8))}
    with pytest.raises(irc.InputError, match="H % G == 0, which divides by zero here, but H = 4, G = 0"):
        grouped(**heads)
    text = CAUSAL.read_text().replace(
        "  core", "  size N\n  input e[S]: int, t[N]: int\n  assume t[e[s]] >= 0\n\n  core", 1
    )
    program = irc.compile(text, target="reference")
    arrays = {n: np.zeros((1, 1, 3, 8)) for n in "qkv"}
    with pytest.raises(irc.InputError, match="t: axis 0 has 2 entries, but the program may read 0 to 9"):
        program(**arrays, e=np.array([0, 1, 9], np.int32), t=np.array([0, 0], np.int32))
    program = irc.compile(text.replace("t[e[s]]", "t[min(e[s] ^ max(e[s], 0), 1)]"), target="reference")
    with pytest.raises(irc.InputError, match="read below 0: the index is at most 1, and its least value is not known"):
        program(**arrays, e=np.array([0, 1, 9], np.int32), t=np.array([0, 0], np.int32))
