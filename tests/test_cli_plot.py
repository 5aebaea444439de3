"""`irc plot`: what it draws of masks, tiles and weights, in characters and as images, and what it says it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.test_cli import CAUSAL, EXAMPLES, WINDOW, irc


def test_plot_in_characters_shows_the_predicate() -> None:
    result = irc("plot", WINDOW, "--size", "Sq=3,Sk=5", "--set", "window=2")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-3:] == ["·■■··", "··■■·", "···■■"]


def test_plot_takes_tensors_and_a_point_of_the_batch() -> None:
    doc = "doc=[[0,0,0,0],[0,0,1,1]]"
    result = irc("plot", str(EXAMPLES / "documents.attn"), "--set", doc, "--at", "b=1")
    assert result.stdout.splitlines()[-4:] == ["■···", "■■··", "··■·", "··■■"]


def test_plot_of_a_bias_is_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "mask.png"
    result = irc("plot", str(EXAMPLES / "alibi.attn"), "--set", "slope=[0.5]", "-o", str(path))
    assert result.exit_code == 0, result.stderr
    assert path.read_bytes().startswith(b"\x89PNG")


def test_plot_of_tiles_in_characters() -> None:
    arguments = ("--size", "S=12", "--tiles", "--tile", "4", "4")
    result = irc("plot", CAUSAL, *arguments)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-4:] == [
        "tiles of 4 × 4: 3 empty, 3 partial, 3 full (·, □, ■)",
        "□··",
        "■□·",
        "■■□",
    ]


def test_plot_of_tiles_takes_tables_and_writes_an_image(tmp_path: Path) -> None:
    doc = "doc=[[0,0,0,0,1,1,1,1]]"
    given = (str(EXAMPLES / "documents.attn"), "--set", doc, "--tiles", "--tile", "2", "2")
    assert irc("plot", *given).stdout.splitlines()[-4:] == ["□···", "■□··", "··□·", "··■□"]
    path = tmp_path / "tiles.png"
    assert irc("plot", *given, "-o", str(path)).exit_code == 0
    assert path.read_bytes().startswith(b"\x89PNG")


def test_plot_learns_a_size_from_a_longer_table() -> None:
    given = (str(EXAMPLES / "masks" / "packed_offsets.attn"), "--size", "T=5", "--set", "cu=[0,2,2,5]")
    assert irc("plot", *given).stdout.splitlines()[-5:] == ["■····", "■■···", "··■··", "··■■·", "··■■■"]


def test_plot_of_weights_in_characters_says_what_a_row_sums_to() -> None:
    result = irc("plot", CAUSAL, "--show", "weights", "--size", "S=3", "--fill", "q[b,h,s,d] = 0.0")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "causal: weights; a row sums to 1",
        "rows: query i, columns: key j",
        "shades: 0.333 to 1",
        "█··",
        "░░·",
        "   ",
    ]


def test_plot_of_each_head_and_of_a_map(tmp_path: Path) -> None:
    cap = str(EXAMPLES / "variants" / "softcap_learned.attn")
    given = ("plot", cap, "--show", "map", "--size", "S=6,H=2", "--set", "cap=[1,9]", "--each", "h")
    assert irc(*given, "-o", str(tmp_path / "cap.png")).exit_code == 0
    assert (tmp_path / "cap.png").read_bytes().startswith(b"\x89PNG")
    result = irc(*given)
    assert result.exit_code == 2 and "-o" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--show", "weights", "--each", "x"), "'x' is no index beside query and key"),
        (("--show", "weights", "--fill", "q = 1"), "is no formula of an input"),
        (("--show", "weights", "--fill", "y[b] = 1.0"), "is no formula of an input"),
        (("--show", "weights", "--fill", "q[b,h] = 1.0"), "'q' has 4 dimensions, and 2 are written"),
        (("--fill", "q[b,h,s,d] = 1.0", "--fill", "q[b,h,s,d] = 2.0"), "'q' is given twice"),
    ],
)
def test_what_a_plot_cannot_draw_is_said(arguments: tuple[str, ...], said: str) -> None:
    result = irc("plot", CAUSAL, *arguments)
    assert result.exit_code == 2 and said in result.stderr


@pytest.mark.parametrize(
    ("spec", "given", "said"),
    [
        (WINDOW, "--size Sq=5,Sk=4 --set window=2", "the program assumes Sq <= Sk, but Sq = 5, Sk = 4"),
        (WINDOW, "--set window=0", "the program assumes window >= 1, but window = 0"),
        (CAUSAL, "--size S=3", ""),
    ],
)
def test_a_plot_of_what_no_call_takes_says_so(spec: str, given: str, said: str) -> None:
    result = irc("plot", spec, *given.split())
    assert result.exit_code == 0 and result.stdout
    assert result.stderr == (f"warning: {said}: no call takes this\n" if said else "")


def test_a_plot_that_reads_beyond_a_table_says_so() -> None:
    program = """attention t {
      size S, N, D = 2
      input x[S,D], T[N], at[S]: int
      assume 0 <= at[s] < N
      core o[i,d] {
        score x[i,c] * x[j,c]
        bias T[at[j]]
        softmax j
        matmul x[j,d]
      }
      return o
    }
    """
    given = ("--size", "S=2,N=2", "--set", "at=[0,5]", "--set", "T=[1,2]")
    result = irc("plot", "-", "--show", "weights", *given, stdin=program)
    assert result.exit_code == 2 and "fails at s = 1" in result.stderr
    assert result.stderr.endswith("error: an index of 'T' leaves its axis of size 2\n")


def test_tiles_are_of_the_mask_whatever_else_is_asked_for() -> None:
    result = irc("plot", CAUSAL, "--size", "S=3", "--show", "map", "--tiles")
    assert result.stdout.startswith("causal: 6 of 9 pairs allowed\n") and result.stdout.endswith("\n□\n")


def test_nothing_is_drawn_of_a_table_without_entries() -> None:
    result = irc("plot", str(EXAMPLES / "documents.attn"), "--set", "doc=[[]]")
    assert result.exit_code == 0 and result.stdout.startswith("documents: 0 of 0 pairs allowed")
    assert irc("plot", CAUSAL, "--size", "S=0", "--show", "weights").stdout.startswith("causal: weights of no rows\n")


def test_a_formula_that_is_wrong_is_shown_with_its_place() -> None:
    result = irc("plot", CAUSAL, "--show", "weights", "--fill", "q[b,h,s,d] = cosh(s)")
    assert result.exit_code == 1
    assert "there is no function `cosh`" in result.stderr and "--fill" in result.stderr


def test_a_plot_of_weights_needs_what_is_no_floating_tensor() -> None:
    result = irc("plot", WINDOW, "--show", "weights", "--set", "cap=9")
    assert result.exit_code == 2 and "'window' is missing: give it with --set, --inputs or --fill" in result.stderr


def test_the_weights_drawn_are_those_of_the_formula() -> None:
    from irc.cli.common import graphs, read
    from irc.show.plot import pictures, sizes_for

    (graph,) = graphs(read(str(EXAMPLES / "variants" / "retention.attn")))
    rng = np.random.default_rng(1)
    values = {n: rng.standard_normal((1, 2, 6, 4)) for n in "qkv"} | {"gamma": np.array([0.5, 0.9])}
    _, picture = pictures(graph, sizes_for(graph, {}, values), values, {}, "weights", each="h")
    score = np.tril(values["q"][0, 1] @ values["k"][0, 1].T / 2 * 0.9 ** (np.arange(6)[:, None] - np.arange(6)))
    assert picture.numbers is not None and picture.where == "h = 1"
    expected = score / np.maximum(abs(score.sum(1, keepdims=True)), 1)
    np.testing.assert_allclose(picture.numbers.values[picture.allowed], expected[picture.allowed])


def test_the_bias_drawn_is_the_one_computed_with() -> None:
    from irc.cli.common import graphs, read
    from irc.show.plot import pictures, sizes_for

    (graph,) = graphs(read(str(EXAMPLES / "alibi.attn")))
    values = {"slope": np.array([0.5, 0.25])}
    (picture,) = pictures(graph, sizes_for(graph, {"S": 6}, values), values, {"h": 1})
    assert picture.numbers is not None
    i, j = np.indices((6, 6))
    np.testing.assert_array_equal(picture.allowed, j <= i)
    np.testing.assert_allclose(picture.numbers.values[j <= i], (0.25 * (j - i))[j <= i])
