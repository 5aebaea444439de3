"""How fast the tile kernels are beside PyTorch's attention: python tests/codegen/tile_bench.py [rounds]."""

from __future__ import annotations

import ctypes
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from attention_tiles import CAUSAL, CAUSAL_VERDICT, Setup, backward, forward
from compiled import _library as library

from irc.codegen.kernel import TileKernel
from irc.codegen.render import render

SHAPE = (1, 8, 2048, 64)
THREADS = 2


def _time(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def prepare(kernel: TileKernel, arrays: dict[str, np.ndarray], sizes: dict[str, int]) -> Callable[[], object]:
    source = render((kernel,), kernel.name, "")  # outside of what is timed
    function = getattr(library(source), kernel.name)
    given = [arrays[tensor.name] for tensor in kernel.tensors]
    steps = [(ctypes.c_int64 * a.ndim)(*[s // a.itemsize for s in a.strides]) for a in given]
    data = (ctypes.c_void_p * len(given))(*[a.ctypes.data for a in given])
    strides = (ctypes.c_void_p * len(given))(*[ctypes.addressof(s) for s in steps])
    values = (ctypes.c_int64 * len(kernel.sizes))(*[sizes[name] for name in kernel.sizes])
    keep = (steps, given)
    return lambda: (function(data, strides, values, ctypes.c_int(THREADS)), keep)


def _compare(label: str, ours: Callable[[], object], theirs: Callable[[], object], flops: float, rounds: int) -> None:
    pairs = [(_time(ours), _time(theirs)) for _ in range(rounds + 1)][1:]
    mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(other / mine for mine, other in pairs)
    print(f"{label:16} {flops / mine * 1e-9:6.0f} GFLOP/s  PyTorch {flops / other * 1e-9:6.0f}  ratio {ratio:.2f}")


def main(rounds: int) -> None:
    torch.set_num_threads(THREADS)
    batch, heads, length, width = SHAPE
    sizes = {"B": batch, "H": heads, "Sq": length, "Sk": length}
    rng = np.random.default_rng(0)
    for causal in (False, True):
        setup = Setup(support=CAUSAL, verdict=CAUSAL_VERDICT) if causal else Setup()
        names = ("q", "k", "v", "do", "o", "dq", "dk", "dv")
        arrays = {n: rng.standard_normal(SHAPE).astype(np.float32) for n in names}
        arrays |= {n: np.empty(SHAPE[:3], np.float32) for n in ("lse", "top", "delta")}
        q, k, v = (torch.from_numpy(arrays[n]).requires_grad_() for n in "qkv")
        do = torch.from_numpy(arrays["do"])
        flops = 4 * batch * heads * length * length * width * (0.5 if causal else 1)
        name = "causal" if causal else "full"

        attention = partial(torch.nn.functional.scaled_dot_product_attention, q, k, v, is_causal=causal)
        with torch.no_grad():
            _compare(f"forward {name}", prepare(forward(setup), arrays, sizes), attention, flops, rounds)
        out = attention()
        arrays["delta"][...] = (out.detach() * do).sum(-1).numpy()
        error = np.abs(arrays["o"] - out.detach().numpy()).max()

        gradients = partial(torch.autograd.grad, out, (q, k, v), do, retain_graph=True)
        _compare(f"backward {name}", prepare(backward(setup), arrays, sizes), gradients, 2.5 * flops, rounds)
        errors = [np.abs(arrays[f"d{n}"] - g.numpy()).max() for n, g in zip("qkv", gradients(), strict=True)]
        print(f"  differences {error:.1e}", *(f"{e:.1e}" for e in errors))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
