"""irc bench: what it counts, and that what it says adds up. No time is asserted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import irc
from irc.cli import main
from irc.codegen.kernel import TileKernel
from irc.error import InputError
from irc.pipeline import back
from irc.tuning.bench import PHASES, Pass, allowed, bound, work
from irc.tuning.measure import all_sizes, random_arguments

SPEC = """
attention documents {
  size B, H, S, D, E
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,E]
  input doc[B,S]: int
  core o[b,h,i,e] {
    score q[b,h,i,c] * k[b,h,j,c]
    allow j <= i and doc[b,i] == doc[b,j]
    softmax j
    matmul v[b,h,j,e]
  }
  return o
}
"""
SIZES = {"B": 2, "H": 3, "S": 6, "D": 4, "E": 2}
DOC = np.array([[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 5]], np.int32)
PAIRS = 3 * ((6 + 6) + (15 + 1))


def kernels() -> list[TileKernel]:
    program = irc.compile(SPEC)
    made = back(program.graph, {"D": 4, "E": 2}, program.precision)
    assert made.backward is not None
    return [k for k in (*made.forward.kernels, *made.backward.kernels) if isinstance(k, TileKernel)]


def test_operations_are_those_of_allowed_pairs() -> None:
    tensors = {"doc": DOC}
    forward, *backward = kernels()
    assert allowed(forward, tensors, SIZES) == PAIRS
    counted = work(forward, tensors, SIZES)
    assert (counted.dots, counted.products) == (2 * PAIRS * 4, 2 * PAIRS * 2)
    dots, products = (sum(getattr(work(k, tensors, SIZES), what) for k in backward) for what in ("dots", "products"))
    assert dots >= 2 * PAIRS * (4 + 2) and products == 2 * PAIRS * (4 + 4 + 2)


def test_inputs_are_made_up_but_for_tables_and_scalars() -> None:
    program = irc.compile(SPEC, dtype="bf16")
    with pytest.raises(InputError, match=r"doc: what masks read is not made up"):
        random_arguments(program, SIZES, {})
    made = random_arguments(program, SIZES, {"doc": DOC})
    assert np.array_equal(made["doc"], DOC) and made["v"].shape == (2, 3, 6, 2) and made["q"].dtype.name == "bfloat16"
    with pytest.raises(InputError, match="give every size: --size S=…,E=…"):
        all_sizes(program, {"B": 1, "H": 1, "D": 4})


def test_phases_are_named_in_the_order_of_the_header() -> None:
    header = (Path(irc.__file__).parent / "codegen" / "templates" / "cpu" / "phases.h").read_text()
    listed = header.partition("enum Phase {")[2].partition("}")[0].split(",")
    assert [name.strip().lower().replace("_", " ") for name in listed] == [*PHASES, "phases"]


def test_the_largest_share_that_is_no_product_is_the_bound() -> None:
    measured = Pass("forward", 1.0, 1.0, {"dots of scores, at the peak": 0.6, "packing": 0.3, "rescaling": 0.1})
    assert bound(measured) == "forward: the largest share beside products at the peak: packing, 30%"


def test_the_command_reports_and_its_shares_add_up(tmp_path: Path) -> None:
    spec, inputs = tmp_path / "documents.attn", tmp_path / "in.npz"
    spec.write_text(SPEC)
    np.savez(inputs, doc=DOC)
    question = ["bench", str(spec), "--size", "B=2,H=3,S=6,D=4,E=2", "--inputs", str(inputs), "--rounds", "1"]
    result = CliRunner().invoke(main, [*question, "--threads", "2", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [p["what"] for p in report["passes"]] == ["forward", "backward"]
    assert report["threads"] == 2 and report["peak"] > 0 and report["sizes"] == SIZES
    assert report["passes"][0]["operations"] == 2 * PAIRS * (4 + 2)
    for measured in report["passes"]:
        assert sum(measured["shares"].values()) == pytest.approx(1)
        assert all(share >= 0 for share in measured["shares"].values())
    filled = ["--fill", "doc[b,s] = s // 3", "--fill", "q[b,h,s,c] = cos(s)", "--rounds", "1"]
    table = CliRunner().invoke(main, [*question[:4], *filled])
    assert table.exit_code == 0, table.output
    assert "share of the peak" in table.stdout and "dots of scores, at the peak" in table.stdout


KEPT = """
attention kept {
  size B, H, S, D, E
  input x[B,S,E], k[B,H,S,D], v[B,H,S,D]
  param W[E,(H D)]
  project {
    z[b,s,e] = tanh(x[b,s,e])
    q[b,h,s,d] = z[b,s,e] * W[e,(h d)]
  }
  core o[b,h,i,d] {
    score q[b,h,i,c] * k[b,h,j,c]
    allow j <= i
    softmax j
    matmul v[b,h,j,d]
  }
  return o
}
"""


def test_kernels_that_a_call_leaves_out_are_not_counted(tmp_path: Path) -> None:
    """The backward run could compute z again, and finds it kept."""
    spec = tmp_path / "kept.attn"
    spec.write_text(KEPT)
    question = ["bench", str(spec), "--size", "B=1,H=2,S=24,D=16,E=8", "--rounds", "1", "--json"]
    result = CliRunner().invoke(main, question)
    assert result.exit_code == 0, result.output
    pairs = 2 * 24 * 25 // 2
    products = 2 * 24 * 8 * 32  # of each projection
    forward, backward = (p["operations"] for p in json.loads(result.stdout)["passes"])
    assert forward == 2 * pairs * (16 + 16) + products
    assert backward >= 2 * pairs * (16 + 16 + 16 + 16 + 16) + 2 * products


def test_a_program_without_kernels_of_tiles() -> None:
    """Keys that a table names for each pair are looked up one by one."""
    spec = Path(__file__).parent.parent / "examples" / "variants" / "topk_tiles.attn"
    question = ["bench", str(spec), "--size", "B=1,H=1,N=4,M=2,K=2,D=4", "--rounds", "1", "--json"]
    result = CliRunner().invoke(main, [*question, "--fill", "top[b,h,n,r] = (n + r) % 4", "--fill", "full[n] = 2"])
    assert result.exit_code == 0, result.output
    for measured in json.loads(result.stdout)["passes"]:
        assert sum(measured["shares"].values()) == pytest.approx(1)


def test_sizes_that_no_shape_tells_are_fixed() -> None:
    spec = Path(__file__).parent.parent / "examples" / "variants" / "blocks.attn"
    result = CliRunner().invoke(main, ["bench", str(spec), "--size", "B=1,H=1,N=2,M=9,D=4", "--rounds", "1"])
    assert result.exit_code == 0, result.output


def test_the_command_asks_for_what_is_missing(tmp_path: Path) -> None:
    spec = tmp_path / "documents.attn"
    spec.write_text(SPEC)
    result = CliRunner().invoke(main, ["bench", str(spec), "--size", "B=2,H=3,S=6,D=4,E=2"])
    assert result.exit_code == 2 and "doc: what masks read is not made up" in result.stderr


def test_examples_of_the_help_give_every_size() -> None:
    for command in ("bench", "tune"):
        found = re.findall(rf"irc {command} (\S+) --size (\S+)", main.commands[command].help or "")
        assert found
        for spec, sizes in found:
            given = {name: int(size) for name, size in (pair.split("=") for pair in sizes.split(","))}
            all_sizes(irc.compile(Path(__file__).parents[1] / spec, target="reference"), given)
