"""CUDA through nvcc, for every architecture: it compiles, uses no local memory, keeps within its registers, and
multiplies on tensor cores where it should."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import irc
from irc.codegen import cuda
from irc.codegen.kernel import Kernel, TileKernel
from irc.pipeline import back
from irc.runtime.cuda import nvcc
from tests.test_examples import EXAMPLES, FOLDER, arguments, fixed

SHARED = ("arch=compute_80,code=[sm_80,sm_100]",)  # one PTX for both; of sm_90 devices run sm_90a alone, which is below
APART = ("arch=compute_80,code=sm_80", "arch=compute_90a,code=sm_90a")


@dataclass(frozen=True)
class Compiled:
    """What ptxas says of a device function, and what its PTX has: instructions of tensor cores, of a warp and of a
    warpgroup, powers that are made while the latest product of a warpgroup goes on, stores of 16 bytes, and copies to
    shared memory that follow each other closely."""

    registers: int
    stack: int
    spills: int
    products: int
    wide_products: int
    powers_beside: int
    wide_stores: int
    close_copies: int


def compiled(source: str, targets: Sequence[str], folder: Path) -> dict[tuple[str, str], Compiled]:
    """The device functions of a source, by architecture and name."""
    text = folder / "program.cu"
    text.write_text(source, encoding="utf-8")
    command = [nvcc.find().path, *cuda.FLAGS, "-Xptxas", "-v", "-fatbin", "--keep", f"--keep-dir={folder}"]
    command += [word for target in targets for word in ("-gencode", target)]
    done = subprocess.run([*command, "-o", str(folder / "program.fatbin"), str(text)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    products = {}
    for ptx in folder.glob("*.ptx"):
        parts = re.split(r"\.entry (\w+)", ptx.read_text(encoding="utf-8"))
        for name, body in zip(parts[1::2], parts[2::2], strict=True):
            narrow, wide, stores = (body.count(text) for text in ("mma.sync", "wgmma.mma_async", "st.global.v4"))
            products[name] = narrow, wide, powers_beside(body), stores, close_copies(body)
    waits = re.findall(r".*\(C75\d\d\).*", done.stdout + done.stderr)
    assert not waits, "ptxas makes products of warpgroups wait"
    said = re.findall(
        r"entry function '(\w+)' for '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill.*?Used (\d+) registers",
        done.stdout + done.stderr,
        re.DOTALL,
    )
    assert {name for name, *_ in said} == set(products)
    return {
        (architecture, name): Compiled(int(registers), int(stack), int(spills), *products[name])
        for name, architecture, stack, spills, registers in said
    }


def powers_beside(body: str) -> int:
    """How many instructions that make powers can run after a wait for all products but the latest, before the next."""
    lines = body.splitlines()
    labels = {line.strip()[:-1]: n for n, line in enumerate(lines) if re.fullmatch(r"\$\w+:", line.strip())}
    ahead = [n + 1 for n, line in enumerate(lines) if "wgmma.wait_group.sync.aligned 1;" in line]
    seen: set[int] = set()
    while ahead:
        n = ahead.pop()
        if n in seen or n == len(lines) or "wgmma.wait_group" in lines[n]:
            continue
        seen.add(n)
        jump = re.search(r"^\s*(@!?%\w+)?\s*bra(?:\.uni)?\s+(\$\w+);", lines[n])
        ahead += [labels[jump[2]]] if jump else []
        ahead += [] if (jump and not jump[1]) or re.match(r"\s*(ret|exit);", lines[n]) else [n + 1]
    return sum("ex2.approx" in lines[n] for n in seen)


def close_copies(body: str) -> int:
    """How many copies begin at most so many lines after the one before as two addresses take: nothing is asked."""
    at = [n for n, line in enumerate(body.splitlines()) if "cp.async.cg" in line]
    return sum(then - now <= 30 for now, then in pairwise(at))


def launches(kernels: Sequence[Kernel], architecture: str = cuda.LEAST) -> dict[str, cuda.Launch]:
    return {launch.name: launch for kernel in kernels for launch in cuda.launches(kernel, architecture)}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_every_example_compiles_without_local_memory(path: Path, tmp_path: Path) -> None:
    program = irc.compile(path, target="emulator", sizes=fixed(path))
    program(**arguments(path, np.random.default_rng(0)))
    of = launches(program.kernels)
    found = compiled(program.source, SHARED, tmp_path)
    assert set(found) == {(architecture, name) for architecture in ("sm_80", "sm_100") for name in of}
    for (_, name), kernel in found.items():
        assert kernel.stack == 0 and kernel.spills == 0 and kernel.registers <= of[name].registers, name


def tiled(name: str, dtype: str, sizes: dict[str, int]) -> list[TileKernel]:
    """The kernels of tiles of a program as a device has them."""
    program = irc.compile(FOLDER / f"{name}.attn", dtype=dtype, sizes=sizes)
    made = back(program.graph, sizes, program.precision)
    return [kernel for run in made.runs for kernel in run.kernels if isinstance(kernel, TileKernel)]


BUDGETS = {
    ("causal", "bf16", 64): {"causal_lse_o_row": 168, "causal_backward_d_v_d_k_d_q_row": 168,
                             "causal_backward_d_v_d_k_d_q_column": 255},
    ("causal", "bf16", 128): {"causal_lse_o_row": 168, "causal_backward_d_v_d_k_d_q_row": 168,
                              "causal_backward_d_v_d_k_d_q_column": 255},
    ("softcap_window", "f16", 64): {"softcap_window_lse_o_row": 168, "softcap_window_lse_o_row_part": 255,
                                    "softcap_window_lse_o_row_part_merged": 128,
                                    "softcap_window_backward_d_v_part_d_k_part_d_q_row": 255,
                                    "softcap_window_backward_d_v_part_d_k_part_d_q_row_part": 255,
                                    "softcap_window_backward_d_v_part_d_k_part_d_q_row_part_merged": 128,
                                    "softcap_window_backward_d_v_part_d_k_part_d_q_column": 255},
    ("causal", "f32", 64): {"causal_lse_o_row": 168, "causal_backward_d_v_d_k_d_q_row": 255,
                            "causal_backward_d_v_d_k_d_q_column": 255},
}  # fmt: skip
"""Registers that a thread of each kernel may have, in heads of that width."""


@pytest.mark.parametrize("name, dtype, width", BUDGETS)
def test_tensor_cores_without_local_memory(name: str, dtype: str, width: int, tmp_path: Path) -> None:
    kernels = tiled(name, dtype, {"D": width})
    budgets = BUDGETS[name, dtype, width]
    assert {name: launch.registers for name, launch in launches(kernels).items()} == budgets
    source = cuda.render(kernels, name, "")
    made = compiled(source, APART, tmp_path)
    assert {architecture for architecture, _ in made} == {"sm_80", "sm_90a"}
    for (_, kernel), found in made.items():
        assert found.stack == 0 and found.spills == 0, kernel
        assert (found.products > 0) != kernel.endswith("_merged"), kernel
        assert (found.wide_stores > 0) != kernel.endswith("_merged"), kernel
        assert (found.close_copies > 0) != kernel.endswith("_merged"), kernel
        assert found.registers <= budgets[kernel], kernel


def test_parts_of_a_cache_in_pages_without_local_memory(tmp_path: Path) -> None:
    kernel = tiled("paged_cache", "bf16", {"D": 128, "R": 16})[0]
    made = compiled(cuda.render([kernel], "paged_cache", ""), APART, tmp_path)
    parts = {name: found for name, found in made.items() if "_part" in name[1]}
    assert len(parts) == 2 * len(APART)
    for name, found in parts.items():
        assert found.stack == 0 and found.spills == 0, name


WARPGROUPS = {
    ("causal", "bf16", 64): (3, True),
    ("causal", "bf16", 128): (3, True),
    ("causal", "f16", 128): (1, True),
    ("causal", "bf16", 96): (3, True),
    ("causal", "bf16", 256): (2, True),
    ("documents", "bf16", 64): (3, True),
    ("alibi", "bf16", 128): (3, True),
    ("softcap_window", "bf16", 64): (3, True),
    ("grouped_heads", "bf16", 128): (3, True),
    ("masks/draft_blocks", "bf16", 128): (3, True),
    ("masks/global_tokens", "bf16", 128): (3, True),
    ("masks/natten_curve", "bf16", 96): (3, True),
    ("masks/natten_curve", "bf16", 128): (3, True),
    ("masks/sliding_tiles", "bf16", 128): (3, True),
    ("masks/sliding_tiles_video", "bf16", 128): (3, False),
    ("masks/video_across", "bf16", 64): (3, True),
    ("variants/graph_distances", "bf16", 64): (3, True),
    ("variants/retention", "bf16", 64): (1, False),
}
"""How many kernels are on warpgroups, of three, and whether the first makes its weights while products go on."""


@pytest.mark.parametrize("name, dtype, width", WARPGROUPS)
def test_warpgroups_without_local_memory(name: str, dtype: str, width: int, tmp_path: Path) -> None:
    kernels = tiled(name, dtype, {"D": width})
    wide = {name: launch for name, launch in launches(kernels, "sm_90a").items() if launch.boxes}
    count, beside = WARPGROUPS[name, dtype, width]
    assert len(wide) == count
    source = cuda.render(kernels, name, "", "sm_90a")
    for launch in wide.values():  # the other form is of the tests above
        assert launch.otherwise and launch.otherwise.text in source
        source = source.replace(launch.otherwise.text, "")
    made = compiled(source, APART[1:], tmp_path)
    for kernel, launch in wide.items():
        found = made["sm_90a", kernel]
        assert found.wide_products > 0 and found.products == 0 and found.stack == 0 and found.spills == 0, kernel
        assert found.registers == launch.registers, kernel  # of fewer, a warpgroup would wait for its own for ever
        if "lse" in kernel:
            assert (found.powers_beside >= 64) == beside, kernel
        elif "of_first" in launch.text:  # weights, while the other dots are summed
            assert found.powers_beside >= 32, kernel
        assert found.wide_stores >= 2 * -(-width // 32), kernel


def test_random_numbers_for_pairs_spill_nothing(tmp_path: Path) -> None:
    """In either form of sm_90a."""
    kernels = tiled("variants/dropout", "bf16", {"D": 128})
    found = compiled(cuda.render(kernels, "dropout", "", "sm_90a"), APART[1:], tmp_path)
    assert sum(kernel.wide_products > 0 for kernel in found.values()) == len(found) / 2 == 6
    for (_, name), kernel in found.items():
        assert kernel.stack == 0 and kernel.spills == 0, name
    assert found["sm_90a", "dropout_o_row_warpgroups"].powers_beside >= 32


OTHERS = {
    "variants/blocks": {"N": 4, "M": 9},
    "variants/latent_expanded": {"P": 16, "R": 16, "V": 16},
    "variants/disentangled": {"R": 300},  # more than whose products come first
    "variants/native_sparse": {"L": 64},
    "variants/relative_keys": {"R": 64},
    "variants/relative_values": {"R": 300},
    "variants/talking_heads": {"H": 8},
}


@pytest.mark.parametrize(
    "name, dtype, width, at, target",
    [
        ("variants/packed_alibi", "bf16", 128, 0, APART[1]),
        ("causal", "f16", 96, 1, APART[0]),
        ("variants/dropout", "bf16", 80, 0, APART[0]),
        ("variants/dropout", "bf16", 80, 1, APART[0]),
        ("variants/disentangled", "f32", 64, 0, APART[0]),
        ("variants/relative_keys", "bf16", 128, 1, APART[1]),
        ("variants/scaled_rows_columns", "bf16", 64, 1, APART[1]),
        ("variants/blocks", "bf16", 128, 0, APART[0]),
        ("variants/swin", "f16", 64, 2, APART[1]),
        ("variants/dropout", "f32", 128, 0, APART[0]),
        ("variants/differential_block", "f32", 128, 0, APART[0]),
        ("variants/latent_expanded", "f32", 128, 1, APART[0]),
        ("variants/relu_squared", "f16", 128, 0, APART[0]),
        ("variants/scaled_rows_columns", "f16", 128, 1, APART[0]),
        ("masks/block_diffusion", "f32", 64, 0, APART[0]),
        ("masks/shared_prefixes", "f32", 64, 0, APART[0]),
        ("masks/shared_prefixes", "f32", 128, 1, APART[1]),
        ("masks/sink_window", "f32", 64, 0, APART[0]),
        ("masks/sliding_tiles", "f32", 64, 0, APART[1]),
        ("masks/sliding_tiles_video", "f32", 64, 0, APART[0]),
        ("masks/topk_blocks", "f32", 64, 1, APART[0]),
        ("variants/native_sparse", "f32", 64, 1, APART[0]),
        ("variants/native_sparse", "f32", 64, 5, APART[0]),
        *(("variants/transformer_xl", dtype, width, 0, APART[0]) for dtype in ("bf16", "f32") for width in (64, 128)),
        *(("variants/relative_values", dtype, width, 0, APART[0]) for dtype in ("bf16", "f32") for width in (64, 128)),
        ("variants/disentangled", "bf16", 128, 0, APART[0]),
        ("variants/relative_values", "f16", 64, 0, APART[0]),
        ("variants/talking_heads", "bf16", 256, 1, APART[0]),
        ("variants/additive", "bf16", 64, -1, APART[1]),
        ("variants/fire", "f32", 64, -1, APART[0]),
    ],
)
def test_no_form_uses_local_memory(name: str, dtype: str, width: int, at: int, target: str, tmp_path: Path) -> None:
    """Of kernels for which registers are fewest: distances of 64 bits, products of any size in heads of 96, random
    numbers, sums for each pair, values of 256 numbers, three gradients, products of f16 as tf32, the gradient of a
    table, masks that keep much beside floats, one that gathers, one tile of columns, panels of distances, or such as
    are read where they lie, and sums into elements."""
    kernel = tiled(name, dtype, {"D": width} | OTHERS.get(name, {}))[at]
    source = cuda.render([kernel], "program", "", target.rpartition("=")[2])
    for (_, launch), found in compiled(source, (target,), tmp_path).items():
        assert found.stack == 0 and found.spills == 0, launch
