"""Every example: kernels against the interpreter, forward and backward, and no tensor of pairs in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import irc
from irc.codegen.expr import Kind
from irc.codegen.kernel import CHUNKS
from irc.grammar.source import Source
from irc.graph.interpret import complete_sizes, size_value
from irc.pipeline import front
from tests.test_kernels import Arrays, both

FOLDER = Path(__file__).parent.parent / "examples"
EXAMPLES = sorted(
    p for p in FOLDER.rglob("*.attn") if p.parent.name not in ("masks", "variants", "bugzoo")
)  # their own tests
SMALL = {"B": 2, "H": 4, "G": 2, "S": 37, "Sq": 21, "Sk": 37, "Sm": 19, "D": 8, "E": 24, "Y": 5, "X": 6, "N": 37}
PARTS = ("H", "G", "D", "Y", "X", "B")


def integers(name: str, shape: tuple[int, ...], sizes: dict[str, int], rng: np.random.Generator) -> np.ndarray:
    """Entries that keep what the examples assume of a table of that name."""
    match name:
        case "page":
            return rng.integers(0, 6, shape).astype(np.int32)
        case "doc":
            return np.sort(rng.integers(0, 4, shape), axis=-1).astype(np.int32)
        case "len":
            low, high = (sizes["Sq"], sizes["P"] * sizes["R"]) if "P" in sizes else (21, 37)
            return rng.integers(low, high + 1, shape).astype(np.int32)
        case "window" | "r" | "w":
            return np.full(shape, 3, np.int32)
        case _:
            return rng.integers(1, 6, shape).astype(np.int32)


def arguments(path: Path, rng: np.random.Generator, sizes_of: dict[str, int] | None = None) -> Arrays:
    """Arguments of the given sizes, by default small ones."""
    chosen = SMALL if sizes_of is None else sizes_of
    graph = front(Source(str(path), path.read_text()))
    given = {name: chosen.get(name, 6) for name, definition in graph.sizes if definition is None}
    sizes = complete_sizes(graph, given)
    arrays: Arrays = {}
    for node in graph.inputs:
        shape = tuple(size_value(s, sizes) for s in node.shape)
        if node.kind is Kind.FLOAT:
            arrays[node.name] = (0.3 * rng.standard_normal(shape)).astype(np.float32)
            if node.role == "scalar":
                arrays[node.name] = np.float32(2.0 + np.abs(arrays[node.name]))
        elif node.kind is Kind.INT:
            arrays[node.name] = integers(node.name, shape, sizes, rng)
        else:
            arrays[node.name] = rng.random(shape) < 0.7
    return arrays


def fixed(path: Path) -> dict[str, int]:
    """Sizes that no shape tells: the sides of a picture."""
    graph = front(Source(str(path), path.read_text()))
    return {name: SMALL[name] for name, _ in graph.sizes if name in ("Y", "X")}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_kernels_agree_with_the_interpreter(path: Path) -> None:
    rng = np.random.default_rng(11)
    both(str(path), arguments(path, rng), "f32", rng, fixed(path))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_no_tensor_of_pairs_reaches_memory(path: Path) -> None:
    """At a length where a tensor of pairs would be larger than everything else, nothing of that order is planned."""
    program = irc.compile(path, sizes=fixed(path))
    arrays = arguments(path, np.random.default_rng(0))
    program(**arrays)
    compiled = program.built({n: arrays_size(program, arrays, n) for n in program.features}).compiled
    sizes = {name: 4096 for name, _ in program.graph.sizes} | {name: 8 for name in PARTS} | {CHUNKS.name: 2, "P": 256}
    argument = max(elements(n.shape, sizes) for n in compiled.forward_graph.inputs)
    for fused in (compiled.forward, compiled.backward):
        assert fused is not None
        for tensor in fused.plan.tensors:
            assert elements(tensor.shape, sizes) <= 4 * argument, tensor.name


def arrays_size(program: irc.Program, arrays: Arrays, name: str) -> int:
    from irc.runtime.sizes import infer

    inputs = [(n.name, n.shape) for n in program.graph.inputs]
    return infer(inputs, {n: np.shape(a) for n, a in arrays.items()}, program.graph.sizes, program.fixed)[name]


def elements(shape: tuple, sizes: dict[str, int]) -> int:
    return int(np.prod([float(size_value(s, sizes)) for s in shape]))
