"""python -m benchmarks.gallery: every program of the examples, once: what kernels compute, and what compiling costs.

Prints a line a program and element type. `forward` and `backward` are the largest relative L2 distance of outputs and
gradients from the interpreter (of a gradient, to a tenth of the largest gradient's norm at least). `cold` is what
compiling takes in a new process: wall time for a call without gradients (the passes, and the forward kernels), wall
time for both runs, and for these the processor time of the process and the C++ compiler together, with the compiler's
part. What is the same for all programs (the system's headers compiled, the parser's tables, the templates' code) has
been made before, as it is once on a machine; the first line says what a program takes that finds an empty cache.
`warm` is processor time in another process, with the cache that the first left: of importing what is needed of irc
(numpy is there), and of compiling. `pairs` names tensors of the plans that have both a
query and a key index: only gradients of arguments may. Every program has a width of 64.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent.parent / "examples"
FOLDERS = (".", "charlm", "minilm", "variants", "masks")
WIDTH = {"D": 64}
PARAM = WIDTH["D"] ** -0.5  # the deviation of params, but of matrices of weights, whose rows are summed over


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gallery", description=__doc__)
    parser.add_argument("programs", nargs="*", type=Path, help="files; all of examples/ without")
    parser.add_argument("--dtype", action="append", choices=["f32", "f64", "bf16", "f16"], help="f32 and bf16 without")
    parser.add_argument("--child", metavar="JSON", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measured(given.programs[0], given.dtype[0], **json.loads(given.child))))
        return
    programs = given.programs or every()
    print(
        f"{'program':30} dtype  forward backward  "
        "cold: forward s, both s, cpu s, C++ s  warm: import ms, compile ms  pairs"
    )
    with tempfile.TemporaryDirectory() as cache:
        print(line(FOLDER / "causal.attn", "f64", cache), flush=True)
        for path in programs:
            for dtype in given.dtype or ("f32", "bf16"):
                print(line(path, dtype, cache), flush=True)


def every() -> list[Path]:
    return [path for part in FOLDERS for path in sorted((FOLDER / part).glob("*.attn"))]


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}".removeprefix("examples/")


def line(path: Path, dtype: str, cache: str) -> str:
    """What two processes say of a program, one after another; what all programs need stays in the cache."""
    from irc.prepared import CODE, TABLES
    from irc.runtime.toolchain import HEADERS

    untold, sizes, _ = case(path)
    cold, warm = (child(path, dtype, cache, {"untold": untold, "sizes": sizes, "cold": c}) for c in (True, False))
    for entry in Path(cache, "entries").glob("*/*"):
        if not any((entry / kept).exists() for kept in (HEADERS, TABLES, CODE)):
            shutil.rmtree(entry)
    return (
        f"{name(path):30} {dtype:5} {cold['forward']:8.1e} {cold['backward']:8.1e}"
        f"           {cold['first']:5.1f}   {cold['wall']:5.1f}  {cold['cpu']:5.2f}  {cold['compiler']:5.2f}"
        f"           {1e3 * warm['imports']:5.0f} {1e3 * warm['cpu']:5.0f}         {', '.join(cold['pairs']) or '-'}"
    )


def child(path: Path, dtype: str, cache: str, what: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.gallery", str(path), "--dtype", dtype, "--child", json.dumps(what)]
    environment = {**os.environ, "IRC_CACHE_DIR": cache}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{path} {dtype}:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured(path: Path, dtype: str, untold: dict[str, int], sizes: dict[str, int], cold: bool) -> dict[str, Any]:
    """In a process of its own: what compiling takes, and if `cold` what the kernels compute."""
    start = used()
    import irc.compiler

    before = used()
    program = irc.compile(path, sizes=untold, dtype=dtype)
    built = program.built({name: sizes[name] for name in program.features})
    passed = time.perf_counter()
    built.library.load(sizes)
    after = used()
    found: dict[str, Any] = {key: after[key] - before[key] for key in before}
    found["imports"] = before["cpu"] - start["cpu"]
    if cold:
        found["first"] = passed - before["wall"] + seconds_of_forward(built.compiled, sizes)
        reference = irc.compile(path, sizes=untold, target="reference")
        found["forward"], found["backward"] = distances(results(program, case(path)[2]), reference)
        found["pairs"] = pairs(built.compiled)
    return found


def seconds_of_forward(compiled: Any, sizes: dict[str, int]) -> float:
    """Wall time of compiling the forward kernels alone."""
    from irc.codegen.parts import lengths
    from irc.runtime import libraries, toolchain

    parts = lengths(libraries.wanted(compiled.parts[0], sizes))
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        toolchain.compile(compiled.source, Path(folder) / "forward.so", parts=parts)
    return time.perf_counter() - start


def used() -> dict[str, float]:
    """Seconds so far: on the clock, of processors, and of those the part of the C++ compiler."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    compiler = children.ru_utime + children.ru_stime
    return {"wall": time.perf_counter(), "cpu": own.ru_utime + own.ru_stime + compiler, "compiler": compiler}


def case(path: Path, given: dict[str, int] = WIDTH) -> tuple[dict[str, int], dict[str, int], dict[str, Any]]:
    """The sizes that no shape tells, all sizes, and arguments; as in the tests, but for those given."""
    from irc.codegen.expr import Kind
    from irc.grammar.source import Source
    from irc.graph.interpret import complete_sizes, size_value
    from irc.pipeline import front
    from tests import masks, test_examples, test_masks, variants

    graph = front(Source(str(path), path.read_text(encoding="utf-8")))
    rng = np.random.default_rng(7)
    if path.parent.name == "variants":
        variant = variants.CASES[path.stem]
        chosen, untold = variants.SIZES | variant.sizes | given, variant.untold
    elif path.parent.name == "masks":
        chosen, untold = masks.CASES[path.stem].sizes | given, test_masks.UNTOLD
    else:
        chosen, untold = test_examples.SMALL | given, tuple(test_examples.fixed(path))
    open_sizes = {name: chosen.get(name, 6) for name, definition in graph.sizes if definition is None}
    sizes = complete_sizes(graph, open_sizes)
    if path.parent.name == "variants":
        values = variant.draw(rng, variants.Values(sizes))
    elif path.parent.name == "masks":
        values = masks.CASES[path.stem].values(rng, dict(sizes))
    else:
        drawn = test_examples.arguments(path, rng, chosen)
        values = {node.name: drawn[node.name] for node in graph.inputs if node.role != "param"}
    for node in graph.inputs:
        if node.name not in values:
            assert node.kind is Kind.FLOAT, node.name
            shape = tuple(size_value(extent, sizes) for extent in node.shape)
            deviation = 1.0 if node.role != "param" else shape[0] ** -0.5 if len(shape) == 2 else PARAM
            values[node.name] = rng.standard_normal(shape) * deviation
    return {name: sizes[name] for name in untold if name in sizes}, sizes, values


@dataclass(frozen=True)
class Results:
    """A call forward and backward: what was given, and what came of it."""

    given: dict[str, Any]
    outputs: dict[str, Any]
    cotangents: dict[str, Any]
    gradients: dict[str, Any]


def results(program: Any, values: dict[str, Any]) -> Results:
    """Of floating arguments in the types that the program takes."""
    from irc.codegen.expr import Kind
    from irc.runtime.arrays import DTYPE

    floating = {n.name: DTYPE[program.storage(n)] for n in program.graph.inputs if n.kind is Kind.FLOAT}
    given = {name: np.asarray(value, floating.get(name)) for name, value in values.items()}
    run, rng = program.forward(**given), np.random.default_rng(9)
    cotangents = {n: rng.standard_normal(np.shape(o)).astype(o.dtype) for n, o in run.outputs.items()}
    return Results(given, run.outputs, cotangents, run.backward(**cotangents))


def distances(got: Results, reference: Any) -> tuple[float, float]:
    """The largest relative L2 distance of the outputs, and of the gradients, from those of the interpreter."""
    from tests.test_kernels import relative, widened

    expected = reference.forward(**widened(got.given))
    forward = max(relative(got.outputs[name], wanted) for name, wanted in expected.outputs.items())
    against = expected.backward(**widened(got.cotangents))
    largest = max(float(np.linalg.norm(g)) for g in against.values())
    return forward, max(relative(got.gradients[n], g, 0.1 + 0.1 * largest) for n, g in against.items())


def pairs(compiled: Any) -> list[str]:
    """Names of the plans' tensors that have both a query and a key index."""
    from irc.graph.ir import is_tile

    found = []
    for graph, fused in ((compiled.forward_graph, compiled.forward), (compiled.backward_graph, compiled.backward)):
        for tensor in fused.plan.tensors if fused is not None else ():
            node = graph.by_name.get(tensor.name.removesuffix(".sum"))
            if node is not None and is_tile(node):
                found.append(tensor.name)
    return found


if __name__ == "__main__":
    main()
